"""A text coloured by the surprise of each character: the heat map of `score`, `inspect` and the REPL."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from knock.cli.ui.terminal import printable

# From no surprise to much: Cividis (Nuñez et al. 2018), whose steps colour-blind readers tell apart, with the ink that
# is read best on each. A character belongs to the last step that begins at or below its surprise in bits.
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
_PASSED_OVER = Style()
_NEWLINE = "↵"

DIGITS = "under each character its surprise in whole bits; 9 is 9 or more, ? a character that was passed over"


def style_of(bits: float) -> Style:
    """How a character of that surprise is shown; without a colour where it is NaN, for want of one."""
    if math.isnan(bits):
        return _PASSED_OVER
    return next((style for start, style in reversed(_STYLES) if bits >= start), _STYLES[0][1])


def heat_lines(text: Iterable[str], bits: Iterable[float], width: int) -> Iterator[Text]:
    """The text in lines of at most `width` cells, each character on the colour of its surprise.

    A newline is shown as a sign of its own, since it too is a character that was more or less expected; what could
    steer the terminal is written out.

    Args:
        text: its characters; taken one by one, so that it may be long.
        bits: the surprise of each of them; NaN for one that has none.
        width: of the lines, in cells; at least 10, which a character that is written out can take.
    """
    for row in _rows(text, bits, width):
        line = Text(no_wrap=True, overflow="ignore")
        for style, run in groupby(row, lambda cell: style_of(cell[1])):
            line.append("".join(shown for shown, _ in run), style)
        yield line


def heat_digits(text: Iterable[str], bits: Iterable[float], width: int) -> Iterator[str]:
    """The same without colours: under each line of text one of digits, the surprise in whole bits, 9 for more.

    A digit stands under the first cell of its character, a ? under one that has no surprise. A character that has no
    cell, such as an accent that goes onto the letter before it, has no digit either.
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
    """The characters of each line as they are shown, with their surprise."""
    row: list[tuple[str, float]] = []
    line = ""
    for char, surprise in zip(text, bits, strict=True):
        shown = _NEWLINE if char == "\n" else printable(char)
        if line and cell_len(line + shown) > width:  # of the whole line: characters that join take less than each alone
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
    """The colours with the bits at which they begin."""
    told = Text("surprise in bits: ")
    for start, _, _ in STEPS:
        told.append(f" {start:g}+ ", style_of(start))
    return told
