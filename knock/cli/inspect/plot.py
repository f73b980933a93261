"""Draw the plot of `inspect`: the patterns of every head as small multiples, and the text coloured by surprise."""

from __future__ import annotations

import io
import math
import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from knock.cli.inspect.subject import Subject, head_name, label
from knock.cli.ui.heat import STEPS

_FONT = "DejaVu Sans"  # bundled with Matplotlib
_STYLE: Any = {
    "font.family": _FONT,
    "font.size": 9,
    "text.usetex": False,
    "text.parse_math": False,  # show $ literally
    "svg.fonttype": "none",
    "svg.hashsalt": "knock",  # the same ids in every file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
}
_PANEL, _MIN_WIDTH = (2.6, 1.9), 7.0  # inches
_DPI, _MAX_PIXELS = 150, 60_000  # pixels per side, just below the limit of PNG writers
_LINES = (".-", "--", "-.")  # line styles of the series
_TITLE_CHARS, _TERM_CHARS = 12, 15  # characters of the title and the legend per inch
_FAINT = "#555555"
_CELL = 0.16  # width of a character in the strip, in inches
_ROWS = 8  # maximum number of rows in the strip


def plot(subject: Subject, suffix: str) -> bytes:
    """Return the plot as the content of a file.

    Args:
        subject: What to draw.
        suffix: Format, `"png"` or `"svg"`.
    """
    L, H = subject.config.n_blocks, subject.config.n_heads
    width = max(_MIN_WIDTH, H * _PANEL[0])
    with mpl.rc_context(_STYLE):
        length = int((width - 1.6) / _CELL)
        rows = [] if subject.is_own else _strip_rows(subject, length)
        lines = [subject.model, f"on {subject.source}"]
        title = [line for each in lines for line in textwrap.wrap(_drawn(each), int(width * _TITLE_CHARS))]
        terms = [f"{name}: {meaning}" for name, meaning in subject.terms]
        legend = [line for each in terms for line in textwrap.wrap(each, int(width * _TERM_CHARS))]
        series = len(subject.series) + 1
        heights = [0.25 + 0.17 * len(title) + 0.15 * len(legend) + 0.2 * series, 0.5 + L * _PANEL[1]]
        heights += [max(1.5, 0.6 + 1.6 * _CELL * len(rows))] * bool(rows)
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
        head, patterns, *strip = parts
        panels = _draw_patterns(patterns, subject)
        top = sum(heights[:1])
        head.text(0.01, 1 - 0.06 / top, "\n".join(title), va="top", fontsize=10)
        below = 1 - (0.12 + 0.17 * len(title)) / top
        head.text(0.01, below, "\n".join(legend), va="top", fontsize=8, color=_FAINT)
        head.legend(*panels[0, 0].get_legend_handles_labels(), loc="lower left", frameon=False, borderpad=0)
        if rows:
            _draw_strip(strip[0], subject, rows, length)
        _lay_out(figure, parts)
        out = io.BytesIO()
        dpi = min(_DPI, _MAX_PIXELS / max(width, sum(heights)))
        metadata = {"Date": None} if suffix == "svg" else None  # the same plot gives the same bytes
        figure.savefig(out, format=suffix, dpi=dpi, facecolor="white", metadata=metadata)
    return out.getvalue()


