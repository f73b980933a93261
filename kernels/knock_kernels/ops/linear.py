"""Matrix products over packed weights.

A weight matrix [K, N] is packed in panels of PANEL vectors of columns, each stored row by row; the last panel may be
narrower. A product thus reads the weights sequentially, and a panel serves tiles of any height.
"""

from __future__ import annotations

from knock_kernels.lang.cpu import WIDTH
from knock_kernels.lang.layout import PANEL
from knock_kernels.lang.simd import TILE_VECTORS, at, make_linear
from knock_kernels.lang.units import f32p, i64, unit, void

_linear_8, _linear_4, _linear_2, _linear_1 = (make_linear(rows, TILE_VECTORS[rows]) for rows in (8, 4, 2, 1))
_WIDEST_OF_8 = TILE_VECTORS[8]


@unit(void(f32p, i64, f32p, i64, f32p, i64, f32p, i64, i64, i64, i64))
def tiles(x, ldx, w, ldw, init, ldinit, out, ldout, rows, K, vectors):
    """Compute out = init + x @ w for a range of columns, in tiles of 8, 4, 2 and 1 rows.

    This is a separate unit because, inlined into the loop over panels, the setup of every tile would be hoisted out of
    that loop.
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


@unit(void(f32p, i64, f32p, f32p, i64, f32p, i64, i64, i64, i64, i64, i64))
def linear(x, ldx, w, init, ldinit, out, ldout, rows, K, vectors, first, last):
    """Compute out = init + x @ w: [rows, K], [K, vectors * WIDTH] -> [rows, vectors * WIDTH].

    Only vectors `first` to `last` of each row are written, `last` excluded. With `ldinit` 0, every row starts from the
    same bias. `init` may be `out`, to accumulate.
    """
    start = first
    while start < last:
        panel = start // PANEL * PANEL
        width = min(PANEL, vectors - panel)
        end = min(panel + width, last)
        # Weights that do not fit in the L1 cache stay in L2 while all rows pass over a narrow range of columns.
        if rows > 8:
            end = min(end, start + _WIDEST_OF_8)
        columns, ldw = start * WIDTH, width * WIDTH
        tiles(x, ldx, at(w, panel * WIDTH * K + columns - panel * WIDTH), ldw, at(init, columns), ldinit,
              at(out, columns), ldout, rows, K, end - start)  # fmt: skip
        start = end
