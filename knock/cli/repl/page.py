"""What a text of the REPL is written on: standard output."""

from __future__ import annotations

from collections.abc import Sequence

from knock.cli.ui.terminal import visible_lines, write


class Page:
    """One text, as it comes.

    Args:
        is_terminal: whether standard output is one, which must not be steered by what is in a text.
    """

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._end = "\n"

    def write(self, text: str, bits: Sequence[float] | None = None) -> None:
        """Write some more.

        Args:
            text: what comes next.
            bits: the surprise of each of its characters; None of a prompt, or where it is not shown.
        """
        self._end = text[-1:] or self._end
        self._show(text, bits)

    def end(self) -> None:
        """Finish the last line."""
        if self._end != "\n":
            self._end = "\n"
            write("\n")

    def _show(self, text: str, bits: Sequence[float] | None) -> None:
        write(visible_lines(text) if self._is_terminal else text)
