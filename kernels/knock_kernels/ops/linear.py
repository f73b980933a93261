"""Matrix products over packed weights.

A weight matrix [K, N] is packed in panels of PANEL columns, each stored row by row; the last panel may be
narrower. A product thus reads the weights sequentially, and a panel serves tiles of any height.
"""

from __future__ import annotations

from knock_kernels.lang.cpu import REGISTER
from knock_kernels.lang.layout import PANEL, Linear
from knock_kernels.lang.tiles import TILE_REGISTERS, make_code_linear, make_linear
from knock_kernels.lang.units import f32p, i32p, i64, unit, void

_linear_8, _linear_4, _linear_2, _linear_1 = (make_linear(rows, TILE_REGISTERS[rows]) for rows in (8, 4, 2, 1))
_codes_8, _codes_4, _codes_2, _codes_1 = (make_code_linear(rows, TILE_REGISTERS[rows]) for rows in (8, 4, 2, 1))
_WIDEST_OF_8 = TILE_REGISTERS[8] * REGISTER


@unit
def tiles(
    x: f32p, ldx: i64, w: f32p, ldw: i64, init: f32p, ldinit: i64, out: f32p, ldout: i64, rows: i64, K: i64,
    columns: i64,
) -> void:  # fmt: skip
    """Compute out = init + x @ w for a range of columns, in tiles of 8, 4, 2 and 1 rows.

    This is a separate unit because, inlined into the loop over panels, the setup of every tile would be hoisted out of
    that loop.
    """
    registers = columns // REGISTER
    while rows >= 8:
        _linear_8(x, ldx, w, ldw, init, ldinit, out, ldout, K, registers)
        x, init, out, rows = x + 8 * ldx, init + 8 * ldinit, out + 8 * ldout, rows - 8
    if rows >= 4:
        _linear_4(x, ldx, w, ldw, init, ldinit, out, ldout, K, registers)
        x, init, out, rows = x + 4 * ldx, init + 4 * ldinit, out + 4 * ldout, rows - 4
    if rows >= 2:
        _linear_2(x, ldx, w, ldw, init, ldinit, out, ldout, K, registers)
        x, init, out, rows = x + 2 * ldx, init + 2 * ldinit, out + 2 * ldout, rows - 2
    if rows >= 1:
        _linear_1(x, ldx, w, ldw, init, ldinit, out, ldout, K, registers)


@unit
def linear(layer: Linear, x: f32p, ldx: i64, out: f32p, ldout: i64, rows: i64, first: i64, last: i64) -> void:
    """Compute out = bias + x @ weights, or out += x @ weights if the layer is added: [rows, K] -> [rows, N].

    Only columns `first` to `last` of each row are written, `last` excluded; both are multiples of WIDTH.
    """
    K, N, start = layer.K, layer.N, first
    init, ldinit = (out, ldout) if layer.is_added else (layer.bias, 0)
    while start < last:
        panel = start // PANEL * PANEL
        width = min(PANEL, N - panel)
        end = min(panel + width, last)
        # Weights that do not fit in the L1 cache stay in L2 while all rows pass over a narrow range of columns.
        if rows > 8:
            end = min(end, start + _WIDEST_OF_8)
        w = layer.weights + panel * K + (start - panel)
        tiles(x, ldx, w, width, init + start, ldinit, out + start, ldout, rows, K, end - start)
        start = end


@unit
def code_tiles(
    x: i32p, ldx: i64, w: i32p, ldw: i64, factor: f32p, scale: f32p, init: f32p, ldinit: i64, out: f32p, ldout: i64,
    rows: i64, K: i64, columns: i64,
) -> void:  # fmt: skip
    """Compute out = init + scale * factor * (x @ w) for a range of columns, in tiles of 8, 4, 2 and 1 rows of codes."""
    registers = columns // REGISTER
    while rows >= 8:
        _codes_8(x, ldx, w, ldw, factor, scale, init, ldinit, out, ldout, K, registers)
        x, scale, init, out, rows = x + 8 * ldx, scale + 8, init + 8 * ldinit, out + 8 * ldout, rows - 8
    if rows >= 4:
        _codes_4(x, ldx, w, ldw, factor, scale, init, ldinit, out, ldout, K, registers)
        x, scale, init, out, rows = x + 4 * ldx, scale + 4, init + 4 * ldinit, out + 4 * ldout, rows - 4
    if rows >= 2:
        _codes_2(x, ldx, w, ldw, factor, scale, init, ldinit, out, ldout, K, registers)
        x, scale, init, out, rows = x + 2 * ldx, scale + 2, init + 2 * ldinit, out + 2 * ldout, rows - 2
    if rows >= 1:
        _codes_1(x, ldx, w, ldw, factor, scale, init, ldinit, out, ldout, K, registers)


@unit
def code_linear(
    layer: Linear, codes: i32p, ldx: i64, scales: f32p, out: f32p, ldout: i64, rows: i64, first: i64, last: i64
) -> void:
    """Compute the product of rows of codes: out = bias + scale * factor * (codes @ weights), or add that to out.

    Args:
        layer: the product; K counts words of two codes.
        codes: [rows, ldx] words.
        ldx: words from a row to the next.
        scales: [rows], the step of each row's codes.
        out: [rows, ldout].
        ldout: numbers from a row to the next.
        rows: number of rows.
        first: first column, a multiple of WIDTH.
        last: the column after the last, a multiple of WIDTH.
    """
    K, N, start = layer.K, layer.N, first
    init, ldinit = (out, ldout) if layer.is_added else (layer.bias, 0)
    while start < last:
        panel = start // PANEL * PANEL
        width = min(PANEL, N - panel)
        end = min(panel + width, last)
        # Weights that do not fit in the L1 cache stay in L2 while all rows pass over a narrow range of columns.
        if rows > 8:
            end = min(end, start + _WIDEST_OF_8)
        w = layer.codes + panel * K + (start - panel)
        code_tiles(codes, ldx, w, width, layer.factor + start, scales, init + start, ldinit, out + start, ldout, rows,
                   K, end - start)  # fmt: skip
        start = end
