"""Words of codes, sums over the rows of a wide array, and transpositions."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Wide
from knock_kernels.lang.transposing import transpose
from knock_kernels.lang.units import f32p, i32p, i64, i64p, inlined, unit, void
from knock_kernels.lang.vector import Vec, load, store
from knock_kernels.ops.elementary import rounded

_LOW, _HALF = np.int32(0xFFFF), np.int32(16)


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
    for i in range(WIDTH):
        wide.offsets[i] = i * WIDTH
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
