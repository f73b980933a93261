"""Matrix products of the rows of codes of all lanes."""

from __future__ import annotations

from knock_kernels.lang.layout import PANEL, WIDTH, Linear, Wide
from knock_kernels.lang.records import exists
from knock_kernels.lang.tiles import PAIRS, QUADS, WIDE_COLUMNS, make_wide_linear
from knock_kernels.lang.units import f32p, inlined, unit, void

_pairs_from_bias, _pairs_added = (make_wide_linear(PAIRS, is_added=is_added) for is_added in (False, True))
_quads_from_bias, _quads_added = (make_wide_linear(QUADS, is_added=is_added) for is_added in (False, True))


@unit
def wide_linear(layer: Linear, out: f32p, wide: Wide) -> void:
    """Compute out = bias + scale * factor * (codes @ weights), or add that to out: [K, WIDTH] -> [N, WIDTH].

    Args:
        layer: the product, as in `code_linear`.
        out: [N, WIDTH].
        wide: the rows of codes, and the scale of each.
    """
    if exists(layer.corrections):
        if layer.is_added:
            in_tiles(_quads_added, layer, out, wide)
        else:
            in_tiles(_quads_from_bias, layer, out, wide)
    elif layer.is_added:
        in_tiles(_pairs_added, layer, out, wide)
    else:
        in_tiles(_pairs_from_bias, layer, out, wide)


@inlined
def in_tiles(tile, layer: Linear, out: f32p, wide: Wide):
    """Compute a product, one tile of columns at a time."""
    K, N = layer.K, layer.N
    for column in range(0, N, WIDE_COLUMNS):
        panel = column // PANEL * PANEL
        w, width = layer.codes + panel * K + (column - panel), min(PANEL, N - panel)
        tile(wide.codes, w, width, layer.corrections + column, layer.factor + column, wide.scales, layer.bias + column,
             out + column * WIDTH, K)  # fmt: skip
