"""Train the shipped models and write their model cards.

    python training/shipped.py tinyshakespeare.txt teacher-near teacher-far teacher-hybrid --into teachers
    python training/shipped.py tinyshakespeare.txt shakespeare-nano --teachers teachers --into knock/models
    python training/shipped.py training/data/names.txt names --into knock/models

Teachers do not ship: others learn from them. Training uses one CPU thread. The same machine and version of PyTorch
reproduce a model file exactly, but for teachers whose card says otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from knock.choices import StoredType
from knock.config import ModelConfig
from knock.errors import TrainingError
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.files.items import Items
from knock.files.split import Split
from knock.models import locate
from knock.words import listed
from knock_training.data import Corpus
from knock_training.evaluate import as_record, evaluate
from knock_training.progress import Progress
from knock_training.recipe import Recipe
from knock_training.sizes import SIZES
from knock_training.state import state_path
from knock_training.teaching import Teachers, teach
from knock_training.trainer import train


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
    """

    what: str
    shape: dict[str, Any]
    recipe: dict[str, Any]
    stored: StoredType = "float32"
    data: Data = SHAKESPEARE
    teachers: tuple[str, ...] = ()


LONG = {"steps": 12_000, "matrix_learning_rate": 0.04, "eval_interval": 500}
TEACHER = {"dropout": 0.1, "matrix_learning_rate": 0.02, "eval_interval": 500, "precision": "bfloat16"}
TEACHERS = {
    "teacher-hybrid": Shipped(
        "a teacher with four hybrid blocks",
        {"T": 64, "n_emb": 128, "nodes": 512, "n_blocks": 4, "n_heads": 4},
        {**TEACHER, "steps": 6000, "precision": "float32"},
    ),
    "teacher-near": Shipped(
        "a teacher with short windows",
        {
            "T": (2, 64, 64, 64, 64),
            "head_type": ("reweight", "hybrid", "hybrid", "hybrid", "hybrid"),
            "n_emb": 128,
            "nodes": 512,
            "n_blocks": 5,
            "n_heads": 4,
        },
        {**TEACHER, "steps": 4000, "seed": 1},
    ),
    "teacher-far": Shipped(
        "a teacher with a content block that sees 512 characters",
        dict(SIZES["small"].shape),
        {**TEACHER, "steps": 4000, "seed": 2, "windows": 2},
    ),
}
MODELS = {
    "shakespeare-nano": Shipped(
        "the fastest model, small enough for a web page",
        dict(SIZES["nano"].shape),
        {**LONG, "learning_rate": 0.01, "precision": "bfloat16", "distillation": 0.75},
        teachers=(*TEACHERS, "shakespeare-small"),
    ),
    "shakespeare-small": Shipped(
        "the default model, with the lowest loss of all shipped models",
        dict(SIZES["small"].shape),
        {
            **SIZES["small"].recipe,
            "steps": 5000,
            "eval_interval": 500,
            "precision": "bfloat16",
            "distillation": 0.75,
        },
        "bfloat16",
        teachers=("teacher-hybrid", "teacher-near"),
    ),
    "shakespeare-hybrid": Shipped(
        "the example shape, which the benchmarks use",
        {"T": 32, "n_emb": 64, "nodes": 64, "n_blocks": 3, "n_heads": 4},
        {**LONG, "precision": "bfloat16", "distillation": 0.75},
        teachers=(*TEACHERS, "shakespeare-small"),
    ),
    "shakespeare-classic": Shipped(
        "the example shape with absolute positions and a sliding window",
        {"T": 32, "n_emb": 64, "nodes": 64, "n_blocks": 3, "n_heads": 4, "position": "absolute"},
        LONG,
    ),
    "names": Shipped(
        "small and fast, for many new ones",
        {"head_type": "reweight", "T": 16, "n_emb": 64, "nodes": 112, "n_blocks": 4, "n_heads": 2},
        {"steps": 4000, "learning_rate": 0.01, "dropout": 0.15},
        "bfloat16",
        NAMES,
    ),
}
EVERY = {**TEACHERS, **MODELS}

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
TAUGHT = {
    "teachers": "{share:.0%} of the loss compare with what {names} expect on average; `training/shipped.py` makes them"
}
TEXT = """
{measured}

Trained with PyTorch {torch} on one CPU thread in about {minutes:.0f} minutes:

    python training/shipped.py {path} {name}{options}

{closing}
"""


