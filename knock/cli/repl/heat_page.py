"""Pages of the REPL that show the surprise of each character: by colours, or by digits where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from knock.cli.repl.page import Page
from knock.cli.ui.heat import heat_digits, legend, style_of
from knock.cli.ui.terminal import columns, printable, say

_NEWLINE = "↵"


def heat_page(is_terminal: bool) -> Page:
    """What suits the terminal, if it is one."""
    console = Console()
    return ColourPage(console) if is_terminal and has_colours(console) else DigitPage(is_terminal)


def explain(is_terminal: bool) -> None:
    """Say how the surprise is to be read."""
    console = Console()
    if is_terminal and has_colours(console):
        Console(stderr=True).print(legend())
    else:
        say("each text comes once more, under each character its surprise in whole bits, 9 for more")


def has_colours(console: Console) -> bool:
    """Whether the terminal has colours, and its user wants them."""
    return console.color_system is not None and not console.no_color


class DigitPage(Page):
    """A text, and then, on standard error, once more with a digit under each character that was generated."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__(is_terminal)
        self._text = ""
        self._bits: list[float] = []

    def end(self) -> None:
        """Finish the last line, and show the digits."""
        super().end()
        for line in heat_digits(self._text, self._bits, columns()):
            say(line)

    def _show(self, text: str, bits: Sequence[float] | None) -> None:
        super()._show(text, None)
        if bits is not None:
            self._text += text
            self._bits += bits


class ColourPage(Page):
    """A text with each character that was generated on the colour of its surprise.

    It breaks the lines itself: a terminal that does may fill the rest of the new line with the last colour.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(is_terminal=True)
        self._console = console
        self._column = 0

    def _show(self, text: str, bits: Sequence[float] | None) -> None:
        out = Text()
        for char, surprise in zip(text, repeat(None, len(text)) if bits is None else bits, strict=True):
            style = None if surprise is None else style_of(surprise)
            shown = printable(char) if char != "\n" else _NEWLINE if style else ""
            if self._column + cell_len(shown) > self._console.width:
                out.append("\n")
                self._column = 0
            out.append(shown, style)
            self._column += cell_len(shown)
            if char == "\n":
                out.append("\n")
                self._column = 0
        self._console.print(out, end="", soft_wrap=True)
