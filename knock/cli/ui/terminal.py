"""Standard output, standard error and the terminal: where text, notices and progress go."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path
from typing import TextIO

from knock.errors import KnockError

_USUAL_WIDTH = 80
_JOINERS = "\u200c\u200d"
_TOLD = 10  # errors of one kind, before they are only counted


def open_streams() -> None:
    """Make both streams UTF-8, and give a program that was started without standard error one that goes nowhere."""
    if sys.stderr is None:
        sys.stderr = nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def write(text: str) -> None:
    """Write to standard output, at once.

    Raises:
        KnockError: if it is closed.
    """
    if sys.stdout is None:
        raise KnockError("standard output is closed, so there is nowhere to write to")
    sys.stdout.write(text)
    sys.stdout.flush()


def write_bytes(data: memoryview) -> int:
    """Write UTF-8 to standard output, at once; return how many bytes.

    Raises:
        KnockError: if it is closed.
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
    """Whether what is written there cannot be gone back on: -, for standard output; a pipe; a device."""
    try:
        return path == "-" or not (Path(path).is_file() or Path(path).is_dir() or not Path(path).exists())
    except (OSError, ValueError):  # a folder that may not be entered, a NUL: whoever opens it will tell
        return False


def read_input() -> str:
    """All of standard input, as text.

    Raises:
        KnockError: if it is closed.
        TextError: if it is not UTF-8.
    """
    from knock.files.text import decode_utf8

    try:
        content = sys.stdin.buffer.read()
    except (AttributeError, OSError) as error:  # AttributeError: there is no standard input at all
        raise KnockError("cannot read standard input; give a text or a file as the argument") from error
    return decode_utf8(content, "standard input")


def say(message: str, end: str = "\n") -> None:
    """Write to standard error. A reader that is gone is no reason to stop what is being done."""
    try:
        print(message, end=end, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = nowhere()


class Told:
    """Tells what went wrong, the first few times."""

    def __init__(self) -> None:
        self._count = 0

    def tell(self, error: object) -> None:
        """Tell it."""
        self._count += 1
        if self._count <= _TOLD:
            say(f"knock: {visible_lines(str(error))}")
        elif self._count == _TOLD + 1:
            say("knock: and so on; more like this are counted and not told")


def is_live() -> bool:
    """Whether standard error is a terminal on which a line can be written over."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """Width of the terminal on standard error."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        return _USUAL_WIDTH


def printable(text: str) -> str:
    """Text in which whatever could control a terminal, or cannot be seen, is visible.

    Control characters are written as `cat -v` does, ESC as `^[` and U+0085 as `M-^E`; others as Python's escapes.
    Spaces of any width, and the joiners inside emoji and words, stay as they are.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def visible_lines(text: str) -> str:
    """The same for text of several lines: newlines and tabs stay as they are."""
    return "".join(char if char in "\n\t" else _visible(char) for char in text)


def for_output(text: str) -> str:
    """Text as it goes to standard output: unchanged into a pipe or a file, visible on a terminal."""
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
    """A stream that takes everything and keeps nothing."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  # it stays open to the end


def discard_output() -> None:
    """Let what is still buffered go nowhere, or Python would complain about it once more when it exits."""
    if sys.stdout is not None:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
