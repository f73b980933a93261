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

LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
NOTHING = np.float32(-np.inf)
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that n * _LN2_HIGH is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer
# Polynomial for (exp(r) - 1 - r) / r**2, |r| <= ln 2 / 2 (Cephes, expf).
_C0, _C1, _C2, _C3, _C4, _C5 = (
    np.float32(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
_GELU_A, _GELU_B = np.float32(-2 * 0.7978845608028654), np.float32(0.044715)
_EXPONENT = np.int32(0x7F800000)
_SIGN, _WITHOUT_SIGN = np.int32(31), np.int32(0x7FFFFFFF)
_MANTISSA = np.int32(23)
_ZERO, _INFINITY = np.float32(0), np.float32(np.inf)


@inlined
def exp(x: Vec) -> Vec:
    """Return e**x within 2 units in the last place, with x clamped to [-87, 88].

    With x = n ln 2 + r, evaluate a polynomial in r and add n to its exponent.
    """
    x = minimum(maximum(x, LOWEST), _HIGHEST)
    shifted = x * _LOG2E + _MAGIC
    n = shifted - _MAGIC
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5
    e = p * (r * r) + r + np.float32(1)
    return from_bits(to_bits(e) + (to_bits(shifted) << _MANTISSA))


@inlined
def gelu(x: Vec) -> Vec:
    """Return 0.5 x (1 + tanh(y)) = x / (1 + exp(-2 y)) with y = sqrt(2/pi) (x + 0.044715 x^3)."""
    return x / (np.float32(1) + exp(_GELU_A * (x + _GELU_B * x * x * x)))


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
    """Return the largest of n >= 1 numbers: [n] -> []."""
    largest = splat(NOTHING)
    for i in range(0, n, WIDTH):
        largest = maximum(where(inside(i, n), load(x + i), NOTHING), largest)
    return max_of(largest)


@kernel
def least_above(x: f32p, n: int, bound):
    """Return the smallest of n numbers above a bound, or infinity if there is none: [n] -> []."""
    least = splat(_INFINITY)
    for i in range(0, n, WIDTH):
        some = load(x + i)
        least = minimum(where(inside(i, n) & (some > bound), some, _INFINITY), least)
    return min_of(least)


@kernel
def all_finite(x: f32p, n: int):
    """Return whether all of n numbers are finite: [n] -> []."""
    bad = splat(np.int32(0)) > np.int32(0)
    for i in range(0, n, WIDTH):
        # A number that is not finite has an exponent of all ones.
        bad |= inside(i, n) & ((to_bits(load(x + i)) & _EXPONENT) == _EXPONENT)
    return not any_of(bad)
