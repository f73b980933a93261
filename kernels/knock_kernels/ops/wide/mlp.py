"""The MLP of a block, for all lanes."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Block, Model, Wide
from knock_kernels.lang.units import unit, void
from knock_kernels.lang.vector import absolute, load, maximum, splat, store
from knock_kernels.ops.elementary import gelu
from knock_kernels.ops.wide.linear import wide_linear
from knock_kernels.ops.wide.packing import quantize

_ZERO = np.float32(0)


@unit
def wide_mlp(block: Block, model: Model, wide: Wide) -> void:
    """Compute x += gelu(n @ w0) @ w1 for the rows that `wide_normalize` wrote: -> [C_padded, WIDTH]."""
    hidden = wide.hidden
    wide_linear(block.w0, hidden, wide)
    top = splat(_ZERO)
    for i in range(model.F_padded):
        some = gelu(load(hidden + i * WIDTH))
        store(some, hidden + i * WIDTH)
        top = maximum(absolute(some), top)
    quantize(hidden, model.F_padded, top, np.float32(model.hidden_codes), model.code_bytes, wide)
    wide_linear(block.w1, wide.x, wide)
