"""Matrix products of the rows of codes of all lanes."""

from __future__ import annotations

from knock_kernels.lang.layout import PANEL, WIDTH, Linear, Wide
from knock_kernels.lang.tiles import WIDE_COLUMNS, make_wide_linear
from knock_kernels.lang.units import f32p, unit, void

_from_bias, _added = make_wide_linear(is_added=False), make_wide_linear(is_added=True)


@unit
def wide_linear(layer: Linear, out: f32p, wide: Wide) -> void:
    """Compute out = bias + scale * factor * (codes @ weights), or add that to out: [K, WIDTH] -> [N, WIDTH].

    Args:
        layer: the product; K counts words of codes.
        out: [N, WIDTH].
        wide: the rows of codes, and the scale of each.
    """
    K, N = layer.K, layer.N
    for column in range(0, N, WIDE_COLUMNS):
        panel = column // PANEL * PANEL
        width = min(PANEL, N - panel)
        w, factor, place = layer.codes + panel * K + (column - panel), layer.factor + column, out + column * WIDTH
        if layer.is_added:
            _added(wide.codes, w, width, factor, wide.scales, layer.factor, place, K)
        else:
            _from_bias(wide.codes, w, width, factor, wide.scales, layer.bias + column, place, K)
