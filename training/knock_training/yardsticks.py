"""Yardsticks for a model's loss: an n-gram model and general compressors, on the same split of the corpus."""

from __future__ import annotations

import bz2
import lzma
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

ORDER = 6  # characters of the longest n-gram
MAX_TRAIN, MAX_HELD_OUT = 1_000_000, 100_000  # tokens, which takes some seconds

_DISCOUNT = 0.75  # of every count; the usual value for interpolated Kneser-Ney smoothing
_TRIAL = 1 / 32  # share of the work that is done first, to know what fits into a given time
_LEAST = 20_000  # training tokens from which the figures mean anything

Tokens = npt.NDArray[np.integer]
Probabilities = npt.NDArray[np.float64]


class Yardsticks(NamedTuple):
    """Cross-entropy of the held-out text in bits per token.

    Attributes:
        ngram: interpolated n-gram model of the training text.
        xz: what the text adds to the training text, compressed by xz.
        bzip2: the same by bzip2, which sees only 900 kB.
        train: number of training tokens used.
        held_out: number of held-out tokens measured.
    """

    ngram: float
    xz: float
    bzip2: float
    train: int
    held_out: int


def yardsticks(
    train: Tokens, held_out: Tokens, vocab_size: int, boundary: int | None = None, *, seconds: float | None = None
) -> Yardsticks | None:
    """Measure the yardsticks, of a part of a corpus that is too large for `MAX_TRAIN` and `MAX_HELD_OUT`.

    Args:
        train: the training text, [N].
        held_out: the held-out text, [M].
        vocab_size: V.
        boundary: the token between items, across which no n-gram reaches; None for plain text.
        seconds: approximate time limit, which may make the parts smaller; None for no limit.

    Returns:
        The yardsticks; None if the time suffices for too little of the text.
    """
    share = 1.0
    if seconds is not None:
        started = time.perf_counter()
        _measured(train, held_out, vocab_size, boundary, _TRIAL)
        elapsed = time.perf_counter() - started
        share = min(1.0, _TRIAL * (seconds - elapsed) / elapsed)
        if share * min(len(train), MAX_TRAIN) < min(len(train), _LEAST):
            return None
    return _measured(train, held_out, vocab_size, boundary, share)


def _measured(train: Tokens, held_out: Tokens, vocab_size: int, boundary: int | None, share: float) -> Yardsticks:
    """Measure the yardsticks of a share of the largest parts that are used of the texts."""
    train = _part(train, int(share * min(len(train), MAX_TRAIN)), boundary, from_end=True)
    held_out = _part(held_out, int(share * min(len(held_out), MAX_HELD_OUT)), boundary, from_end=False)
    # The neighbours of a held-out item in a sorted list would tell a compressor half of it.
    rng = np.random.default_rng(0)
    mixed = [each if boundary is None else _shuffled(each, boundary, rng) for each in (train, held_out)]
    with ThreadPoolExecutor(2) as pool:  # compressors and NumPy release the lock of the interpreter
        xz = pool.submit(_compressed_bits, lambda text: len(lzma.compress(text, preset=6)), *mixed)
        bzip2 = pool.submit(_compressed_bits, lambda text: len(bz2.compress(text)), *mixed)
        ngram = ngram_bits(train, held_out, vocab_size, boundary=boundary)
        return Yardsticks(ngram, xz.result(), bzip2.result(), len(train), len(held_out))


def _part(tokens: Tokens, most: int, boundary: int | None, *, from_end: bool) -> Tokens:
    """Return about `most` tokens of a text: one end of it, or items spread evenly over it, since they may be sorted."""
    if len(tokens) <= most:
        return tokens
    if boundary is None:
        return tokens[len(tokens) - most :] if from_end else tokens[:most]
    item = np.cumsum(tokens == boundary)  # number of the item of each token, from 1
    phase = np.arange(int(item[-1]) + 1) * (most / len(tokens))
    is_chosen = np.floor(phase) > np.floor(phase - most / len(tokens))
    part: Tokens = tokens[is_chosen[item]]
    return part


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
    # From the longest n-grams to single tokens; the columns of an n-gram are its tokens, the predicted one last.
    levels = [_distinct(grams, vocab_size)]
    for _ in range(order - 1):
        levels.append(_distinct(levels[-1][0][:, 1:], vocab_size))
    for rows, counts in reversed(levels):
        n = rows.shape[1]
        p = _interpolated(rows, counts, wanted[:, order - n :], p, vocab_size)
    return float(-np.log2(p).mean())


def _distinct(rows: Tokens, vocab_size: int) -> tuple[Tokens, Tokens]:
    """Return the distinct n-grams, in the order of their keys, and how often each occurs: [N, n] -> [K, n], [K]."""
    _, first, counts = np.unique(_as_keys(rows, vocab_size), return_index=True, return_counts=True)
    return rows[first], counts


def _interpolated(rows: Tokens, counts: Tokens, wanted: Tokens, lower: Probabilities, vocab_size: int) -> Probabilities:
    """Return the probabilities of the last tokens of n-grams, given those by shorter ones.

    [K, n], [K], [M, n], [M] -> [M]
    """
    contexts, inverse = np.unique(_as_keys(rows[:, :-1], vocab_size), return_inverse=True)
    total = np.bincount(inverse, counts)
    kinds = np.bincount(inverse)
    seen = _positions(_as_keys(rows, vocab_size), _as_keys(wanted, vocab_size))
    context = _positions(contexts, _as_keys(wanted[:, :-1], vocab_size))
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


def _as_keys(rows: Tokens, vocab_size: int) -> npt.NDArray[Any]:
    """Return rows as single values that can be sorted and compared: [K, n] -> [K]."""
    n = rows.shape[1]
    if vocab_size**n < 2**63:  # numbers in base V, which are sorted several times faster than strings of bytes
        keys = np.zeros(len(rows), np.int64)
        for column in rows.T:
            keys = keys * vocab_size + column
        return keys
    return np.ascontiguousarray(rows.astype(">u4")).view(f"V{4 * n}").reshape(-1)


def _positions(keys: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return where wanted values are among distinct sorted ones, -1 if they are not: [K], [M] -> [M]."""
    found = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[found] == wanted, found, -1)


def _shuffled(tokens: Tokens, boundary: int, rng: np.random.Generator) -> Tokens:
    """Return items in a random order, each with the boundary before it."""
    items = np.split(tokens, np.flatnonzero(tokens == boundary)[1:])
    return np.concatenate([items[i] for i in rng.permutation(len(items))])


def _compressed_bits(size: Callable[[bytes], int], train: Tokens, held_out: Tokens) -> float:
    if not len(held_out):
        return math.nan
    dtype = "u1" if max(train.max(initial=0), held_out.max(initial=0)) < 256 else "<u2"
    before, whole = (np.concatenate(parts).astype(dtype).tobytes() for parts in ((train,), (train, held_out)))
    return 8 * (size(whole) - size(before)) / len(held_out)
