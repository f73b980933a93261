"""Colours and weights of text on a terminal, written as ANSI codes; none in a pipe or where they are not wanted."""

from __future__ import annotations

import os
import sys
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31"}


def has_styles(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that shows colours: not a dumb one, and NO_COLOR is not set (no-color.org)."""
    if stream is None or not stream.isatty() or os.environ.get("NO_COLOR"):
        return False
    if sys.platform == "win32":  # the older console shows the codes themselves
        return "WT_SESSION" in os.environ or "TERM" in os.environ
    return os.environ.get("TERM") != "dumb"


def styled(text: str, style: str, stream: TextIO | None) -> str:
    """Return text in a style, `bold`, `dim` or `red`, for a stream; unchanged if the stream shows none."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if text and has_styles(stream) else text
