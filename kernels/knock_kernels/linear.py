"""Matrix products over packed weights."""

from __future__ import annotations

from knock_kernels.jit import kernel
from knock_kernels.simd import TILE_VECTORS, at, make_linear

_linear_8, _linear_4, _linear_2, _linear_1 = (make_linear(rows, TILE_VECTORS[rows]) for rows in (8, 4, 2, 1))


@kernel
def linear(x, ldx, w, ldw, init, ldinit, out, ldout, rows, K, vectors):
    """out = init + x @ w: [rows, K], [K, vectors * WIDTH] -> [rows, vectors * WIDTH].

    `ldinit` 0 gives every row the same start, a bias; `init` may be `out`, to add to what is there.
    """
    while rows >= 8:
        _linear_8(x, ldx, w, ldw, init, ldinit, out, ldout, K, vectors)
        x, init, out, rows = at(x, 8 * ldx), at(init, 8 * ldinit), at(out, 8 * ldout), rows - 8
    if rows >= 4:
        _linear_4(x, ldx, w, ldw, init, ldinit, out, ldout, K, vectors)
        x, init, out, rows = at(x, 4 * ldx), at(init, 4 * ldinit), at(out, 4 * ldout), rows - 4
    if rows >= 2:
        _linear_2(x, ldx, w, ldw, init, ldinit, out, ldout, K, vectors)
        x, init, out, rows = at(x, 2 * ldx), at(init, 2 * ldinit), at(out, 2 * ldout), rows - 2
    if rows >= 1:
        _linear_1(x, ldx, w, ldw, init, ldinit, out, ldout, K, vectors)
