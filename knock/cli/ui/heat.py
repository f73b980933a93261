"""Heat map: a text coloured by the surprise of each character, for `score`, `inspect` and the REPL."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from knock.cli.ui.terminal import printable

# Start in bits, background and text colour of each step, from low to high surprise. The backgrounds are Cividis (Nuñez
# et al. 2018), which colour-blind readers can distinguish. A character belongs to the last step that starts at or below
# its surprise.
STEPS: tuple[tuple[float, str, str], ...] = (
    (0.0, "#00224e", "#ffffff"),
    (0.5, "#2a3f6d", "#ffffff"),
    (1.0, "#4b556c", "#ffffff"),
    (2.0, "#6e6e72", "#ffffff"),
    (3.0, "#8b8878", "#000000"),
    (4.0, "#aba074", "#000000"),
    (6.0, "#cebb60", "#000000"),
    (8.0, "#fee838", "#000000"),
)
_STYLES = [(start, Style(color=ink, bgcolor=paper)) for start, paper, ink in STEPS]
_SKIPPED = Style()
_NEWLINE = "↵"

DIGITS = "the surprise of each character below it, in whole bits; 9 means 9 or more, ? a skipped character"


def style_of(bits: float) -> Style:
    """Return the style of a character with the given surprise; NaN, for a skipped character, has no colour."""
    if math.isnan(bits):
        return _SKIPPED
    return next((style for start, style in reversed(_STYLES) if bits >= start), _STYLES[0][1])


def heat_lines(text: Iterable[str], bits: Iterable[float], width: int) -> Iterator[Text]:
    """Yield the text in lines of at most `width` cells, with the surprise of each character as its background.

    A newline has a surprise too, so it is shown as a visible symbol. Control characters are made visible.

    Args:
        text: Characters of the text, consumed lazily.
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
        shown = _NEWLINE if char == "\n" else printable(char)
        # Measure the whole line, because joined characters are narrower than their sum.
        if line and cell_len(line + shown) > width:
            yield row
            row, line = [], ""
        row.append((shown, surprise))
        line += shown
        if char == "\n":
            yield row
            row, line = [], ""
    if row:
        yield row


def legend() -> Text:
    """Return the legend: the colours with the bits at which they start."""
    line = Text("surprise in bits: ")
    for start, _, _ in STEPS:
        line.append(f" {start:g}+ ", style_of(start))
    return line
