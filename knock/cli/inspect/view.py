"""Print the inspection on a terminal or as plain text: patterns as bars, then the text character by character."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from knock.cli.inspect.subject import Subject, label
from knock.cli.ui.heat import DIGITS, heat_digits, heat_lines, legend, style_of
from knock.cli.ui.terminal import write
from knock.inspection import Patterns

_BARS = " ▁▂▃▄▅▆▇█"
_NARROW = 60  # cells; on narrower terminals, labels are above and below the bars instead of beside them
_SCALE = 20  # cells for the scale of a row
_ROWS = 40  # rows of the table before its header is repeated
_LIKELY, _LOOKED_AT = 4, 3  # predicted and attended characters in a row of the table

Array = npt.NDArray[np.float64]


def show(subject: Subject) -> None:
    """Print the inspection to standard output."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(20, console.width)
    has_colours = bool(console.color_system) and not (console.no_color or console.legacy_windows)
    for part in _parts(subject, width, has_colours):
        with console.capture() as captured:  # Rich itself would exit the process on a broken pipe
            console.print(part)
        shown = captured.get()
        write(shown if has_colours else "".join(f"{line.rstrip()}\n" for line in shown.splitlines()))


def _parts(subject: Subject, width: int, has_colours: bool) -> Iterator[RenderableType]:
    yield from _wrapped(subject.model, width)
    yield from _wrapped(f"on {subject.source}", width)
    yield Text()
    yield from _patterns(subject, width, has_colours)
    rows = np.arange(len(subject.inspection.text))
    if subject.is_own:  # then only the rows after the character given by --char are of interest
        token = -1 if subject.char is None else subject.vocab.characters.index(subject.char)
        rows = np.flatnonzero(subject.inspection.attention.read == token)
    else:
        yield from _heat(subject, width, has_colours)
    yield from _tables(subject, rows.tolist(), width, has_colours)


def _patterns(subject: Subject, width: int, has_colours: bool) -> Iterator[Text]:
    """Yield for each head one row of bars per series, with its gate on the left and its scale on the right."""
    attention, columns, series = subject.inspection.attention, subject.columns, subject.series
    has_gates = attention.gates is not None
    names = max(cell_len(each.name) for each in series)
    beside = 6 + 10 * has_gates  # cells
    room = width if width < _NARROW else width - beside - names - 1 - _SCALE
    each = math.ceil(len(columns) / room)  # columns of the window per cell
    cells = math.ceil(len(columns) / each)
    several = f"; each cell is the largest of {each}" * (each > 1)
    yield from _wrapped(f"{subject.axis}; from {columns[0]} on the left to {columns[-1]} on the right{several}", width)
    yield from _wrapped("a full bar is the largest value of the row, shown with its standard deviation", width)
    for shown in series:
        yield from _wrapped(f"{shown.name}: {shown.meaning}", width)
    if has_gates:
        yield from _wrapped("gate: weight of the reweight logits in the mixture", width)
    if subject.lacks:
        yield from _wrapped(subject.lacks, width)
    yield Text()
    for b, h in np.ndindex(subject.config.n_blocks, subject.config.n_heads):
        gate = f"gate {attention.gates[b, h]:.2f}" if attention.gates is not None else ""
        head = f"{f'{b + 1}.{h + 1}':<5} {gate}"
        if width < _NARROW:
            yield Text(head.rstrip())
        for name, _, colour, patterns in series:
            bars = Text(_bars(patterns.mean[b, h], each).ljust(cells), colour if has_colours else "")
            scale = _scale(patterns, b, h, columns)
            if width < _NARROW:
                yield from (Text(name), bars, Text(scale))
            else:
                yield Text.assemble(f"{head:<{beside}}", set_cell_size(name, names + 1), bars, f" {scale}")
                head = ""
    yield Text()


def _bars(values: Array, each: int) -> str:
    """Return a row of bars; each cell is the largest of `each` values, scaled to the largest of all."""
    padded = np.nan_to_num(np.pad(values, (0, -len(values) % each)))
    cells = padded.reshape(-1, each).max(-1)
    heights = np.rint(cells / (cells.max() or 1) * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[height] for height in heights)


def _scale(patterns: Patterns, b: int, h: int, columns: list[int]) -> str:
    """Return the largest value of a row, its standard deviation and its column, as text."""
    place = int(np.nanargmax(patterns.mean[b, h]))
    mean, spread = patterns.mean[b, h, place], patterns.spread[b, h, place]
    return f"{mean:.1%} ±{100 * spread:.1f} at {columns[place]}"


def _heat(subject: Subject, width: int, has_colours: bool) -> Iterator[Text]:
    text, bits = subject.inspection.text, subject.inspection.surprise.tolist()
    if has_colours:
        yield from (line for line in legend().wrap(Console(), width))
        yield from heat_lines(text, bits, width)
    else:
        yield from _wrapped(f"The text, and {DIGITS}.", width)
        yield from map(Text, heat_digits(text, bits, width))
    yield Text()


def _tables(subject: Subject, rows: list[int], width: int, has_colours: bool) -> Iterator[RenderableType]:
    """Yield tables of the given characters, with as many columns as fit."""
    if not rows:
        return
    inspection, attention = subject.inspection, subject.inspection.attention
    back, weight = attention.looked_at(attention.weights.mean((0, 1)), _LOOKED_AT)
    labels = [label(char) for char in subject.vocab.characters]
    wide = [("most likely", 26), ("attends to", width - 55)]
    extra = wide[: (width >= 55) + (width >= 75)]
    yield from _wrapped(
        "surprise, and entropy of the prediction, in bits"
        + ("; attends to: mean over all heads, with the offset (-1 is the previous one)" if len(extra) == 2 else "")
        + ".",
        width,
    )
    for start in range(0, len(rows), _ROWS):
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
        table.add_column("at", justify="right", width=4, no_wrap=True)
        table.add_column("char", width=4, no_wrap=True)
        table.add_column("surpr." if width < 40 else "surprise", justify="right", width=6 if width < 40 else 8)
        if width >= 40:
            table.add_column("entropy", justify="right", width=7)
        for name, size in extra:
            table.add_column(name, width=size, no_wrap=True, overflow="ellipsis")
        for t in rows[start : start + _ROWS]:
            bits = float(inspection.surprise[t])
            expected = zip(inspection.alternatives[t].tolist(), inspection.probabilities[t].tolist(), strict=True)
            likely = [f"{labels[token]} {p:.0%}" for token, p in expected]
            looked = zip(back[t].tolist(), weight[t].tolist(), strict=True)
            cells = [
                Text(str(t)),
                Text(label(inspection.text[t])),
                Text(f"{bits:.2f}", style_of(bits) if has_colours else ""),
                Text(f"{inspection.entropy[t]:.2f}"),
                Text(" ".join(likely[:_LIKELY])),
                Text(" ".join(f"{_before(subject, t - far)}-{far} {w:.0%}" for far, w in looked if far)),
            ]
            table.add_row(*cells[: len(table.columns)])
        yield table
        yield Text()


def _before(subject: Subject, place: int) -> str:
    """Return the label of the character at a position; -1 is the start token."""
    return label(subject.inspection.text[place]) if place >= 0 else "start"


def _wrapped(line: str, width: int) -> Iterator[Text]:
    return map(Text, textwrap.wrap(line, width))
