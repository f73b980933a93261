"""Write to standard output, standard error and the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from pathlib import Path
from typing import TextIO

from knock.cli.ui.style import styled
from knock.errors import KnockError

_DEFAULT_WIDTH = 80
_JOINERS = "\u200c\u200d"
_MAX_REPORTED = 10  # errors
_NO_CURSOR = ("dumb", "unknown")  # terminals whose cursor cannot move


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


def be_quiet(is_quiet: bool) -> None:
    """Suppress messages other than errors, or show them again."""
    _Messages.are_suppressed = is_quiet


class _Messages:
    """Whether messages are suppressed, by `--quiet`."""

    are_suppressed = False


def say(message: str, end: str = "\n", *, style: str = "", is_essential: bool = False) -> None:
    """Write a message to standard error; if its reader is gone, the command continues without messages.

    On a terminal, lines too long for it are wrapped between words.

    Args:
        message: the message.
        end: what follows it.
        style: its style, as of `styled`; applied to lines that are wrapped already, because codes take no room.
        is_essential: whether to write it even with `--quiet`: an error, or what the user asked for.
    """
    if _Messages.are_suppressed and not is_essential:
        return
    try:
        if sys.stderr.isatty() and not message.startswith("\r"):
            message = wrapped(message, columns())
        if style:
            message = "\n".join(styled(line, style, sys.stderr) for line in message.split("\n"))
        print(message, end=end, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = nowhere()


def say_error(error: object, program: str = "knock") -> None:
    """Write an error to standard error, as one line unless a terminal is narrower; "error:" is red there."""
    label = styled("error:", "red", sys.stderr)
    line = wrapped(f"{program}: error: {error}", columns()) if sys.stderr.isatty() else f"{program}: error: {error}"
    with contextlib.suppress(OSError):
        print(line.replace("error:", label, 1), file=sys.stderr, flush=True)


def is_wrapped() -> bool:
    """Whether long lines on standard output are wrapped: on a terminal, or if COLUMNS is set."""
    return "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty())


def wrapped(text: str, width: int) -> str:
    """Return text with lines of at most `width` columns, broken between words; longer words stay whole."""
    import textwrap  # here, since few commands need it

    def fill(line: str) -> str:
        indent = " " * (len(line) - len(line.lstrip(" ")))
        return textwrap.fill(
            line.strip(" "), max(width, 11), initial_indent=indent, subsequent_indent=f"{indent}  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip

    return "\n".join(line if len(line) <= width else fill(line) for line in text.split("\n"))


class ErrorReporter:
    """Reports the first few errors on standard error and suppresses the rest."""

    def __init__(self) -> None:
        self._count = 0

    def report(self, error: object) -> None:
        """Report an error."""
        self._count += 1
        if self._count <= _MAX_REPORTED:
            say(f"knock: {visible_lines(str(error))}", is_essential=True)
        elif self._count == _MAX_REPORTED + 1:
            say("knock: further errors are suppressed", is_essential=True)


def is_live() -> bool:
    """Whether to show live progress: on a terminal whose lines can be overwritten, and without `--quiet`."""
    if _Messages.are_suppressed:
        return False
    return sys.stderr.isatty() and os.environ.get("TERM") not in _NO_CURSOR and not _is_notebook()


def _is_notebook() -> bool:
    """Whether the command runs in a cell of a notebook, as `!knock ...`.

    IPython starts it on a pseudo-terminal, but shows what it writes as a log: a cursor cannot move there.
    """
    variables = os.environ
    if "JPY_PARENT_PID" in variables or any(name.startswith("COLAB_") for name in variables):
        return True
    # Set by ipykernel for its children; kernels that an editor starts set nothing else.
    return variables.get("TERM") == "xterm-color" and variables.get("GIT_PAGER") == "cat"


def columns() -> int:
    """Return the width of the terminal: COLUMNS if set, or that on standard error, or 80 if there is none."""
    if (given := os.environ.get("COLUMNS", "")).isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _DEFAULT_WIDTH
    except (OSError, ValueError):
        return _DEFAULT_WIDTH


END = "end"  # the end of an item among the characters of a text; no character is that long
END_SIGN = "∎"  # its visible form


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
