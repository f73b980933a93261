"""How good a finished model is: beside yardsticks, and in a sample of its items."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from knock.files.corpus import TokenizedText
    from knock.weights import Weights

_SAMPLE = 1000  # items,
_SAMPLE_CHARACTERS = 400_000  # fewer if they are long: about this number of characters,
_LEAST_SAMPLE = 100  # but no fewer than this
_SEED = 0
_GROUP = 100  # items after each of which the time is checked
_PIECE = 2**20  # training tokens searched for copies at a time, which bounds memory
_LONGER = 2  # a sampled item may be this many times as long as any item of the corpus


def yardsticks_record(text: TokenizedText, seconds: float | None) -> dict[str, Any] | None:
    """Measure the yardsticks of a corpus, for the training record.

    Args:
        text: the corpus.
        seconds: approximate time limit; None for no limit.

    Returns:
        The losses in bits per character, and of how many characters they are; None if there is too little time.
    """
    from knock_training.yardsticks import ORDER, yardsticks

    measured = yardsticks(text.train, text.held_out, text.vocab.vocab_size, text.vocab.boundary, seconds=seconds)
    if measured is None:
        return None
    bits = {f"n-gram of order {ORDER}": measured.ngram, "xz": measured.xz, "bzip2": measured.bzip2}
    return {"bits_per_char": bits, "train_characters": measured.train, "held_out_characters": measured.held_out}


def yardstick_lines(bits: float, record: Mapping[str, Any], text: TokenizedText) -> Iterator[str]:
    """Yield a table of a model and the yardsticks, the best first.

    Args:
        bits: loss of the model in bits per character.
        record: what `yardsticks_record` returned.
        text: the corpus.
    """
    rows = sorted([("this model", bits), *record["bits_per_char"].items()], key=itemgetter(1))
    width = max(len(name) for name, _ in rows)
    yield f"bits/char on the held-out {'items' if text.items else 'text'}:"
    yield from (f"  {name:<{width}}  {each:.4f}" for name, each in rows)
    sizes = record["train_characters"], record["held_out_characters"]
    if sizes != (len(text.train), len(text.held_out)):
        yield (
            f"the yardsticks are of {sizes[0]:,} of {len(text.train):,} training characters, and {sizes[1]:,} of "
            f"{len(text.held_out):,} held out"
        )


def sample_record(weights: Weights, text: TokenizedText, seconds: float | None) -> dict[str, int] | None:
    """Draw items and count those that are training items, or that repeat an earlier one, for the training record.

    Args:
        weights: a model of items.
        text: the corpus that it was trained on.
        seconds: approximate time limit, which may make the sample smaller; None for no limit.

    Returns:
        The numbers; None if there is no time for a sample that means anything.
    """
    from knock.gpt import ReweightGPT
    from knock.language_model import LanguageModel

    started = time.monotonic()
    mean = len(text.train) / max(1, text.train_items)
    most = max(_LEAST_SAMPLE, min(_SAMPLE, int(_SAMPLE_CHARACTERS / mean)))
    model = LanguageModel(ReweightGPT.from_weights(weights), text.vocab)
    items: list[str] = []
    for first in range(0, most, _GROUP):
        if seconds is not None and time.monotonic() - started >= seconds:
            break
        count = min(_GROUP, most - first)
        drawn = model.sample_iter(
            itertools.repeat("", count), first=first, seed=_SEED, max_new_tokens=_LONGER * text.longest + 1
        )
        items += [each.text for each in drawn]
    if len(items) < _LEAST_SAMPLE:
        return None
    distinct = set(items)
    copied = _among_training_items(distinct, text)
    return {
        "items": len(items),
        "seed": _SEED,
        "copies": sum(item in copied for item in items),
        "repeats": len(items) - len(distinct),
    }


def _among_training_items(wanted: set[str], text: TokenizedText) -> set[str]:
    """Return which of some items the model was trained on."""
    vocab = text.vocab
    assert vocab.boundary is not None
    separator = next(char for char in map(chr, range(len(vocab.characters) + 1)) if char not in vocab)
    points = np.array([ord(char) for char in (*vocab.characters, separator)], "<u4")
    boundaries = np.flatnonzero(text.train == vocab.boundary)
    found: set[str] = set()
    start = 0
    while start < boundaries[-1]:
        last = boundaries[np.searchsorted(boundaries, start + _PIECE, side="right") - 1]
        end = int(last) if last > start else int(boundaries[np.searchsorted(boundaries, start, side="right")])
        piece = points[text.train[start + 1 : end]].tobytes().decode("utf-32-le")
        found |= wanted & set(piece.split(separator))
        start = end
    return found


def sample_line(record: Mapping[str, int]) -> str:
    """Return what the sample says in words."""
    copies, repeats = (f"{record[name] / record['items']:.1%}" for name in ("copies", "repeats"))
    return (
        f"of a sample of {record['items']:,} items, {copies} are training items and {repeats} repeat another one of "
        "the sample"
    )
