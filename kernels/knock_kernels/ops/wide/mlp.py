"""The MLP of a block, for all lanes."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Block, Model, Wide
from knock_kernels.lang.units import unit, void
from knock_kernels.lang.vector import absolute, load, maximum, splat, store
from knock_kernels.ops.elementary import gelu, rounded
from knock_kernels.ops.quantize import TINY
from knock_kernels.ops.wide.linear import wide_linear
from knock_kernels.ops.wide.packing import word

_ZERO = np.float32(0)


@unit
def wide_mlp(block: Block, model: Model, wide: Wide) -> void:
    """Compute x += gelu(n @ w0) @ w1 for the rows that `wide_normalize` wrote: -> [C_padded, WIDTH]."""
    hidden, largest = wide.hidden, np.float32(model.hidden_codes)
    wide_linear(block.w0, hidden, wide)
    top = splat(_ZERO)
    for i in range(model.F_padded):
        some = gelu(load(hidden + i * WIDTH))
        store(some, hidden + i * WIDTH)
        top = maximum(absolute(some), top)
    steps = largest / maximum(top, TINY)
    for i in range(model.F_padded // 2):
        pair = hidden + 2 * i * WIDTH
        store(word(rounded(load(pair) * steps), rounded(load(pair + WIDTH) * steps)), wide.codes + i * WIDTH)
    store(top / largest, wide.scales)
    wide_linear(block.w1, wide.x, wide)
