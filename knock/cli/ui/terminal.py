"""Write to standard output, standard error and the terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path
from typing import TextIO

from knock.errors import KnockError

_DEFAULT_WIDTH = 80
_JOINERS = "\u200c\u200d"
_MAX_REPORTED = 10  # errors


def open_streams() -> None:
    """Switch standard output and standard error to UTF-8; replace a missing standard error with a null stream."""
    if sys.stderr is None:
        sys.stderr = nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def write(text: str) -> None:
    """Write text to standard output and flush it.

    Raises:
        KnockError: if standard output is closed.
    """
    if sys.stdout is None:
        raise KnockError("standard output is closed, so there is nowhere to write to")
    sys.stdout.write(text)
    sys.stdout.flush()


def write_bytes(data: memoryview) -> int:
    """Write UTF-8 to standard output and flush it; return the number of bytes.

    Raises:
        KnockError: if standard output is closed.
    """
    if sys.stdout is None:
        raise KnockError("standard output is closed, so there is nowhere to write to")
    if sys.stdout.isatty():
        write(visible_lines(bytes(data).decode(errors="replace")))
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return len(data)


def is_stream(path: str) -> bool:
    """Whether an output is a stream, which cannot be rewritten: - for standard output, a pipe or a device."""
    try:
        return path == "-" or not (Path(path).is_file() or Path(path).is_dir() or not Path(path).exists())
    except (OSError, ValueError):  # no access, or NUL in the path: opening it reports the error
        return False


def read_input() -> str:
    """Read all of standard input as text.

    Raises:
        KnockError: if standard input cannot be read.
        TextError: if it is not UTF-8.
    """
    from knock.files.text import decode_utf8

    try:
        content = sys.stdin.buffer.read()
    except (AttributeError, OSError) as error:  # AttributeError: sys.stdin is None
        raise KnockError("cannot read standard input; pass a text or a file as the argument") from error
    return decode_utf8(content, "standard input")


def say(message: str, end: str = "\n") -> None:
    """Write a message to standard error; if its reader is gone, the command continues without messages."""
    try:
        print(message, end=end, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = nowhere()


class ErrorReporter:
    """Reports the first few errors on standard error and suppresses the rest."""

    def __init__(self) -> None:
        self._count = 0

    def report(self, error: object) -> None:
        """Report an error."""
        self._count += 1
        if self._count <= _MAX_REPORTED:
            say(f"knock: {visible_lines(str(error))}")
        elif self._count == _MAX_REPORTED + 1:
            say("knock: further errors are suppressed")


def is_live() -> bool:
    """Whether standard error is a terminal on which a line can be overwritten."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """Return the width of the terminal on standard error, or 80 if there is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _DEFAULT_WIDTH
    except (OSError, ValueError):
        return _DEFAULT_WIDTH


def printable(text: str) -> str:
    """Replace characters that are invisible or could control a terminal with visible escapes.

    Control characters are shown as by `cat -v`: ESC as `^[`, U+0085 as `M-^E`. Other characters are shown as Python
    escapes. Spaces of any width, and the joiners inside emoji and words, are unchanged.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def visible_lines(text: str) -> str:
    """Do the same for text of several lines: newlines and tabs are unchanged."""
    return "".join(char if char in "\n\t" else _visible(char) for char in text)


def for_output(text: str) -> str:
    """Return text for standard output: with visible escapes on a terminal, unchanged for a pipe or a file."""
    return visible_lines(text) if sys.stdout is not None and sys.stdout.isatty() else text


def _visible(char: str) -> str:
    code = ord(char)
    if char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs":
        return char
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    if 0x80 <= code < 0xA0:
        return f"M-^{chr(code ^ 0xC0)}"
    return repr(char)[1:-1]


def nowhere() -> TextIO:
    """Open the null device for writing."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  # stays open until exit


def discard_output() -> None:
    """Discard buffered output; otherwise Python reports the failed write again at exit."""
    if sys.stdout is not None:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
