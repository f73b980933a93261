"""The MLP of a block."""

from __future__ import annotations

from knock_kernels.lang.cpu import WIDTH
from knock_kernels.lang.units import f32p, i64, unit, void
from knock_kernels.ops.elementary import gelu
from knock_kernels.ops.linear import linear


@unit(void(f32p, f32p, f32p, f32p, f32p, f32p, i64, i64, i64, i64, i64))
def mlp(n, w0, b0, w1, hidden, x, rows, C, F, C_padded, F_padded):
    """Compute x += gelu(b0 + n @ w0) @ w1: [rows, C], [C, F], [F], [F, C], scratch [rows, F] -> [rows, C]."""
    F_vectors, C_vectors = F_padded // WIDTH, C_padded // WIDTH
    linear(n, C_padded, w0, b0, 0, hidden, F_padded, rows, C, F_vectors, 0, F_vectors)
    for i in range(rows * F_padded):
        hidden[i] = gelu(hidden[i])
    linear(hidden, F_padded, w1, x, C_padded, x, C_padded, rows, F, C_vectors, 0, C_vectors)
