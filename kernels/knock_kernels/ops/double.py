"""Elementary functions of float64 numbers, from single IEEE operations: those of the system differ between CPUs."""

from __future__ import annotations

import math

import numpy as np

from knock_kernels.lang.units import inlined, kernel
from knock_kernels.lang.vector import Vec, from_bits, to_bits, to_f64, where

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # the first has few bits
_LOG2E = 1.4426950408889634
_SQRT2 = math.sqrt(2)
_MAGIC = 1.5 * 2.0**52  # adding it rounds to an integer
_MANTISSA, _BIAS, _ONE = np.int64(52), np.int64(1023), np.int64(1023 << 52)
_FRACTION = np.int64((1 << 52) - 1)
# 1 / k! for the Taylor polynomial of exp.
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13 = (1 / math.factorial(k) for k in range(2, 14))


@kernel
def log(x):
    """Return the natural logarithm of a positive normal number within 2 units in the last place: [] -> [].

    With x = 2**e m and m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh(s) with s = (m - 1) / (m + 1), as its Taylor series.
    """
    bits = to_bits(x)
    n, m = to_f64((bits >> _MANTISSA) - _BIAS), from_bits((bits & _FRACTION) | _ONE)
    if m > _SQRT2:
        n, m = n + 1.0, m * 0.5
    return _log(n, m)


@inlined
def log_of(x: Vec) -> Vec:
    """Return the natural logarithms of a vector, with the bits of `log`."""
    bits = to_bits(x)
    n, m = to_f64((bits >> _MANTISSA) - _BIAS), from_bits((bits & _FRACTION) | _ONE)
    is_large = m > _SQRT2
    return _log(where(is_large, n + 1.0, n), where(is_large, m * 0.5, m))


@inlined
def _log(n, m):
    f = m - 1.0
    s = f / (m + 1.0)
    z = s * s
    tail = (1.0 / 23) * z
    for k in range(21, 1, -2):
        tail = (tail + 1.0 / k) * z
    # ln m = f - s (f - 2 tail), which loses no digits where m is close to 1.
    return n * _LN2_HIGH + (n * _LN2_LOW + (f - s * (f - 2.0 * tail)))


@kernel
def exp(x):
    """Return e**x within 2 units in the last place, for |x| up to 700: [] -> [].

    With x = n ln 2 + r, evaluate the Taylor polynomial of e**r and add n to its exponent.
    """
    shifted = x * _LOG2E + _MAGIC
    n = shifted - _MAGIC
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _E13 * r + _E12
    p = ((p * r + _E11) * r + _E10) * r + _E9
    p = ((p * r + _E8) * r + _E7) * r + _E6
    p = ((p * r + _E5) * r + _E4) * r + _E3
    p = ((p * r + _E2) * r + 1.0) * r + 1.0
    return from_bits(to_bits(p) + (np.int64(n) << _MANTISSA))