def card(name: str, path: Path) -> str:
    """Return the model card, in Markdown, for a model file."""
    checkpoint, model = read_checkpoint(path), EVERY[name]
    record, config, vocab = checkpoint.training, checkpoint.weights.config, checkpoint.vocab
    assert vocab is not None
    of_data = {
        field: text.format(corpus=record["corpus"], vocab=len(vocab.characters))
        for field, text in model.data._asdict().items()
        if isinstance(text, str)
    }
    teachers = [f"`{each['name']}`" for each in record.get("teachers", [])]
    rows = {**ROWS, **(TAUGHT if teachers else {}), **model.data.losses, "digest": "`{digest}`"}
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
        digest=checkpoint.digest,
        share=record["recipe"].get("distillation", 0),
        names=listed(teachers) if teachers else "",
        options=" --teachers FOLDER" * bool(teachers),
        torch=record["torch"].partition("+")[0],
        minutes=record["seconds"] / 60,
    )


def taught(names: Sequence[str], corpus: Corpus, folder: Path) -> Teachers | None:
    """Return what teachers, in a folder or shipped, expect of the training data; None without any."""
    files = [
        (name, read_checkpoint(folder / f"{name}.safetensors" if name in TEACHERS else locate(name))) for name in names
    ]
    return teach(files, corpus.train, corpus.vocab, torch.device("cpu")) if files else None


def make(name: str, path_of_corpus: str, folder: Path, teachers: Path) -> None:
    """Train a model, resuming an interrupted run, and write the model file and its card.

    Args:
        name: name of the model.
        path_of_corpus: what it is trained on.
        folder: where to write it.
        teachers: folder with its teachers.
    """
    model, recipe = EVERY[name], Recipe(**EVERY[name].recipe)
    corpus = Corpus.read(path_of_corpus, items=model.data.items, split=model.data.split(recipe.seed))
    path, state = folder / f"{name}.safetensors", state_path(folder / f"{name}.safetensors")

    def report(progress: Progress) -> None:
        if progress.validation_loss is not None:
            losses = f"loss {progress.loss:.4f}  validation {progress.validation_loss:.4f}"
            print(f"{name} {progress.step:,}/{progress.steps:,}  {losses}  {progress.seconds:.0f} s", flush=True)

    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **model.shape)
    result = train(
        config, corpus, recipe, state=state, resume=state.exists(), report=report,
        teachers=taught(model.teachers, corpus, teachers),
    )  # fmt: skip
    if result.ended != "done":
        raise TrainingError(f"the run of {name} ended as {result.ended!r} instead of 'done'; change its recipe")
    # Evaluate the weights read back from the file, because they may have been rounded to bfloat16.
    write_checkpoint(path, result.weights, corpus.vocab, result.record, stored=model.stored)
    losses = as_record(evaluate(read_checkpoint(path).weights, corpus.validation, boundary=corpus.vocab.boundary))
    write_checkpoint(path, result.weights, corpus.vocab, {**result.record, "evaluation": losses}, stored=model.stored)
    path.with_suffix(".md").write_text(card(name, path), encoding="utf-8")
    state.unlink()
    print(path, losses)


def main() -> None:
    """Train the models named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", help="path of the text that the models are trained on, as in their cards")
    parser.add_argument("names", nargs="+", choices=EVERY, help="models to train")
    parser.add_argument("--into", type=Path, default=Path(), help="folder to write to (default: the current one)")
    parser.add_argument(
        "--teachers", type=Path, default=Path(), help="folder with the teachers (default: the current one)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        make(name, options.corpus, options.into, options.teachers)


if __name__ == "__main__":
    sys.exit(main())
