"""Bars of one cell each, for attention by distance and for numbers below the characters of a text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BARS = " ▁▂▃▄▅▆▇█"

Array = npt.NDArray[np.float64]
Edges = npt.NDArray[np.int64]


def edges_of(distances: int, cells: int) -> Edges:
    """Return the boundaries of at most `cells` ranges of distances, [cells + 1]: one each, or else on a log scale."""
    edges: Edges = np.arange(distances + 1)
    if distances <= cells:
        return edges
    for count in range(cells, distances + 2):  # close distances share a boundary, so more boundaries may fit
        rounded = np.unique(np.rint(np.geomspace(1, distances + 1, count + 1)).astype(np.int64)) - 1
        if len(rounded) - 1 > cells:
            break
        edges = rounded
    return edges


def bars_of(values: Array, edges: Edges) -> str:
    """Return a row of bars; each cell is the largest value in its range, scaled to the largest of all."""
    cells = np.maximum.reduceat(np.nan_to_num(values), edges[:-1])
    return levels(cells, cells.max() or 1)


def levels(values: Array, top: float) -> str:
    """Return a bar for each value, from 0 to `top`; larger values are full bars."""
    heights = np.rint(np.clip(values / top, 0, 1) * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[height] for height in heights)
