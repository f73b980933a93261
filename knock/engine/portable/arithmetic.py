"""Sums, elementary functions and rounding, as in `knock_kernels.ops.elementary` and `double`.

Operations on arrays are element by element in float32 or float64, each rounded once.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

WIDTH = 16  # partial sums
LOWEST = np.float32(-87)
_HIGHEST = np.float32(88)
_LOG2E = np.float32(1.4426950408889634)
_MAGIC = np.float32(12582912)  # 1.5 * 2**23: adding it rounds to an integer
_EXP = tuple(
    np.float32(c)
    for c in (
        1, 0.6931469776120429, 0.24022242145477116, 0.05550733776473714, 0.009671508809354482, 0.0013264698743105238,
    )
)  # fmt: skip
_GELU_A, _GELU_B, _ONE = np.float32(-2 * 0.7978845608028654), np.float32(0.044715), np.float32(1)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_DOUBLE_MAGIC = 1.5 * 2.0**52
_TAYLOR = tuple(1 / math.factorial(k) for k in range(13, -1, -1))

Floats = npt.NDArray[np.float32]
AnyFloats = TypeVar("AnyFloats", bound=npt.NDArray[Any])


def total(values: AnyFloats) -> Any:
    """Return sums over the last axis: element i is added to partial sum i mod 16, then those by halves.

    [..., n] -> [...]
    """
    n = values.shape[-1]
    rows = -(-n // WIDTH)
    if n % WIDTH or n == 0:
        padded = np.zeros((*values.shape[:-1], max(rows, 1) * WIDTH), values.dtype)
        padded[..., :n] = values
        values = padded  # type: ignore[assignment]
    sums = values[..., :WIDTH]
    for start in range(WIDTH, rows * WIDTH, WIDTH):
        sums = sums + values[..., start : start + WIDTH]
    half = WIDTH // 2
    while half:
        sums = sums[..., :half] + sums[..., half:]
        half //= 2
    return sums[..., 0]


def exp(x: Floats) -> Floats:
    """Return e**x in float32: [...] -> [...]."""
    t = np.maximum(x, LOWEST) * _LOG2E
    shifted = t + _MAGIC
    r = t - (shifted - _MAGIC)
    square = r * r
    c0, c1, c2, c3, c4, c5 = _EXP
    p = ((c5 * r + c4) * square + (c3 * r + c2)) * square + (c1 * r + c0)
    result: Floats = (p.view(np.int32) + (shifted.view(np.int32) << 23)).view(np.float32)
    return result


def gelu(x: Floats) -> Floats:
    """Return x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x^3))): [...] -> [...]."""
    argument = np.minimum(_GELU_A * (x + _GELU_B * x * x * x), _HIGHEST)
    result: Floats = x / (_ONE + exp(argument))
    return result


def log_double(x: float) -> float:
    """Return the natural logarithm of a positive number in float64."""
    m, e = math.frexp(x)
    m, e = 2 * m, e - 1
    if m > math.sqrt(2):
        m, e = m * 0.5, e + 1
    f = m - 1.0
    s = f / (m + 1.0)
    z = s * s
    tail = 0.0
    for k in range(23, 1, -2):
        tail = (tail + 1.0 / k) * z
    return e * _LN2_HIGH + (e * _LN2_LOW + (f - s * (f - 2.0 * tail)))


def exp_double(x: float) -> float:
    """Return e**x in float64."""
    n = (x * 1.4426950408889634 + _DOUBLE_MAGIC) - _DOUBLE_MAGIC
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p, *coefficients = _TAYLOR
    for c in coefficients:
        p = p * r + c
    return math.ldexp(p, int(n))
