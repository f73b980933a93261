"""The MLP of a block."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Block, Model, State
from knock_kernels.lang.records import words
from knock_kernels.lang.units import f32p, i64, unit, void
from knock_kernels.lang.vector import load, store
from knock_kernels.ops.elementary import gelu
from knock_kernels.ops.linear import code_linear, linear
from knock_kernels.ops.project import project
from knock_kernels.ops.quantize import quantize, quantize_bytes


@unit
def mlp(block: Block, x: f32p, rows: i64, model: Model, state: State) -> void:
    """Compute x += gelu(n @ w0) @ w1 for the rows that `normalize` wrote: -> [rows, C_padded]."""
    C, F = model.C_padded, model.F_padded
    project(block.w0, 0, rows, 0, F, state.hidden, model, state)
    for i in range(0, rows * F, WIDTH):
        store(gelu(load(state.hidden + i)), state.hidden + i)
    if model.has_codes:
        largest, stride = np.float32(model.hidden_codes), F * model.code_bytes // 4  # in words
        for r in range(rows):
            hidden = state.hidden + r * F
            if model.code_bytes == 1:
                state.scales[r] = quantize_bytes(hidden, words(state.codes) + r * stride, F, largest)
            else:
                state.scales[r] = quantize(hidden, state.codes + r * F, F, largest)
        code_linear(block.w1, words(state.codes), stride, state.scales, x, C, rows, 0, C)
    else:
        linear(block.w1, state.hidden, F, x, C, rows, 0, C)
