"""Layer normalisation of all lanes, to codes."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Model, Wide
from knock_kernels.lang.units import f32p, inlined, unit, void
from knock_kernels.lang.vector import absolute, load, maximum, splat, sqrt, store
from knock_kernels.ops.elementary import rounded
from knock_kernels.ops.wide.packing import by_halves, quantize, word

_EPS, _ZERO, _ONE = np.float32(1e-5), np.float32(0), np.float32(1)
_NONE = np.int32(0)


@unit
def wide_normalize(model: Model, wide: Wide) -> void:
    """Compute the codes of the normalised residual stream, and their scale: [C, WIDTH] -> [words of a row, WIDTH]."""
    C, x = model.C, wide.x
    mean, scale = mean_and_scale(x, C, wide.partial)
    if model.code_bytes == 1:
        extreme = splat(_ZERO)
        for c in range(C):
            n = (load(x + c * WIDTH) - mean) * scale
            store(n, wide.n + c * WIDTH)
            extreme = maximum(absolute(n), extreme)
        quantize(wide.n, model.C_padded, extreme, np.float32(model.norm_codes), 1, wide)
        return
    scale = scale * np.float32(model.norm_scale)
    for c in range(0, C, 2):
        low, high = rounded((load(x + c * WIDTH) - mean) * scale), splat(_NONE)
        if c + 1 < C:
            high = rounded((load(x + (c + 1) * WIDTH) - mean) * scale)
        store(word(low, high), wide.codes + (c // 2) * WIDTH)
    store(splat(_ONE), wide.scales)


@inlined
def mean_and_scale(x: f32p, C: int, partial: f32p):
    """Return the mean, and 1 / sqrt(variance + 1e-5), of each lane: [C, WIDTH] -> [WIDTH], [WIDTH]."""
    for first in range(WIDTH):
        total = splat(_ZERO)
        for c in range(first, C, WIDTH):
            total += load(x + c * WIDTH)
        store(total, partial + first * WIDTH)
    mean = by_halves(partial) / np.float32(C)
    for first in range(WIDTH):
        squares = splat(_ZERO)
        for c in range(first, C, WIDTH):
            deviation = load(x + c * WIDTH) - mean
            squares += deviation * deviation
        store(squares, partial + first * WIDTH)
    variance = by_halves(partial) / np.float32(C)
    return mean, _ONE / sqrt(variance + _EPS)
