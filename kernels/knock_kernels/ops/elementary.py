"""Elementary functions of vectors, and of the first n numbers of an array that is padded to whole vectors."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH
from knock_kernels.lang.units import f32p, inlined, kernel
from knock_kernels.lang.vector import (
    Vec,
    any_of,
    from_bits,
    indices,
    load,
    max_of,
    maximum,
    min_of,
    minimum,
    splat,
    to_bits,
    where,
)

LOWEST = np.float32(-87.0)
NOTHING = np.float32(-np.inf)
_HIGHEST = np.float32(88.0)
_LOG2E = np.float32(1.4426950408889634)
_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer
_MAGIC_BITS = np.int32(0x4B400000)
# 2**r for |r| <= 1/2, fitted for the least relative error with p(0) = 1.
_C1, _C2, _C3, _C4, _C5 = (
    np.float32(c)
    for c in (0.6931469776120429, 0.24022242145477116, 0.05550733776473714, 0.009671508809354482, 0.0013264698743105238)
)
_GELU_A, _GELU_B = np.float32(-2 * 0.7978845608028654), np.float32(0.044715)
EXPONENT = np.int32(0x7F800000)
_SIGN, _WITHOUT_SIGN = np.int32(31), np.int32(0x7FFFFFFF)
_MANTISSA = np.int32(23)
_ZERO, _INFINITY = np.float32(0), np.float32(np.inf)


@inlined
def exp(x: Vec) -> Vec:
    """Return e**x for x up to 88, with a relative error of at most 2e-7 + 1e-7 |x|; e**-87 for smaller x.

    With x log2(e) = n + r, evaluate a polynomial of 2**r and add n to its exponent.
    """
    t = maximum(x, LOWEST) * _LOG2E
    shifted = t + _MAGIC
    r = t - (shifted - _MAGIC)
    r2 = r * r  # in pairs, since a chain of multiplications and additions would wait for each of them
    p = ((_C5 * r + _C4) * r2 + (_C3 * r + _C2)) * r2 + (_C1 * r + np.float32(1))
    return from_bits(to_bits(p) + (to_bits(shifted) << _MANTISSA))


@inlined
def gelu(x: Vec) -> Vec:
    """Return 0.5 x (1 + tanh(y)) = x / (1 + exp(-2 y)) with y = sqrt(2/pi) (x + 0.044715 x^3)."""
    return x / (np.float32(1) + exp(minimum(_GELU_A * (x + _GELU_B * x * x * x), _HIGHEST)))


@inlined
def rounded(x: Vec) -> Vec:
    """Return the nearest int32, halves to even, for |x| < 2**22."""
    return to_bits(x + _MAGIC) - _MAGIC_BITS


@inlined
def inside(i: int, n: int) -> Vec:
    """Return which elements of the vector that starts at element i are among the first n."""
    return indices() < np.int32(n - i)


@inlined
def key(x):
    """Return the int32 that sorts like a float32 number; -0 and 0 have the same key: [] -> []."""
    bits = to_bits(np.float32(x + _ZERO))
    return np.int32(bits ^ ((bits >> _SIGN) & _WITHOUT_SIGN))


@inlined
def from_key(k):
    """Return the float32 number with a key: [] -> []."""
    return from_bits(np.int32(k ^ ((k >> _SIGN) & _WITHOUT_SIGN)))


@kernel
def largest_of(x: f32p, n: int):
    """Return the largest of n >= 1 numbers that are followed by -inf: [n] -> []."""
    largest = splat(NOTHING)
    for i in range(0, n, WIDTH):
        largest = maximum(load(x + i), largest)
    return max_of(largest)


@kernel
def least_above(x: f32p, n: int, bound):
    """Return the smallest of n numbers above a bound, or infinity if there is none: [n] -> []."""
    least = splat(_INFINITY)
    for i in range(0, n, WIDTH):
        some = load(x + i)
        least = minimum(where(some > bound, some, _INFINITY), least)
    return min_of(least)


@kernel
def all_finite(x: f32p, n: int):
    """Return whether all of n numbers are finite: [n] -> []."""
    bad = splat(np.int32(0)) > np.int32(0)
    for i in range(0, n, WIDTH):
        # A number that is not finite has an exponent of all ones.
        bad |= inside(i, n) & ((to_bits(load(x + i)) & EXPONENT) == EXPONENT)
    return not any_of(bad)
