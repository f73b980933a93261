r"""Text on one line: \n, \r, \t and \\ stand for a newline, a carriage return, a tab and a backslash.

The same rule holds for stop strings on the command line, for prompt files of plain lines and for `.txt` rows.
"""

from __future__ import annotations

import re

_CHARACTERS = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_ESCAPE = re.compile(r"\\([nrt\\])")


def escape(text: str) -> str:
    r"""Return text on one line: line endings become \n and \r, backslashes \\. `unescape` is the inverse."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def unescape(text: str) -> str:
    r"""Replace the escapes \n, \r, \t and \\ with the characters they stand for; leave other text unchanged."""
    return _ESCAPE.sub(lambda match: _CHARACTERS[match[1]], text)
