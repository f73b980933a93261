"""Show what a model file contains: shape, size, vocabulary, training record, losses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.ui.terminal import printable, write
from knock.models import DEFAULT, locate, shipped

if TYPE_CHECKING:
    from knock.files.checkpoint import Checkpoint

EXAMPLES = """examples:
  knock info
  knock info my.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", nargs="?", default=DEFAULT, metavar="MODEL",
                        help=f"a shipped model, a file or a folder (default: {DEFAULT})")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print one fact per line."""
    from knock.files.checkpoint import read_checkpoint

    path = locate(options.model)
    for label, fact in _facts(path, read_checkpoint(path)):
        write(f"{label:<12} {printable(fact)}\n")
    return 0


def _facts(path: Path, checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    weights, vocab = checkpoint.weights, checkpoint.vocab
    config = weights.config
    yield "model", path.stem + (" (ships with knock)" if path in shipped().values() else "")
    yield "file", f"{path}, {path.stat().st_size:,} bytes"
    yield "digest", checkpoint.digest
    yield "heads", f"{config.head_type}, {config.position} positions"
    sizes = " ".join(f"{name}={getattr(config, name)}" for name in ("T", "n_emb", "nodes", "n_blocks", "n_heads"))
    yield "shape", sizes
    yield "parameters", f"{weights.n_parameters:,}"
    yield "sees back", f"{config.receptive_field:,} characters"
    if vocab is None:
        yield "vocabulary", f"{config.vocab_size:,} tokens without characters"
    else:
        yield "vocabulary", vocab.describe() + (", upper case is read as lower case" if vocab.lowercase else "")
    if not checkpoint.training:
        yield "training", "no record in the file"
        return
    try:
        facts = list(_training_facts(checkpoint.training))
    except (KeyError, TypeError, ValueError, AttributeError):  # not written by knock: show it as it is
        facts = [("training", json.dumps(checkpoint.training))]
    yield from facts


def _training_facts(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    corpus, recipe = training["corpus"], training["recipe"]
    yield "trained on", f"{corpus['name']}, {corpus['characters']:,} characters"
    with_muon = f"Muon at {recipe['matrix_learning_rate']:g}, " if recipe["optimizer"] == "muon" else ""
    batch = f"{recipe['batch_chars']:,} characters per step in sequences of {recipe['sequence_length']:,}"
    yield "recipe", f"{with_muon}AdamW at {recipe['learning_rate']:g}, {batch}, seed {recipe['seed']}"
    yield "steps", f"{training['steps_done']:,} of {recipe['steps']:,}, best at {training['best_step']:,}"
    yield "took", f"{training['seconds']:,} s"
    yield "validation", f"the last {corpus['validation_characters']:,} characters"
    for name, loss in training.get("evaluation", {}).items():
        every = corpus["validation_characters"] - 1
        count = loss.get("characters", every)
        part = f", on the first {count:,} of them" if count < every else ""
        fact = f"{loss['nats_per_char']:.4f} nats/char, {loss['bits_per_char']:.4f} bits{part}"
        yield f"- {name.replace('_', ' ')}", fact
