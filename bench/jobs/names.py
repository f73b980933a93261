"""5,000 new names: how well the model predicts names that it never saw, and the time from the command to the file."""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.extras import needed
from bench.jobs.command import knock, table
from knock.files.checkpoint import read_checkpoint
from knock.files.corpus import TokenizedText, recorded_settings
from knock.models import locate
from knock_training.evaluate import evaluate
from knock_training.yardsticks import ORDER, ngram_bits

with needed(__name__):
    import pyppmd

NAMES = Path(__file__).parents[2] / "training" / "data" / "names.txt"
COUNT = 5000
ROUNDS = 5
PPMD_ORDER = 5
_MEMORY = 2**26  # bytes that PPMd may use, more than it needs


def report(model: str, corpus: Path = NAMES, count: int = COUNT) -> str:
    """Measure a model of items and return the report, in Markdown.

    Args:
        model: name or path of the model.
        corpus: the file that it was trained on, with one item per line.
        count: number of new items.
    """
    checkpoint = read_checkpoint(locate(model))
    text = TokenizedText.read(corpus, **recorded_settings(checkpoint.training), vocab=checkpoint.vocab)
    boundary = text.vocab.boundary
    loss = evaluate(checkpoint.weights, text.held_out, boundary=boundary)["items"].bits
    size = text.vocab.vocab_size
    bits = {
        f"`{model}`, {checkpoint.weights.n_parameters:,} parameters": loss,
        f"order-{ORDER} n-gram, interpolated": ngram_bits(text.train, text.held_out, size, boundary=boundary),
        f"PPMd, order {PPMD_ORDER}": ppmd_bits(items_of(text.train, text), items_of(text.held_out, text)),
    }
    seconds, summary = time_of(model, corpus, count)
    losses = table(["held-out names", "bits per character"], [[name, f"{each:.3f}"] for name, each in bits.items()])
    return (
        f"{losses}\n\n{text.train_items:,} names were training data, {text.held_out_items:,} were held out; the end of "
        f"a name counts as a character.\n\n`knock sample --model {model} -n {count} --unique --novel {corpus.name} "
        f"--out new.txt` took {seconds:.2f} s from start to exit ({summary})."
    )


def time_of(model: str, corpus: Path, count: int) -> tuple[float, str]:
    """Return the median time of the command that writes new items, and its summary; check what it wrote.

    Raises:
        AssertionError: if an item is not new, or occurs twice.
    """
    known = set(corpus.read_text(encoding="utf-8").splitlines())
    times, summary = [], ""
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(ROUNDS):
            out = Path(folder) / f"{seed}.txt"
            done = knock("sample", "--model", model, "-n", str(count), "--unique", "--novel", corpus, "--out", out,
                         "--seed", str(seed))  # fmt: skip
            written = out.read_text(encoding="utf-8").splitlines()
            assert len(set(written)) == len(written) == count
            assert not known.intersection(written)
            times.append(done.seconds)
            summary = done.summary.removeprefix("knock: ")
    return statistics.median(times), summary


def items_of(tokens: Sequence[int] | np.ndarray, text: TokenizedText) -> list[str]:
    """Return the items of a stream of tokens."""
    boundaries = np.flatnonzero(np.asarray(tokens) == text.vocab.boundary)
    pieces = np.split(np.asarray(tokens), boundaries)[1:-1]
    return [text.vocab.decode(piece[1:].astype(np.int32)) for piece in pieces]


def ppmd_bits(train: Sequence[str], held_out: Sequence[str], order: int = PPMD_ORDER) -> float:
    """Return the bits per character that PPMd (variant H) needs for lines after others, their ends included.

    The lines are shuffled: in a sorted list, each would help to predict the next, also in what is held out.
    """

    def compressed(text: str) -> int:
        encoder = pyppmd.Ppmd7Encoder(order, _MEMORY)
        return len(encoder.encode(text.encode()) + encoder.flush())

    before, after = ("".join(f"{line}\n" for line in random.Random(0).sample(part, len(part)))
                     for part in (list(train), list(held_out)))  # fmt: skip
    return 8 * (compressed(before + after) - compressed(before)) / len(after)
