"""What the REPL writes to standard error besides plain notices: errors and rows of a list."""

from __future__ import annotations

import contextlib
import sys
import textwrap

from knock.cli.ui.style import styled
from knock.cli.ui.terminal import columns, say, visible_lines, wrapped

_NARROW = 50  # columns; narrower terminals have no room for a column of descriptions
_LABEL = "error:"


def say_failure(error: object) -> None:
    """Report an error in an interactive session; "error:" is red."""
    message = f"{_LABEL} {visible_lines(str(error))}"
    if sys.stderr.isatty():
        message = wrapped(message, columns())
    with contextlib.suppress(OSError):
        print(styled(_LABEL, "red", sys.stderr) + message.removeprefix(_LABEL), file=sys.stderr, flush=True)


def say_row(label: str, text: str, start: int, width: int) -> None:
    """Say a row of a list: a label, and a text in the column beside it, or below it on a narrow terminal.

    Args:
        label: The label.
        text: The text.
        start: Column at which the text starts.
        width: Width of the lines.
    """
    rest = 4 if width < _NARROW else start
    say(filled(text, width, f"{label:<{start - 1}} ", " " * rest), is_essential=True)


def filled(text: str, width: int, first: str = "", rest: str = "") -> str:
    """Return text in lines of at most `width` columns, broken between words; longer words stay whole.

    Args:
        text: The text.
        width: Width of the lines; at least 20 are used.
        first: Start of the first line.
        rest: Start of the other lines.
    """
    return textwrap.fill(
        text, max(20, width), initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
