"""Output of the REPL with the surprise of each character, shown as a colour or as a digit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from knock.cli.repl.page import Page
from knock.cli.ui.heat import heat_digits, legend, style_of
from knock.cli.ui.terminal import columns, printable, say

_NEWLINE = "↵"
_PROMPT = Style(bold=True)


def heat_page(is_terminal: bool) -> Page:
    """Return a page with colours if the output is a terminal that supports them, otherwise one with digits."""
    console = Console()
    return ColourPage(console) if is_terminal and has_colours(console) else DigitPage(is_terminal)


def explain(is_terminal: bool) -> None:
    """Explain on standard error how surprise is shown."""
    console = Console()
    if is_terminal and has_colours(console):
        Console(stderr=True, width=columns()).print(legend(columns()))
    else:
        say("each text is repeated with the surprise of each character below it, in whole bits; 9 means 9 or more")


def has_colours(console: Console) -> bool:
    """Whether the terminal supports colours and the user has not disabled them."""
    return console.color_system is not None and not console.no_color


class DigitPage(Page):
    """Plain output; the generated text is repeated on standard error with a digit below each character."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__(is_terminal)
        self._text = ""
        self._bits: list[float] = []

    def end(self) -> None:
        """Finish the last line and print the digits."""
        super().end()
        for line in heat_digits(self._text, self._bits, columns()):
            say(line)

    def _show(self, text: str, bits: Sequence[float] | None) -> None:
        super()._show(text, None)
        if bits is not None:
            self._text += text
            self._bits += bits


class ColourPage(Page):
    """Output in which the background colour of each generated character shows its surprise.

    Lines are wrapped here, because a terminal that wraps a line may fill the rest of the next one with the last colour.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(is_terminal=True)
        self._console = console
        self._column = 0

    def _show_prompt(self, prompt: str) -> None:
        self._print(prompt, repeat(_PROMPT, len(prompt)), newline="")

    def _show(self, text: str, bits: Sequence[float] | None) -> None:
        if bits is None:
            self._print(text, repeat(None, len(text)), newline="")
        else:
            self._print(text, map(style_of, bits), newline=_NEWLINE)

    def _print(self, text: str, styles: Iterable[Style | None], newline: str) -> None:
        out = Text()
        for char, style in zip(text, styles, strict=True):
            shown = printable(char) if char != "\n" else newline
            if self._column + cell_len(shown) > self._console.width:
                out.append("\n")
                self._column = 0
            out.append(shown, style)
            self._column += cell_len(shown)
            if char == "\n":
                out.append("\n")
                self._column = 0
        self._console.print(out, end="", soft_wrap=True)
