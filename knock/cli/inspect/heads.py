"""Print the heads: one line each, or in full, as bars by distance."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from knock.cli.inspect.subject import Series, Subject
from knock.cli.ui.bars import Edges, bars_of, edges_of

_NARROW = 60  # cells; on narrower terminals, labels are above and below the bars instead of beside them
_SCALE = 20  # cells for the scale of a row
_FEWEST = 6  # cells for bars

Array = npt.NDArray[np.float64]


def heads_in_short(subject: Subject, width: int, has_colours: bool) -> Iterator[Text]:
    """Yield one line per head: its gate, its mean distance, where its attention peaks, and bars if there is room."""
    shown = [each for each in subject.series if each.distance is not None]
    heads = list(np.ndindex(subject.config.n_blocks, subject.config.n_heads))
    gap, tables = "  ", [_short_table(subject, each, is_narrow=False) for each in shown]
    if sum(_sizes(tables)) + len(gap) * (len(tables[0][0]) - 1) > width:
        gap, tables = " ", [_short_table(subject, each, is_narrow=True) for each in shown]
    sizes = _sizes(tables)
    room = width - sum(sizes) - len(gap) * len(sizes)
    edges = edges_of(subject.distances, room) if room >= _FEWEST else None

    terms = [("head", "block and head, counted from 1"), *subject.terms]
    terms.append(("peak", "the largest share of attention, and its distance"))
    if edges is not None:
        terms.append(("bars", f"attention by distance, {_range(edges)}; the peak is a full bar"))
    yield from _legend(terms, width)
    if subject.lacks:
        yield from _wrapped(subject.lacks, width)
    for series, table in zip(shown, tables, strict=True):
        yield Text()
        yield from _wrapped(f"{series.meaning[0].upper()}{series.meaning[1:]}:", width)
        for row, place in zip(table, [None, *heads], strict=True):
            first, *others = (cell.rjust(size) for cell, size in zip(row, sizes, strict=True))
            line = gap.join((first.strip().ljust(sizes[0]), *others))
            if edges is None or place is None:
                yield Text(line)
            else:
                bars = Text(bars_of(series.patterns.mean[place], edges), series.colour if has_colours else "")
                yield Text.assemble(line, gap, bars)


def _short_table(subject: Subject, series: Series, *, is_narrow: bool) -> list[list[str]]:
    """Return the header and the row of each head, as text."""
    gates = subject.inspection.attention.gates
    rows = [["head", "gate", "dist." if is_narrow else "distance", "peak"]]
    for b, h in np.ndindex(subject.config.n_blocks, subject.config.n_heads):
        peak = series.peak(b, h)
        share = "" if is_narrow else f"{series.patterns.mean[b, h, peak - 1]:.0%} at "
        gate = "" if gates is None or np.isnan(gates[b, h]) else f"{gates[b, h]:.2f}"
        distance = "" if series.distance is None else f"{series.distance[b, h]:.1f}"
        rows.append([f"{b + 1}.{h + 1}", gate, distance, f"{share}{peak}"])
    return rows if gates is not None else [row[:1] + row[2:] for row in rows]


def heads_in_full(subject: Subject, width: int, has_colours: bool) -> Iterator[Text]:
    """Yield for each head one row of bars per series, with its gate on the left and its peak on the right."""
    gates, series = subject.inspection.attention.gates, subject.series
    names = max(cell_len(each.name) for each in series)
    beside = 6 + 10 * (gates is not None)  # cells
    room = width if width < _NARROW else width - beside - names - 1 - _SCALE
    edges = edges_of(subject.distances, room)
    yield from _wrapped(f"Bars by distance, {_range(edges)}: {'; '.join(each.meaning for each in series)}.", width)
    yield from _wrapped(
        "Beside them, the largest share, its standard deviation and its distance; it is a full bar in its row.", width
    )
    for b, h in np.ndindex(subject.config.n_blocks, subject.config.n_heads):
        gate = f"gate {gates[b, h]:.2f}" if gates is not None and not np.isnan(gates[b, h]) else ""
        head = f"{f'{b + 1}.{h + 1}':<5} {gate}"
        if width < _NARROW:
            yield Text(head.rstrip())
        for each in (each for each in series if each.has(b)):
            bars = Text(bars_of(each.patterns.mean[b, h], edges), each.colour if has_colours else "")
            if width < _NARROW:
                yield from (Text(each.name), bars, Text(_scale(each, b, h)))
            else:
                yield Text.assemble(
                    f"{head:<{beside}}", set_cell_size(each.name, names + 1), bars, f" {_scale(each, b, h)}"
                )
                head = ""


def _legend(terms: list[tuple[str, str]], width: int) -> Iterator[Text]:
    """Yield a line or more per term."""
    widest = max(len(name) for name, _ in terms)
    for name, meaning in terms:
        yield from _hanging(name, meaning, widest, width)


def _hanging(name: str, meaning: str, widest: int, width: int) -> Iterator[Text]:
    indent = " " * min(widest + 2, width // 3)
    yield from map(Text, textwrap.wrap(f"{set_cell_size(name, widest)}  {meaning}", width, subsequent_indent=indent))


def _wrapped(line: str, width: int) -> Iterator[Text]:
    return map(Text, textwrap.wrap(line, width))


def _sizes(tables: list[list[list[str]]]) -> list[int]:
    """Return the width of each column, the same in all tables."""
    return [max(map(len, column)) for column in zip(*(row for table in tables for row in table), strict=True)]


def _range(edges: Edges) -> str:
    return f"1 to {edges[-1]:,}" + (", log scale" if len(edges) <= edges[-1] else "")


def _scale(series: Series, b: int, h: int) -> str:
    """Return the largest value of a row, its standard deviation and its distance, as text."""
    place = series.peak(b, h)
    mean, spread = series.patterns.mean[b, h, place - 1], series.patterns.spread[b, h, place - 1]
    return f"{mean:.1%} ±{100 * spread:.1f} at {place}"
