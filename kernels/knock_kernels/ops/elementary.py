"""Elementary functions in float32, written so that plain loops over them are vectorised."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.simd import bits_from_float, float_from_bits
from knock_kernels.lang.units import inlined, reducing_kernel

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that n * _LN2_HIGH is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer
# Polynomial for (exp(r) - 1 - r) / r**2, |r| <= ln 2 / 2 (Cephes, expf).
_C = tuple(
    np.float32(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
_ZERO, _ONE, _INFINITY = np.float32(0), np.float32(1), np.float32(np.inf)
_SIGN, _WITHOUT_SIGN = np.int32(31), np.int32(0x7FFFFFFF)
_EXPONENT = np.int32(0x7F800000)
_GELU_A, _GELU_B = np.float32(-2 * 0.7978845608028654), np.float32(0.044715)


@inlined
def exp(x):
    """Return e**x within 2 units in the last place, with x clamped to [-87, 88]: [] -> [].

    With x = n ln 2 + r, evaluate a polynomial in r and add n to its exponent.
    """
    x = min(max(x, LOWEST), _HIGHEST)
    shifted = x * _LOG2E + _MAGIC
    n = shifted - _MAGIC
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = _C[0]
    p = p * r + _C[1]
    p = p * r + _C[2]
    p = p * r + _C[3]
    p = p * r + _C[4]
    p = p * r + _C[5]
    e = p * (r * r) + r + _ONE
    return float_from_bits(np.int32(bits_from_float(e) + (bits_from_float(shifted) << np.int32(23))))


@inlined
def gelu(x):
    """Return 0.5 x (1 + tanh(y)) = x / (1 + exp(-2 y)) with y = sqrt(2/pi) (x + 0.044715 x^3): [] -> []."""
    return x / (_ONE + exp(_GELU_A * (x + _GELU_B * x * x * x)))


@inlined
def key(x):
    """Return an int32 that sorts like the float32 number x; -0 and 0 have the same key: [] -> []."""
    bits = bits_from_float(x + _ZERO)
    return bits ^ ((bits >> _SIGN) & _WITHOUT_SIGN)


@inlined
def from_key(k):
    """Return the float32 number with this key: [] -> []."""
    return float_from_bits(np.int32(k ^ ((k >> _SIGN) & _WITHOUT_SIGN)))


@reducing_kernel
def maximum(x, n):
    """Return the largest of n >= 1 numbers: [n] -> []."""
    # Compares keys, because a loop over floats that may be NaN is not vectorised.
    largest = key(x[0])
    for i in range(1, n):
        k = key(x[i])
        largest = k if k > largest else largest
    return from_key(largest)


@reducing_kernel
def minimum_above(x, n, bound):
    """Return the smallest of n numbers above a bound, or infinity if there is none: [n] -> []."""
    least, lowest = key(_INFINITY), key(bound)
    for i in range(n):
        k = key(x[i])
        k = k if k > lowest else least
        least = k if k < least else least
    return from_key(least)


@reducing_kernel
def all_finite(x, n):
    """Return whether all of n numbers are finite: [n] -> []."""
    # A number that is not finite has an exponent of all ones. Fast-math flags cannot optimise a test of bits away.
    bad = 0
    for i in range(n):
        bad += (bits_from_float(x[i]) & _EXPONENT) == _EXPONENT
    return bad == 0
