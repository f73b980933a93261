"""Write with a model, a prompt a line.

Each line is a prompt, and the text that goes on from it follows as it comes; lines that begin with a slash are
commands, which /help lists. On a terminal, lines can be edited, completed by Tab and recalled, those of earlier
sessions too; a paste of several lines is one prompt, and nothing but /quit and Ctrl-D ends the session. Elsewhere,
lines are read from standard input: prompts with their texts go to standard output and everything else to standard
error, a line that cannot be done is told and left out, and the exit code is 1 if there was one. Statistics follow each
text on a terminal, or after /stats.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from knock.cli.ui import interrupts
from knock.cli.ui.options import add_backend_argument, whole_number
from knock.cli.ui.terminal import printable, say, visible_lines, write
from knock.errors import KnockError
from knock.models import DEFAULT

if TYPE_CHECKING:
    from knock.cli.repl.session import Session

EXAMPLES = r"""examples:
  knock repl
  knock repl --model my.safetensors --seed 7
  printf '/len 80\nROMEO:\n/again\n' | knock repl --seed 7 > texts.txt
"""

_PROMPT = "> "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--model", default=DEFAULT, help=f"a shipped model, a file or a folder (default: {DEFAULT})")
    parser.add_argument("--seed", type=whole_number(0, 2**64 - 1), metavar="N",
                        help="of every text, as /seed sets it (default: one is drawn for each)")  # fmt: skip
    add_backend_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Read lines, and do what they say."""
    from knock.cli.repl.session import Session
    from knock.cli.repl.settings import Settings

    is_terminal = on_terminal()
    settings = Settings(seed=options.seed, stats=is_terminal)
    session = Session(options.model, settings, backend=options.backend, is_terminal=is_terminal)
    return _converse(session) if is_terminal else _follow(session)


def on_terminal() -> bool:
    """Whether someone sits at both ends of the program."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _converse(session: Session) -> int:
    """Do what a user types, until that is enough."""
    from knock.cli.repl.commands import Quit, handle

    read = _reader(session)
    say(f"{printable(session.name)}; /help lists the commands")
    while True:
        try:
            handle(session, read())
        except KeyboardInterrupt:
            if interrupts.is_terminated():
                raise
        except KnockError as error:
            say(visible_lines(str(error)))
        except MemoryError as error:
            say(f"not enough memory: {error}")
        except (Quit, EOFError):
            return 0


def _follow(session: Session) -> int:
    """Do what the lines of standard input say; return the exit code."""
    from knock.cli.repl.commands import Quit, handle

    failed = False
    for number, content in enumerate(_input(), 1):
        try:
            handle(session, _line(content))
        except KnockError as error:
            say(f"knock: line {number}: {visible_lines(str(error))}")
            failed = True
        except Quit:
            break
    return int(failed)


def _reader(session: Session) -> Callable[[], str]:
    """What lets a user type a line; it raises EOFError on Ctrl-D."""
    if os.environ.get("TERM") == "dumb":
        return _typed
    from knock.cli.repl.prompt import reader

    return reader(session, _PROMPT)


def _typed() -> str:
    """A line from a terminal that can do nothing but show it."""
    content = b""
    try:
        write(_PROMPT)
        content = sys.stdin.buffer.readline()
    finally:
        if not content:  # neither Ctrl-C nor Ctrl-D ends the line
            write("\n")
    if not content:
        raise EOFError
    return _line(content)


def _input() -> Iterator[bytes]:
    """The lines of standard input as they come.

    Raises:
        KnockError: if it cannot be read.
    """
    try:
        yield from sys.stdin.buffer
    except (AttributeError, OSError) as error:  # AttributeError: there is no standard input at all
        raise KnockError("cannot read standard input; give it a line for each prompt or command") from error


def _line(content: bytes) -> str:
    """A line without its end.

    Raises:
        TextError: if it is not UTF-8.
    """
    from knock.files.text import decode_utf8

    return decode_utf8(content, "the line").removesuffix("\n")
