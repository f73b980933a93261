"""Products of normalised rows, in the model's precision."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import Linear, Model, State
from knock_kernels.lang.records import words
from knock_kernels.lang.units import f32p, i64, inlined, unit, void
from knock_kernels.ops.linear import code_linear, linear
from knock_kernels.ops.norm import layer_norm
from knock_kernels.ops.quantize import layer_norm_codes, quantize_bytes


@inlined
def normalize(x: f32p, rows: int, model: Model, state: State):
    """Normalise rows of the residual stream, [rows, C_padded], to `state.n` or `state.codes`."""
    width = model.C_padded
    if model.code_bytes == 1:
        for r in range(rows):
            n, codes = state.n + r * width, words(state.codes) + r * (width // 4)
            layer_norm(x + r * width, n, model.C)
            state.scales[r] = quantize_bytes(n, codes, width, np.float32(model.norm_codes))
    elif model.has_codes:
        for r in range(rows):
            layer_norm_codes(x + r * width, state.codes + r * width, model.C, np.float32(model.norm_scale))
            state.scales[r] = np.float32(1)
    else:
        for r in range(rows):
            layer_norm(x + r * width, state.n + r * width, model.C)


@unit
def project(layer: Linear, start: i64, rows: i64, first: i64, last: i64, out: f32p, model: Model, state: State) -> void:
    """Compute columns `first` to `last` of the product of normalised rows with a layer: -> [rows, N].

    Args:
        layer: the product.
        start: the first of the rows that `normalize` wrote.
        rows: number of rows.
        first: first column, a multiple of WIDTH.
        last: the column after the last, a multiple of WIDTH.
        out: [rows, N], written.
        model: the model.
        state: the rows.
    """
    width = model.C_padded
    if model.has_codes:
        stride = width * model.code_bytes // 4  # in words
        codes = words(state.codes) + start * stride
        code_linear(layer, codes, stride, state.scales + start, out, layer.N, rows, first, last)
    else:
        linear(layer, state.n + start * width, width, out, layer.N, rows, first, last)
