"""Matrix products over packed weights.

A weight matrix [K, N] is packed in panels of PANEL columns, each stored row by row; the last panel may be
narrower. A product thus reads the weights sequentially, and a panel serves tiles of any height.
"""

from __future__ import annotations

from typing import Any

from knock_kernels.lang.cpu import REGISTER
from knock_kernels.lang.layout import PANEL, Linear
from knock_kernels.lang.records import exists
from knock_kernels.lang.tiles import PAIRS, QUADS, TILE_REGISTERS, CodeProducts, make_code_linear, make_linear
from knock_kernels.lang.units import f32p, i32p, i64, inlined, unit, void

_linear_8, _linear_4, _linear_2, _linear_1 = (make_linear(rows, TILE_REGISTERS[rows]) for rows in (8, 4, 2, 1))
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
    K, start = layer.K, first
    init, ldinit = (out, ldout) if layer.is_added else (layer.bias, 0)
    while start < last:
        panel, width, end = piece(start, last, layer.N, rows)
        w = layer.weights + panel * K + (start - panel)
        tiles(x, ldx, w, width, init + start, ldinit, out + start, ldout, rows, K, end - start)
        start = end


@inlined
def piece(start: int, last: int, N: int, rows: int):
    """Return the panel that a column is in, the panel's width, and the end of the columns to compute together."""
    panel = start // PANEL * PANEL
    width = min(PANEL, N - panel)
    end = min(panel + width, last)
    # Weights that do not fit in the L1 cache stay in L2 while all rows pass over a narrow range of columns.
    if rows > 8:
        end = min(end, start + _WIDEST_OF_8)
    return panel, width, end


def _code_tiles(name: str, products: CodeProducts) -> Any:
    """Return the unit that computes some columns of a product of codes, in tiles of 8, 4, 2 and 1 rows."""
    tile_8, tile_4, tile_2, tile_1 = (make_code_linear(rows, TILE_REGISTERS[rows], products) for rows in (8, 4, 2, 1))

    def code_tiles(
        x: i32p, ldx: i64, w: i32p, ldw: i64, correction: i32p, factor: f32p, scale: f32p, init: f32p, ldinit: i64,
        out: f32p, ldout: i64, rows: i64, K: i64, columns: i64,
    ) -> void:  # fmt: skip
        """Compute out = init + scale * factor * (correction + x @ w) for a range of columns of codes."""
        registers = columns // REGISTER
        while rows >= 8:
            tile_8(x, ldx, w, ldw, correction, factor, scale, init, ldinit, out, ldout, K, registers)
            x, scale, init, out, rows = x + 8 * ldx, scale + 8, init + 8 * ldinit, out + 8 * ldout, rows - 8
        if rows >= 4:
            tile_4(x, ldx, w, ldw, correction, factor, scale, init, ldinit, out, ldout, K, registers)
            x, scale, init, out, rows = x + 4 * ldx, scale + 4, init + 4 * ldinit, out + 4 * ldout, rows - 4
        if rows >= 2:
            tile_2(x, ldx, w, ldw, correction, factor, scale, init, ldinit, out, ldout, K, registers)
            x, scale, init, out, rows = x + 2 * ldx, scale + 2, init + 2 * ldinit, out + 2 * ldout, rows - 2
        if rows >= 1:
            tile_1(x, ldx, w, ldw, correction, factor, scale, init, ldinit, out, ldout, K, registers)

    code_tiles.__name__ = name
    return unit(code_tiles)


pair_tiles, quad_tiles = _code_tiles("pair_tiles", PAIRS), _code_tiles("quad_tiles", QUADS)


@unit
def code_linear(
    layer: Linear, codes: i32p, ldx: i64, scales: f32p, out: f32p, ldout: i64, rows: i64, first: i64, last: i64
) -> void:
    """Compute the product of rows of codes: out = bias + scale * factor * (codes @ weights), or add that to out.

    Args:
        layer: the product; K counts words. With corrections, the codes are bytes, otherwise int16.
        codes: [rows, ldx] words.
        ldx: words from a row to the next.
        scales: [rows], the step of each row's codes.
        out: [rows, ldout].
        ldout: numbers from a row to the next.
        rows: number of rows.
        first: first column, a multiple of WIDTH.
        last: the column after the last, a multiple of WIDTH.
    """
    K, start = layer.K, first
    init, ldinit = (out, ldout) if layer.is_added else (layer.bias, 0)
    while start < last:
        panel, width, end = piece(start, last, layer.N, rows)
        w = layer.codes + panel * K + (start - panel)
        correction, factor, columns = layer.corrections + start, layer.factor + start, end - start
        if exists(layer.corrections):
            quad_tiles(codes, ldx, w, width, correction, factor, scales, init + start, ldinit, out + start, ldout,
                       rows, K, columns)  # fmt: skip
        else:
            pair_tiles(codes, ldx, w, width, correction, factor, scales, init + start, ldinit, out + start, ldout,
                       rows, K, columns)  # fmt: skip
        start = end
