"""What the tour writes to standard output: explanations, texts with a margin, tables, bars."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len

from knock.cli.ui.style import styled
from knock.cli.ui.terminal import END, END_SIGN, columns, printable, write

MARGIN = "  | "
_NARROWEST = 20  # columns
_QUOTED = 20  # characters of a text that are quoted in a paragraph
_UNBROKEN = "\xa0"  # a space at which lines are not broken
_HANGING = 2  # columns by which rows, and their later lines, are indented
_BESIDE = 8  # columns of a text that is beside its label, at least


class Cell(NamedTuple):
    """A character of a text.

    Attributes:
        char: The character.
        style: Its style, as of `styled`; empty for none.
        is_marked: Whether there is a caret below it.
    """

    char: str
    style: str = ""
    is_marked: bool = False


def width() -> int:
    """Return the width of the terminal, or the least that the tour needs."""
    return max(_NARROWEST, columns())


def heading(text: str) -> None:
    """Write the title of a step."""
    write("\n" + "\n".join(styled(line, "bold", sys.stdout) for line in textwrap.wrap(text, width())) + "\n")


def say(text: str) -> None:
    """Write a paragraph, with an empty line before it. What `quoted` returns stays on one line."""
    lines = textwrap.fill(text, width(), break_on_hyphens=False, break_long_words=False)
    write("\n" + lines.replace(_UNBROKEN, " ") + "\n")


def quoted(text: str) -> str:
    """Return the end of a text in quotes, for a paragraph."""
    tail = text[-_QUOTED:]
    while len(repr(tail)) > _QUOTED + len("''"):  # escapes take more room
        tail = tail[1:]
    return ("…" if len(text) > len(tail) else "") + repr(tail).replace(" ", _UNBROKEN)


def row(label: str, text: str, start: int) -> None:
    """Write a row of a list: a label, and a text in the column beside it, or below it if there is no room."""
    is_beside = _HANGING + start + _BESIDE <= width()
    if not is_beside:
        write(f"{' ' * _HANGING}{label}".rstrip() + "\n")
    rest = " " * (_HANGING + start + _HANGING if is_beside else 2 * _HANGING)
    first = f"{' ' * _HANGING}{label:<{start}}" if is_beside else rest
    lines = textwrap.fill(
        text, width(), initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )
    write(f"{lines}\n")


def note(text: str) -> None:
    """Write a remark on the text above it."""
    lines = textwrap.wrap(text, width(), initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    write("\n".join(styled(line, "dim", sys.stdout) for line in lines) + "\n")


def command(text: str) -> None:
    """Write a command that writes the text below it. A long one is left to the terminal, so that it can be copied."""
    write(f"\n  {styled(text, 'bold', sys.stdout)}\n")


def sign(char: str) -> str:
    """Return the visible form of a character, or of the end of an item, that stands alone."""
    return {"\n": "↵", " ": "␣", END: END_SIGN}.get(char, printable(char))


def quote(cells: Iterable[Cell]) -> None:
    """Write a text with a margin, in lines broken between words, with a line of carets where there are some."""
    for line in _lines(list(cells), max(10, width() - len(MARGIN))):
        parts = (styled(part, style, sys.stdout) if style else part for part, style in _runs(line))
        write(f"{MARGIN}{''.join(parts)}\n{_carets(line)}")


def _lines(cells: Sequence[Cell], room: int) -> Iterator[Sequence[Cell]]:
    """Yield lines of at most `room` columns: at a newline, after the last space, or within a long word."""
    start, used, space = 0, 0, -1
    i = 0
    while i < len(cells):
        char = cells[i].char
        if char == "\n":
            yield cells[start:i]
            start, used, space = i + 1, 0, -1
        else:
            used += cell_len(printable(char))
            if used > room and char != " " and i > start:
                end = space + 1 if space >= start else i
                yield cells[start:end]
                start, used, space, i = end, 0, -1, end
                continue
            if char == " ":
                space = i
        i += 1
    if start < len(cells):
        yield cells[start:]


def _runs(line: Sequence[Cell]) -> Iterator[tuple[str, str]]:
    """Yield the visible characters of a line, those of equal style together, with their style."""
    text, style = "", ""
    for cell in line:
        if cell.style != style:
            yield text, style
            text, style = "", cell.style
        text += printable(cell.char)
    yield text.rstrip(" "), style


def _carets(line: Sequence[Cell]) -> str:
    """Return the line of carets below a line; empty if none of its characters is marked."""
    if not any(cell.is_marked for cell in line):
        return ""
    carets = "".join(("^" if cell.is_marked else " ").ljust(cell_len(printable(cell.char))) for cell in line)
    return f"{MARGIN}{carets.rstrip()}\n"