def _lay_out(figure: Any, parts: Any) -> None:
    """Lay a figure out, and round the places. The last digits of the solver depend on addresses in memory."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in parts:
        part.bbox_relative.bounds = np.round(part.bbox_relative.bounds, 6)
    for axes in figure.axes:
        axes.set_position(np.round(axes.get_position(original=True).bounds, 6), which="original")


def _draw_patterns(part: Any, subject: Subject) -> Any:
    """Draw one panel per head; return the panels, [L, H]."""
    L, H = subject.config.n_blocks, subject.config.n_heads
    series, gates = subject.series, subject.inspection.attention.gates
    distances = np.arange(1, subject.distances + 1)
    tops = [each.patterns.mean for each in series] + [series[0].patterns.mean + series[0].patterns.spread]
    largest = min(1.0, max(float(np.nanmax(top)) for top in tops)) * 1.05
    panels = part.subplots(L, H, squeeze=False, sharex=True, sharey=True)  # one scale, so that heads can be compared
    for (b, h), axes in np.ndenumerate(panels):
        for number, each in enumerate(series):
            if not each.has(b) and (b, h) != (0, 0):  # the legend is that of the first panel
                continue
            mean, spread, colour = each.patterns.mean[b, h], each.patterns.spread[b, h], each.colour
            style = {"color": colour, "markersize": 3, "linewidth": 1.2, "label": _drawn(each.meaning)}
            axes.plot(distances, mean, _LINES[number], **style)
            if number == 0:
                low, high = np.maximum(mean - spread, 0), np.minimum(mean + spread, 1)
                axes.fill_between(distances, low, high, color=colour, alpha=0.2, linewidth=0,
                                  label="standard deviation over the positions")  # fmt: skip
        gate = f", gate {gates[b, h]:.2f}" if gates is not None and not np.isnan(gates[b, h]) else ""
        axes.set_title(head_name(b, h) + gate)
        if series[0].distance is not None:
            back = f"distance {series[0].distance[b, h]:.1f}"
            axes.text(0.99, 0.97, back, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=_FAINT)
        axes.set_ylim(0, largest)
        axes.yaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        if subject.has_log_axis:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(LogLocator(2, numticks=12))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda distance, _: f"{distance:g}"))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    part.supxlabel(subject.axis + (f"\n{subject.lacks}" if subject.lacks else ""), fontsize=9)
    part.supylabel("attention of the head, %", fontsize=9)
    return panels


def _strip_rows(subject: Subject, length: int) -> list[range]:
    """Return the range of characters in each row: a line of the text, or as much of it as fits."""
    rows: list[range] = []
    start = 0
    text = subject.inspection.text
    while start < len(text) and len(rows) < _ROWS:
        newline = text.find("\n", start, start + length)
        end = min(len(text), start + length) if newline < 0 else newline + 1
        rows.append(range(start, end))
        start = end
    return rows


def _draw_strip(part: Any, subject: Subject, rows: list[range], length: int) -> None:
    """Draw each character on the colour of its surprise, as in the heat map of `knock score`.

    Args:
        part: Where to draw.
        subject: What to draw.
        rows: The characters of each row.
        length: Length of a full row, which sets the size of a character.
    """
    inspection = subject.inspection
    starts, papers, inks = zip(*STEPS, strict=True)
    norm = BoundaryNorm(starts, len(starts) - 1)
    papers = tuple(paper or "white" for paper in papers)
    colours = ListedColormap(papers[:-1]).with_extremes(over=papers[-1])
    cells = np.full((len(rows), length), math.nan)
    for row, places in enumerate(rows):
        cells[row, : len(places)] = inspection.surprise[places.start : places.stop]
    axes = part.subplots()
    axes.imshow(cells, cmap=colours, norm=norm, aspect=1.6, interpolation="nearest")
    for row, places in enumerate(rows):
        for column, place in enumerate(places):
            char = inspection.text[place]
            drawn = _drawn(label(char)) if char != " " else ""
            step = int(np.searchsorted(starts, max(0.0, cells[row, column]), "right")) - 1
            axes.text(
                column,
                row,
                drawn if len(drawn) <= 2 else "□",
                color=inks[step] or "black",
                ha="center",
                va="center",
                fontsize=8,
            )
    axes.set_axis_off()
    shown = rows[-1].stop
    more = f"; first {shown:,} of {len(inspection.text):,} characters" * (shown < len(inspection.text))
    axes.set_title(f"surprise of each character in bits, 0 expected ... 8 or more surprising{more}", loc="left")
    bar = part.colorbar(ScalarMappable(norm, colours), ax=axes, pad=0.01, aspect=12, extend="max", format="%g")
    bar.set_label("bits")


def _drawn(text: str) -> str:
    """Replace characters that the font lacks with escapes."""
    font = get_font(findfont(_FONT))
    return "".join(
        char if char == "\n" or font.get_char_index(ord(char)) else char.encode("ascii", "backslashreplace").decode()
        for char in text
    )
