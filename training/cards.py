"""Model cards: what a shipped model is, how it was made, and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from knock.choices import StoredType
from knock.files.checkpoint import read_checkpoint
from knock.files.items import Items
from knock.files.split import Split
from knock.words import listed


class Data(NamedTuple):
    """What shipped models are trained on. All fields but `items` are templates for a model's card.

    Attributes:
        models: what its models are.
        data: the corpus and its split.
        licence: licence of the corpus.
        losses: rows with the losses of a model.
        measured: how the losses are defined.
        path: the corpus, as the command takes it.
        closing: what to expect of a model.
        items: what an item is; None for plain text.
    """

    models: str
    data: str
    licence: str
    losses: dict[str, str]
    measured: str
    path: str
    closing: str
    items: Items | None = None

    def split(self, seed: int) -> Split:
        """What is held out."""
        return Split(how="end") if self.items is None else Split(how="items", seed=seed)


SHAKESPEARE = Data(
    models="a character-level model of Shakespeare's plays",
    data="Tiny Shakespeare, {corpus[characters]:,} characters, {vocab} distinct; the first 90% are training data, the "
    "last {corpus[validation_characters]:,} characters validation data",
    licence="public domain",
    losses={
        "loss, block 256": "{block_256[nats_per_char]:.4f} nats/char ({block_256[bits_per_char]:.4f} bits)",
        "loss, stream": "{stream[nats_per_char]:.4f} nats/char ({stream[bits_per_char]:.4f} bits)",
    },
    measured="Both losses are means over the whole validation split, as `knock/generation/evaluation.py` defines them. "
    "They were\nmeasured with the weights as stored in the file.",
    path="tinyshakespeare.txt",
    closing="The model writes lines that look like Shakespeare's but carry no meaning. It was trained on these plays "
    "only and knows\nno characters other than their {vocab}.",
)
NAMES = Data(
    models="a character-level model of given names, each an item",
    data="given names that at least 200 people in the United States were given from 1880 to 2017, by the statistics of "
    "the Social Security Administration: {corpus[item_count]:,} items, {corpus[characters]:,} characters with their "
    "ends, {vocab} distinct; {corpus[validation_items]:,} items, chosen by a hash of their text, are validation data",
    licence="public domain, as a work of the United States government",
    losses={
        "loss, items": "{items[nats_per_char]:.4f} nats/char ({items[bits_per_char]:.4f} bits), "
        "{items[nats_per_item]:.2f} nats/item"
    },
    measured="The loss is the mean over all validation items, their ends included, as "
    "`knock/generation/evaluation.py` defines\nit. It was measured with the weights as stored in the file.",
    path="training/data/names.txt",
    closing="The model writes names that could be given names. Some are in the list that it was trained on;\n"
    "`--novel training/data/names.txt` leaves those out. It knows the {vocab} letters of English and nothing else.",
    items=Items(kind="lines"),
)


class Shipped(NamedTuple):
    """A shipped model.

    Attributes:
        what: purpose of the model, for its card.
        shape: fields of the config.
        recipe: fields of the recipe that differ from the defaults.
        stored: number format of the model file.
        data: what it is trained on.
        teachers: models that it learns from, besides the data.
        written: share of the training sequences that are drawn from text that the teachers wrote.
    """

    what: str
    shape: dict[str, Any]
    recipe: dict[str, Any]
    stored: StoredType = "float32"
    data: Data = SHAKESPEARE
    teachers: tuple[str, ...] = ()
    written: float = 0.0


ROWS = {
    "description": "{models}: {what}",
    "shape": "{head_type} heads, {position} positions, T {T}, n_emb {n_emb}, nodes {nodes}, n_blocks {n_blocks}, "
    "n_heads {n_heads}",
    "size": "{size:,} parameters, stored as {stored}",
    "receptive field": "{back} characters",
    "data": "{data}",
    "licence of the data": "{licence}",
    "recipe": "{steps:,} steps of {batch_chars:,} characters in sequences of {sequence_length}; Muon with learning "
    "rate {matrix_learning_rate:g} for the matrices in blocks, AdamW with {learning_rate:g} for all other parameters; "
    "{warmup} steps of warm-up, then cosine decay to 0; weight decay {weight_decay:g}, dropout {dropout:g}, gradient "
    "norm clipped to {grad_clip:g}; products in {precision}; weights averaged with decay {ema:g}, best at step "
    "{best_step:,}",
}
COPIES = {
    "copying": "{copying[share]:.2%} of the runs of {copying[run]} characters in {copying[characters]:,} generated "
    "ones stand in the training data ({copying[share_of_held_out]:.2%} of those in the validation data)"
}
TAUGHT = {
    "teachers": "{share:.0%} of the loss compare with what {names} expect on average; `training/shipped.py` makes them"
}
WRITTEN = {
    "written text": "{written[share]:.0%} of the training sequences are from {written[characters]:,} characters that "
    "the teachers wrote (`training/writing.py`)"
}
TEXT = """
{measured}

Trained with PyTorch {torch} on {place} in about {minutes:.0f} minutes:

    python -m training.shipped {path} {name}{options}

{closing}
"""


def card(name: str, path: Path, model: Shipped) -> str:
    """Return the model card, in Markdown, for a model file.

    Args:
        name: name of the model.
        path: the file.
        model: how it was made.
    """
    checkpoint = read_checkpoint(path)
    record, config, vocab = checkpoint.training, checkpoint.weights.config, checkpoint.vocab
    assert vocab is not None
    of_data = {
        field: text.format(corpus=record["corpus"], vocab=len(vocab.characters))
        for field, text in model.data._asdict().items()
        if isinstance(text, str)
    }
    teachers = [f"`{each['name']}`" for each in record.get("teachers", [])]
    device = record.get("device", "cpu")
    rows = {**ROWS, **(TAUGHT if teachers else {}), **(WRITTEN if "written" in record else {}), **model.data.losses}
    rows |= {**(COPIES if "copying" in record else {}), "digest": "`{digest}`"}
    lines = ["# {name}", "", "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items()), TEXT]
    return "\n".join(lines).format(
        name=name,
        what=model.what,
        **of_data,
        **config.to_dict(),
        size=checkpoint.weights.n_parameters,
        stored=model.stored,
        back=config.receptive_field,
        **record["recipe"],
        **record["evaluation"],
        best_step=record["best_step"],
        copying=record.get("copying"),
        digest=checkpoint.digest,
        share=record["recipe"].get("distillation", 0),
        names=listed(teachers) if teachers else "",
        written=record.get("written"),
        options=" --teachers FOLDER" * bool(teachers) + " --device cuda" * (device != "cpu"),
        place="one CPU thread" if device == "cpu" else f"a GPU ({device})",
        torch=record["torch"].partition("+")[0],
        minutes=record["seconds"] / 60,
    )
