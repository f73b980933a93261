"""Matrix products over packed weights."""

from __future__ import annotations

from knock_kernels.cpu import WIDTH
from knock_kernels.jit import f32p, i64, kernel, unit, void
from knock_kernels.simd import TILE_VECTORS, at, make_linear

_linear_8, _linear_4, _linear_2, _linear_1 = (make_linear(rows, TILE_VECTORS[rows]) for rows in (8, 4, 2, 1))
_PANEL = 2**16  # floats of weights that stay in the second-level cache while all rows go by
_PANEL_STEP = 24  # vectors: whole tiles of every height
_TYPE = void(f32p, i64, f32p, i64, f32p, i64, f32p, i64, i64, i64, i64)


@kernel
def linear(x, ldx, w, ldw, init, ldinit, out, ldout, rows, K, vectors):
    """out = init + x @ w: [rows, K], [K, vectors * WIDTH] -> [rows, vectors * WIDTH].

    `ldinit` 0 gives every row the same start, a bias; `init` may be `out`, to add to what is there.
    """
    if rows <= 8:
        linear_rows(x, ldx, w, ldw, init, ldinit, out, ldout, rows, K, vectors)
    else:
        linear_panels(x, ldx, w, ldw, init, ldinit, out, ldout, rows, K, vectors)


@unit(_TYPE)
def linear_rows(x, ldx, w, ldw, init, ldinit, out, ldout, rows, K, vectors):
    """`linear` with all of w for some rows, then for the next."""
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


@unit(_TYPE)
def linear_panels(x, ldx, w, ldw, init, ldinit, out, ldout, rows, K, vectors):
    """`linear` with one panel of w for all rows, then the next, so that w is read from memory only once."""
    panel = max(1, _PANEL // (WIDTH * max(K, 1)) // _PANEL_STEP) * _PANEL_STEP
    for start in range(0, vectors, panel):
        columns = start * WIDTH
        linear_rows(x, ldx, at(w, columns), ldw, at(init, columns), ldinit, at(out, columns), ldout, rows, K,
                    min(panel, vectors - start))  # fmt: skip
