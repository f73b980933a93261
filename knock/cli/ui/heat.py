"""Heat map: a text coloured by the surprise of each character, for `score`, `inspect` and the REPL."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from knock.cli.ui.terminal import END, END_SIGN, printable

# Start in bits, background and text colour of each step, from low to high surprise. A character belongs to the last
# step that starts at or below its surprise. The first has no colours: an expected character, with a probability above
# one half, looks like any other text. The others are about equally light and ever more colourful, so that each is
# farther from a white and from a dark background than the one before, for colour-blind readers too.
STEPS: tuple[tuple[float, str, str], ...] = (
    (0.0, "", ""),
    (1.0, "#a0948d", "#000000"),
    (2.0, "#bf946e", "#000000"),
    (4.0, "#cf8f55", "#000000"),
    (6.0, "#e68e41", "#000000"),
    (8.0, "#f97d16", "#000000"),
)
_STYLES = [(start, Style(color=ink or None, bgcolor=paper or None)) for start, paper, ink in STEPS]
_SKIPPED = Style(dim=True)
_BREAKS = {"\n": "↵", END: END_SIGN}  # what ends a line, and its visible form

_SCALED = "surprise in bits:"
DIGITS = "surprise in whole bits below the text: 0 expected ... 9+ surprising, ? skipped"


def style_of(bits: float) -> Style:
    """Return the style of a character with the given surprise; a skipped character, with NaN, is dim."""
    if math.isnan(bits):
        return _SKIPPED
    return next((style for start, style in reversed(_STYLES) if bits >= start), _STYLES[0][1])


def heat_lines(text: Iterable[str], bits: Iterable[float], width: int) -> Iterator[Text]:
    """Yield the text in lines of at most `width` cells, with the surprise of each character as its background.

    A newline and the end of an item have a surprise, too, so they are shown as visible symbols. Control characters are
    made visible.

    Args:
        text: Characters of the text, consumed lazily; `terminal.END` stands for the end of an item.
        bits: Surprise of each character; NaN for a skipped character.
        width: Maximum width of a line in cells; at least 10, the width of the longest escape.
    """
    for row in _rows(text, bits, width):
        line = Text(no_wrap=True, overflow="ignore")
        for style, run in groupby(row, lambda cell: style_of(cell[1])):
            line.append("".join(shown for shown, _ in run), style)
        yield line


def heat_digits(text: Iterable[str], bits: Iterable[float], width: int) -> Iterator[str]:
    """Yield the same without colours: each line of text, then a line with the surprise in whole bits, at most 9.

    The digit is below the first cell of its character; a skipped character has a `?`. A character of zero width, such
    as a combining accent, has no digit.
    """
    for row in _rows(text, bits, width):
        line = under = ""
        for shown, surprise in row:
            begin = cell_len(line)
            line += shown
            if cell_len(line) > begin:
                under = under.ljust(begin) + ("?" if math.isnan(surprise) else str(int(max(0, min(9, surprise)))))
        yield from (line, under)


def _rows(text: Iterable[str], bits: Iterable[float], width: int) -> Iterator[list[tuple[str, float]]]:
    """Yield the lines, each a list of displayed characters and their surprise."""
    row: list[tuple[str, float]] = []
    line = ""
    for char, surprise in zip(text, bits, strict=True):
        shown = _BREAKS.get(char) or printable(char)
        # Measure the whole line, because joined characters are narrower than their sum.
        if line and cell_len(line + shown) > width:
            yield row
            row, line = [], ""
        row.append((shown, surprise))
        line += shown
        if char in _BREAKS:
            yield row
            row, line = [], ""
    if row:
        yield row


def legend(width: int | None = None) -> Text:
    """Return the legend: the colours with the bits at which they start; in two lines if one is wider than `width`."""
    scale = Text("expected ")
    for start, _, _ in STEPS[1:]:
        scale.append(f" {start:g}+ ", style_of(start))
    scale.append(" surprising")
    is_wide = width is None or len(_SCALED) + 1 + scale.cell_len <= width
    return Text.assemble(_SCALED, " " if is_wide else "\n", scale)
