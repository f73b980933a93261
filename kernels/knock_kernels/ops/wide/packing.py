"""Words of codes, sums over the rows of a wide array, and transpositions."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, ZERO_BYTE, Wide
from knock_kernels.lang.transposing import transpose
from knock_kernels.lang.units import f32p, i32p, i64, i64p, inlined, unit, void
from knock_kernels.lang.vector import Vec, load, maximum, store
from knock_kernels.ops.elementary import rounded
from knock_kernels.ops.quantize import TINY

_LOW, _BYTE, _HALF, _THREE_BYTES = np.int32(0xFFFF), np.int32(8), np.int32(16), np.int32(24)


@inlined
def word(low: Vec, high: Vec) -> Vec:
    """Return the words of two codes."""
    return (low & _LOW) | (high << _HALF)


@inlined
def round_to_words(x: f32p, count: int, out: i32p):
    """Round rows of numbers to codes, in words of two rows: [2 * count, WIDTH] -> [count, WIDTH]."""
    for i in range(count):
        pair = x + 2 * i * WIDTH
        store(word(rounded(load(pair)), rounded(load(pair + WIDTH))), out + i * WIDTH)


@inlined
def quantize(x: f32p, n: int, extreme: Vec, largest, code_bytes: int, wide: Wide):
    """Compute words of codes up to `largest`, one step for each lane, and the steps: [n, WIDTH] -> [n / 2 or 4, WIDTH].

    Args:
        x: [n, WIDTH]; n is a multiple of WIDTH.
        n: number of elements of a row.
        extreme: the largest absolute element of each lane.
        largest: the largest code.
        code_bytes: 2, or 1 for unsigned bytes with ZERO_BYTE added.
        wide: the codes and their scales are written.
    """
    steps = largest / maximum(extreme, TINY)
    if code_bytes == 1:
        for i in range(0, n, 4):
            place = x + i * WIDTH
            a, b = byte(load(place) * steps), byte(load(place + WIDTH) * steps)
            c, d = byte(load(place + 2 * WIDTH) * steps), byte(load(place + 3 * WIDTH) * steps)
            store(a | (b << _BYTE) | (c << _HALF) | (d << _THREE_BYTES), wide.codes + (i // 4) * WIDTH)
    else:
        for i in range(0, n, 2):
            place = x + i * WIDTH
            low, high = rounded(load(place) * steps), rounded(load(place + WIDTH) * steps)
            store(word(low, high), wide.codes + (i // 2) * WIDTH)
    store(extreme / largest, wide.scales)


@inlined
def byte(x: Vec) -> Vec:
    """Return the unsigned bytes that stand for codes, given as numbers."""
    return rounded(x) + np.int32(ZERO_BYTE)


@inlined
def by_halves(partial) -> Vec:
    """Return the sum of WIDTH partial sums, by halves as `sum_of` adds the elements of a vector: [WIDTH, WIDTH]."""
    half = WIDTH // 2
    while half > 0:
        for i in range(half):
            store(load(partial + i * WIDTH) + load(partial + (i + half) * WIDTH), partial + i * WIDTH)
        half //= 2
    return load(partial)


@unit
def to_rows(x: f32p, n: i64, out: f32p, wide: Wide) -> void:
    """Transpose a wide array to rows: [n, WIDTH] -> [WIDTH, n]; n is a multiple of WIDTH."""
    for i in range(0, n, WIDTH):
        transpose(x + i * WIDTH, wide.offsets, out + i, n)


@unit
def from_rows(rows: f32p, offsets: i64p, n: i64, out: f32p) -> void:
    """Transpose rows to a wide array: [..., n] -> [n, WIDTH]; n is a multiple of WIDTH.

    Args:
        rows: where all rows are.
        offsets: [WIDTH], where the row of each lane begins in it.
        n: number of elements of a row.
        out: [n, WIDTH], written.
    """
    for i in range(0, n, WIDTH):
        transpose(rows + i, offsets, out + i * WIDTH, WIDTH)
