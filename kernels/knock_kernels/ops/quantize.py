"""Round rows of numbers to codes, for products of integers."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, ZERO_BYTE
from knock_kernels.lang.units import f32p, i16p, i32p, inlined, kernel
from knock_kernels.lang.vector import absolute, load, max_of, maximum, splat, store, to_i8, to_i16, where
from knock_kernels.ops.elementary import inside, rounded
from knock_kernels.ops.norm import mean_and_scale

_ZERO, _ZERO_CODE = np.float32(0), np.int32(ZERO_BYTE)
TINY = np.float32(2.0**-100)  # rows of smaller numbers have codes of 0


@kernel
def layer_norm_codes(x: f32p, codes: i16p, C: int, norm_scale):
    """Compute codes of a layer normalisation, round(norm_scale * (x - mean) / sqrt(variance + 1e-5)): [C] -> [C]."""
    mean, scale = mean_and_scale(x, C)
    scale = scale * norm_scale
    for c in range(0, C, WIDTH):
        store(to_i16(rounded(where(inside(c, C), (load(x + c) - mean) * scale, _ZERO))), codes + c)


@kernel
def quantize(x: f32p, codes: i16p, n: int, largest):
    """Compute codes up to `largest`, one step for all; return the step: [n] -> [n], []. n is a multiple of WIDTH."""
    extreme = largest_of(x, n)
    steps = largest / max(extreme, TINY)
    for i in range(0, n, WIDTH):
        store(to_i16(rounded(load(x + i) * steps)), codes + i)
    return extreme / largest


@kernel
def quantize_bytes(x: f32p, codes: i32p, n: int, largest):
    """Compute the same as unsigned bytes with ZERO_BYTE added, four in a word: [n] -> [n / 4], []."""
    extreme = largest_of(x, n)
    steps = largest / max(extreme, TINY)
    for i in range(0, n, WIDTH):
        store(to_i8(rounded(load(x + i) * steps) + _ZERO_CODE), codes + i // 4)
    return extreme / largest


@inlined
def largest_of(x: f32p, n: int):
    """Return the largest absolute element: [n] -> []. n is a multiple of WIDTH."""
    top = splat(_ZERO)
    for i in range(0, n, WIDTH):
        top = maximum(absolute(load(x + i)), top)
    return max_of(top)


@inlined
def to_codes(x: f32p, codes: i16p, n: int):
    """Round n numbers that are codes already but for their fractions, in whole vectors."""
    for i in range(0, n, WIDTH):
        store(to_i16(rounded(load(x + i))), codes + i)
