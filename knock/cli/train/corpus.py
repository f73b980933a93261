"""The corpus of `knock train`: how it is read, and what is printed about it."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from knock.cli.ui.terminal import printable
from knock.errors import KnockError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from knock.config import ModelConfig
    from knock.vocab import Vocab
    from knock_training.data import Corpus

_TINY = 20_000  # characters
_MIN_COUNTS = (2, 3, 5, 10, 20, 50, 100)  # those that are recommended
_MAX_LOST = 0.01  # share of the text that a recommended minimum count leaves out,
_MAX_LOST_BY_TWO = 0.25  # unless it is 2
_MANY = 500  # characters worth leaving out
_DONE = {"skip": "skipped", "replace": "replaced"}


def check_options(options: argparse.Namespace) -> None:
    """Report options about characters that exclude each other, and set the default of `--unknown`."""
    leaves_out = options.min_count is not None and options.min_count > 1
    if options.min_count is not None and options.vocab_from is not None:
        options.error("--vocab-from keeps the model's vocabulary; drop --min-count")
    if leaves_out and options.unknown == "error":
        options.error("--min-count leaves out characters, so --unknown must be skip or replace")
    if options.unknown is None:
        options.unknown = "skip" if leaves_out else "error"


def read_corpus(options: argparse.Namespace, vocab: Vocab | None) -> Corpus:
    """Read the corpus: files, or standard input by way of a temporary file.

    Args:
        options: the command's options.
        vocab: vocabulary to encode with; built from the corpus if None.
    """
    from knock.files.corpus import TokenizedText
    from knock_training.data import Corpus

    settings = {
        "vocab": vocab,
        "lowercase": options.lowercase,
        "unknown": options.unknown,
        "min_count": options.min_count or 1,
    }
    if options.corpus != ["-"]:
        return Corpus.read(options.corpus, **settings)
    if sys.stdin is None:
        raise KnockError("standard input is closed; pass a file as CORPUS")
    return Corpus.of(TokenizedText.read_stream(sys.stdin.buffer, "standard input", **settings))


def facts(corpus: Corpus, length: int) -> Iterator[str]:
    """Yield the lines that describe a corpus.

    Args:
        corpus: the corpus.
        length: length of a training sequence.
    """
    distinct = corpus.vocab.vocab_size
    yield f"{printable(corpus.name)}: {len(corpus):,} characters, {distinct:,} distinct, in sequences of {length}"
    if corpus.marks:
        yield f"dropped byte-order marks (U+FEFF) inside the text: {corpus.marks:,}"
    if corpus.unknown_count:
        share = corpus.unknown_count / (len(corpus) + (corpus.unknown_count if corpus.unknown == "skip" else 0))
        what = f"unknown characters: {corpus.unknown_count:,}"
        if corpus.min_count > 1:
            rare, all_ = len(corpus.occurrences) - distinct, len(corpus.occurrences)
            what = f"characters that occur fewer than {corpus.min_count:,} times: {rare:,} of {all_:,} distinct ones, "
            what += f"{corpus.unknown_count:,} in all"
        yield f"{_DONE[corpus.unknown]} {what}, {share:.2%} of the text"
    if len(corpus) < _TINY:
        yield f"the corpus is small, so the model may overfit; {5 * _TINY:,} characters or more work better"


def advice(corpus: Corpus, config: ModelConfig) -> str:
    """Return the notice that recommends `--min-count`, or "" if the vocabulary is not too large for the model.

    Args:
        corpus: the corpus, whose vocabulary was built from it.
        config: the model's shape.
    """
    from knock.weights import shapes

    parameters = sum(math.prod(shape) for shape in shapes(config).values())
    share = 2 * config.vocab_size * config.n_emb / parameters  # embedding and output
    min_count = recommended_min_count(corpus.occurrences)
    if share < 0.5 or min_count is None or corpus.min_count > 1:
        return ""
    rare = corpus.occurrences[corpus.occurrences < min_count]
    return (
        f"{share:.0%} of the parameters belong to the vocabulary, and {len(rare):,} of its {config.vocab_size:,} "
        f"characters occur fewer than {min_count} times, {rare.sum() / corpus.occurrences.sum():.2%} of the text; "
        f"--min-count {min_count} leaves them out"
    )


def recommended_min_count(occurrences: npt.NDArray[np.int64]) -> int | None:
    """Return a minimum count that leaves out many characters but little of the text; None if there is none.

    Args:
        occurrences: how often each distinct character occurs, [K].
    """
    best, most = None, _MANY - 1
    for min_count in _MIN_COUNTS:
        rare = occurrences[occurrences < min_count]
        lost = rare.sum() / occurrences.sum()
        if len(rare) > most and lost <= (_MAX_LOST_BY_TWO if min_count == 2 else _MAX_LOST):
            best, most = min_count, len(rare)
    return best
