"""Output of the REPL: writes a text to standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from knock.cli.ui.style import styled
from knock.cli.ui.terminal import visible_lines, write


class Page:
    """Writes one text as it is generated.

    Args:
        is_terminal: Whether standard output is a terminal. If so, control characters in the text are made visible, and
            the prompt is bold.
    """

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._end = "\n"

    def begin(self, prompt: str) -> None:
        """Write the prompt."""
        self._end = prompt[-1:] or self._end
        self._show_prompt(prompt)

    def write(self, text: str, bits: Sequence[float] | None = None) -> None:
        """Write the next part of the text.

        Args:
            text: The next part.
            bits: Surprise of each of its characters; None if surprise is not shown.
        """
        self._end = text[-1:] or self._end
        self._show(text, bits)

    def end(self) -> None:
        """Finish the last line."""
        if self._end != "\n":
            self._end = "\n"
            write("\n")

    def _show_prompt(self, prompt: str) -> None:
        write(styled(visible_lines(prompt), "bold", sys.stdout) if self._is_terminal else prompt)

    def _show(self, text: str, bits: Sequence[float] | None) -> None:
        write(visible_lines(text) if self._is_terminal else text)
