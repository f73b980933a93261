"""Yardsticks for a model's loss: an n-gram model and general compressors, on the same split of the corpus."""

from __future__ import annotations

import bz2
import lzma
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ORDER = 6  # characters of the longest n-gram
_MOST = 4_000_000  # tokens of the training text that are counted, which bounds memory to about 0.5 GB
_DISCOUNT = 0.75  # of every count; the usual value for interpolated Kneser-Ney smoothing

Tokens = npt.NDArray[np.integer]
Probabilities = npt.NDArray[np.float64]


class Yardsticks(NamedTuple):
    """Cross-entropy of the held-out text in bits per token.

    Attributes:
        ngram: interpolated n-gram model of the training text.
        xz: what the text adds to the training text, compressed by xz.
        bzip2: the same by bzip2, which sees only 900 kB.
    """

    ngram: float
    xz: float
    bzip2: float


def yardsticks(train: Tokens, held_out: Tokens, vocab_size: int, boundary: int | None = None) -> Yardsticks:
    """Measure the yardsticks.

    Args:
        train: the training text, [N].
        held_out: the held-out text, [M].
        vocab_size: V.
        boundary: the token between items, across which no n-gram reaches; None for plain text.
    """
    train = train[-_MOST:]
    return Yardsticks(
        ngram=ngram_bits(train, held_out, vocab_size, boundary=boundary),
        xz=_compressed_bits(lambda text: len(lzma.compress(text, preset=6)), train, held_out),
        bzip2=_compressed_bits(lambda text: len(bz2.compress(text)), train, held_out),
    )


def ngram_bits(
    train: Tokens, held_out: Tokens, vocab_size: int, *, order: int = ORDER, boundary: int | None = None
) -> float:
    """Return the cross-entropy of an interpolated n-gram model with absolute discounting, in bits per token.

    The longest n-grams are counted as they occur, shorter ones by the number of different tokens before them (Kneser
    and Ney 1995, "Improved backing-off for m-gram language modeling"; interpolated as in Chen and Goodman 1999).

    Args:
        train: the training text, [N].
        held_out: the text to predict, [M].
        vocab_size: V.
        order: length of the longest n-gram.
        boundary: token that no n-gram reaches across, but begins with; None for plain text.
    """
    if not len(held_out):
        return math.nan
    grams, wanted = (_grams(tokens, order, boundary) for tokens in (train, held_out))
    p = np.full(len(held_out), 1 / vocab_size)
    counted = np.unique(grams, axis=0, return_counts=True)
    # From single tokens to the longest n-grams; the columns of an n-gram are its tokens, the predicted one last.
    levels = [counted]
    for _ in range(order - 1):
        shorter = np.unique(levels[-1][0][:, 1:], axis=0, return_counts=True)
        levels.append(shorter)
    for rows, counts in reversed(levels):
        n = rows.shape[1]
        p = _interpolated(rows, counts, wanted[:, order - n :], p)
    return float(-np.log2(p).mean())


def _interpolated(rows: Tokens, counts: Tokens, wanted: Tokens, lower: Probabilities) -> Probabilities:
    """Return the probabilities of the last tokens of n-grams, given those by shorter ones.

    [K, n], [K], [M, n], [M] -> [M]
    """
    keys = _as_keys(rows)
    contexts, inverse = np.unique(_as_keys(rows[:, :-1]), return_inverse=True)
    total = np.bincount(inverse, counts)
    kinds = np.bincount(inverse)
    seen = _positions(keys, _as_keys(wanted))
    context = _positions(contexts, _as_keys(wanted[:, :-1]))
    count = np.where(seen >= 0, counts[seen], 0)
    has_context = context >= 0
    sums, different = total[context], kinds[context]
    mixed = (np.maximum(count - _DISCOUNT, 0) + _DISCOUNT * different * lower) / sums
    return np.where(has_context, mixed, lower)


def _grams(tokens: Tokens, order: int, boundary: int | None) -> Tokens:
    """Return the n-gram that ends at each token, [N] -> [N, order]; before the text or item, it is padded."""
    positions = np.arange(len(tokens))
    start = np.zeros(len(tokens), np.int64)
    if boundary is not None:
        # The boundary that a token is predicted after; a boundary itself ends the item before it.
        marks = np.where(np.asarray(tokens) == boundary, positions, 0)
        start = np.concatenate([[0], np.maximum.accumulate(marks)[:-1]])
    columns = [np.maximum(positions - back, start) for back in range(order - 1, 0, -1)]
    grams: Tokens = np.asarray(tokens)[np.column_stack([*columns, positions])]
    return grams


def _as_keys(rows: Tokens) -> npt.NDArray[np.void]:
    """Return rows as single values that can be sorted and compared: [K, n] -> [K]."""
    if not rows.shape[1]:
        return np.zeros(len(rows), "V1")
    big_endian = np.ascontiguousarray(rows.astype(">u4"))
    return big_endian.view(f"V{4 * rows.shape[1]}").reshape(-1)


def _positions(keys: npt.NDArray[np.void], wanted: npt.NDArray[np.void]) -> npt.NDArray[np.intp]:
    """Return where wanted values are among distinct sorted ones, -1 if they are not: [K], [M] -> [M]."""
    found = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[found] == wanted, found, -1)


def _compressed_bits(size: Callable[[bytes], int], train: Tokens, held_out: Tokens) -> float:
    if not len(held_out):
        return math.nan
    dtype = "u1" if max(train.max(initial=0), held_out.max(initial=0)) < 256 else "<u2"
    before, whole = (np.concatenate(parts).astype(dtype).tobytes() for parts in ((train,), (train, held_out)))
    return 8 * (size(whole) - size(before)) / len(held_out)
