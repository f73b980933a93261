"""Layer normalisation."""

from __future__ import annotations

import numpy as np

from knock_kernels.jit import reducing_kernel

_EPS = np.float32(1e-5)
_ONE = np.float32(1)


@reducing_kernel
def layer_norm(x, out, C):
    """out = (x - mean) / sqrt(variance + 1e-5): [C] -> [C]. Gain and bias are folded into the matrix that follows."""
    total = np.float32(0)
    for i in range(C):
        total += x[i]
    mean = total / np.float32(C)
    squares = np.float32(0)
    for i in range(C):
        squares += (x[i] - mean) * (x[i] - mean)
    scale = _ONE / np.sqrt(squares / np.float32(C) + _EPS)
    for i in range(C):
        out[i] = (x[i] - mean) * scale
