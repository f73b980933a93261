"""The MLP of a block."""

from __future__ import annotations

from knock_kernels.lang.layout import WIDTH, Linear
from knock_kernels.lang.units import f32p, i64, unit, void
from knock_kernels.lang.vector import load, store
from knock_kernels.ops.elementary import gelu
from knock_kernels.ops.linear import linear


@unit
def mlp(w0: Linear, w1: Linear, n: f32p, hidden: f32p, x: f32p, rows: i64) -> void:
    """Compute x += gelu(n @ w0) @ w1: [rows, C], scratch [rows, F] -> [rows, C]."""
    C, F = w1.N, w0.N
    linear(w0, n, C, hidden, F, rows, 0, F)
    for i in range(0, rows * F, WIDTH):
        store(gelu(load(hidden + i)), hidden + i)
    linear(w1, hidden, F, x, C, rows, 0, C)
