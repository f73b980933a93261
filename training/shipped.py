"""Train the shipped models and write their model cards.

    python training/shipped.py tinyshakespeare.txt shakespeare-nano --into knock/models

Training uses one CPU thread. The same machine and version of PyTorch reproduce a model file exactly.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from knock.choices import StoredType
from knock.config import ModelConfig
from knock.errors import TrainingError
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock_training.data import Corpus
from knock_training.evaluate import as_record, evaluate
from knock_training.progress import Progress
from knock_training.recipe import Recipe
from knock_training.sizes import SIZES
from knock_training.state import state_path
from knock_training.trainer import train


class Shipped(NamedTuple):
    """A shipped model.

    Attributes:
        what: purpose of the model, for its card.
        shape: fields of the config.
        recipe: fields of the recipe that differ from the defaults.
        stored: number format of the model file.
    """

    what: str
    shape: dict[str, Any]
    recipe: dict[str, Any]
    stored: StoredType = "float32"


LONG = {"steps": 12_000, "matrix_learning_rate": 0.04, "eval_interval": 500}
MODELS = {
    "shakespeare-nano": Shipped(
        "the best model of its size, almost as fast as the example shape",
        dict(SIZES["nano"].shape),
        {**LONG, "learning_rate": 0.01},
    ),
    "shakespeare-small": Shipped(
        "the default model, with the lowest loss of all shipped models",
        dict(SIZES["small"].shape),
        {**SIZES["small"].recipe, "eval_interval": 500},
        "bfloat16",
    ),
    "shakespeare-hybrid": Shipped(
        "the example shape, which the benchmarks use",
        {"T": 32, "n_emb": 64, "nodes": 64, "n_blocks": 3, "n_heads": 4},
        LONG,
    ),
    "shakespeare-classic": Shipped(
        "the example shape with absolute positions and a sliding window",
        {"T": 32, "n_emb": 64, "nodes": 64, "n_blocks": 3, "n_heads": 4, "position": "absolute"},
        LONG,
    ),
}

ROWS = {
    "description": "a character-level model of Shakespeare's plays: {what}",
    "shape": "{head_type} heads, {position} positions, T {T}, n_emb {n_emb}, nodes {nodes}, n_blocks {n_blocks}, "
    "n_heads {n_heads}",
    "size": "{size:,} parameters, stored as {stored}",
    "receptive field": "{back} characters",
    "data": "Tiny Shakespeare, {characters:,} characters, {vocab} distinct; the first 90% are training data, the last "
    "{validation:,} characters validation data",
    "licence of the data": "public domain",
    "recipe": "{steps:,} steps of {batch_chars:,} characters in sequences of {sequence_length}; Muon with learning "
    "rate {matrix_learning_rate:g} for the matrices in blocks, AdamW with {learning_rate:g} for all other parameters; "
    "{warmup} steps of warm-up, then cosine decay to 0; weight decay {weight_decay:g}, dropout {dropout:g}, gradient "
    "norm clipped to {grad_clip:g}; weights averaged with decay {ema:g}, best at step {best_step:,}",
    "loss, block 256": "{block:.4f} nats/char ({block_bits:.4f} bits)",
    "loss, stream": "{stream:.4f} nats/char ({stream_bits:.4f} bits)",
    "digest": "`{digest}`",
}
TEXT = """
Both losses are means over the whole validation split, as `knock/generation/evaluation.py` defines them. They were
measured with the weights as stored in the file.

Trained with PyTorch {torch} on one CPU thread in about {minutes:.0f} minutes:

    python training/shipped.py tinyshakespeare.txt {name}

The model writes lines that look like Shakespeare's but carry no meaning. It was trained on these plays only and knows
no characters other than their {vocab}.
"""
CARD = "\n".join(["# {name}", "", "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in ROWS.items()), TEXT])


def card(name: str, path: Path) -> str:
    """Return the model card, in Markdown, for a model file."""
    checkpoint = read_checkpoint(path)
    record, config = checkpoint.training, checkpoint.weights.config
    losses, corpus = record["evaluation"], record["corpus"]
    return CARD.format(
        name=name,
        what=MODELS[name].what,
        **config.to_dict(),
        size=checkpoint.weights.n_parameters,
        stored=MODELS[name].stored,
        back=config.receptive_field,
        characters=corpus["characters"],
        validation=corpus["validation_characters"],
        vocab=config.vocab_size,
        **record["recipe"],
        best_step=record["best_step"],
        block=losses["block_256"]["nats_per_char"],
        block_bits=losses["block_256"]["bits_per_char"],
        stream=losses["stream"]["nats_per_char"],
        stream_bits=losses["stream"]["bits_per_char"],
        digest=checkpoint.digest,
        torch=record["torch"].partition("+")[0],
        minutes=record["seconds"] / 60,
    )


def make(name: str, corpus: Corpus, folder: Path) -> None:
    """Train a model, resuming an interrupted run, and write the model file and its card."""
    model = MODELS[name]
    path, state = folder / f"{name}.safetensors", state_path(folder / f"{name}.safetensors")

    def report(progress: Progress) -> None:
        if progress.validation_loss is not None:
            losses = f"loss {progress.loss:.4f}  validation {progress.validation_loss:.4f}"
            print(f"{name} {progress.step:,}/{progress.steps:,}  {losses}  {progress.seconds:.0f} s", flush=True)

    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **model.shape)
    result = train(config, corpus, Recipe(**model.recipe), state=state, resume=state.exists(), report=report)
    if result.ended != "done":
        raise TrainingError(f"the run of {name} ended as {result.ended!r} instead of 'done'; change its recipe")
    # Evaluate the weights read back from the file, because they may have been rounded to bfloat16.
    write_checkpoint(path, result.weights, corpus.vocab, result.record, stored=model.stored)
    losses = as_record(evaluate(read_checkpoint(path).weights, corpus.validation))
    write_checkpoint(path, result.weights, corpus.vocab, {**result.record, "evaluation": losses}, stored=model.stored)
    path.with_suffix(".md").write_text(card(name, path), encoding="utf-8")
    state.unlink()
    print(path, losses)


def main() -> None:
    """Train the models named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", help="path of tinyshakespeare.txt")
    parser.add_argument("names", nargs="+", choices=MODELS, help="models to train")
    parser.add_argument("--into", type=Path, default=Path(), help="folder to write to (default: the current one)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = Corpus.read(options.corpus)
    for name in options.names:
        make(name, corpus, options.into)


if __name__ == "__main__":
    sys.exit(main())
