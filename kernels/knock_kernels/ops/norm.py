"""Layer normalisation."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH
from knock_kernels.lang.units import f32p, inlined, kernel
from knock_kernels.lang.vector import load, splat, sqrt, store, sum_of, where
from knock_kernels.ops.elementary import inside

_EPS = np.float32(1e-5)
_ZERO = np.float32(0)


@kernel
def layer_norm(x: f32p, out: f32p, C: int):
    """Compute out = (x - mean) / sqrt(variance + 1e-5): [C] -> [C]. Gain and bias are folded into the next matrix."""
    mean, scale = mean_and_scale(x, C)
    for c in range(0, C, WIDTH):
        store(where(inside(c, C), (load(x + c) - mean) * scale, _ZERO), out + c)


@inlined
def mean_and_scale(x: f32p, C: int):
    """Return the mean, and 1 / sqrt(variance + 1e-5): [C] -> [], []."""
    total = splat(_ZERO)
    for c in range(0, C, WIDTH):
        total += where(inside(c, C), load(x + c), _ZERO)
    mean = sum_of(total) / np.float32(C)
    squares = splat(_ZERO)
    for c in range(0, C, WIDTH):
        deviation = where(inside(c, C), load(x + c) - mean, _ZERO)
        squares += deviation * deviation
    variance = sum_of(squares) / np.float32(C)
    return mean, np.float32(1) / sqrt(variance + _EPS)
