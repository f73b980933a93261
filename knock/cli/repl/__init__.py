"""Generate text interactively, one prompt per line.

Each line is a prompt; the model continues it, and the text is printed as it is generated. Lines that start with a
slash are commands; /help lists them.

On a terminal, lines can be edited, completed with Tab and recalled, including those of earlier sessions, saved
in a file that only you can read, such as ~/.local/state/knock/history. Several pasted lines form one prompt. Statistics
follow each text, and only /quit or Ctrl-D ends the session.

Otherwise, lines are read from standard input. Prompts and texts go to standard output, everything else to standard
error. A line that fails is reported and skipped, and the exit code is then 1. /stats turns statistics on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from knock.cli.ui import interrupts
from knock.cli.ui.options import add_backend_argument, add_model_argument, add_precision_argument, add_seed_argument
from knock.cli.ui.terminal import printable, say, visible_lines, write
from knock.errors import KnockError

if TYPE_CHECKING:
    from knock.cli.repl.session import Session

EXAMPLES = r"""examples:
  knock repl
  knock repl --model my.safetensors --seed 7
  printf '/len 80\nROMEO:\n/again\n' | knock repl --seed 7 > texts.txt
"""

_PROMPT = "> "
_PICKING = "pick> "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_model_argument(parser)
    add_seed_argument(parser, "seed of every text, as set by /seed (default: a random seed for each)")
    add_backend_argument(parser)
    add_precision_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Run the REPL: interactively on a terminal, otherwise on the lines of standard input."""
    from knock.cli.repl.session import Session
    from knock.cli.repl.settings import Settings

    is_terminal = on_terminal()
    settings = Settings(seed=options.seed, stats=is_terminal)
    session = Session(
        options.model, settings, backend=options.backend, precision=options.precision, is_terminal=is_terminal
    )
    return _run_interactively(session) if is_terminal else _run_script(session)


def on_terminal() -> bool:
    """Whether both standard input and standard output are terminals."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _run_interactively(session: Session) -> int:
    """Run the interactive loop; return the exit code."""
    from knock.cli.repl.commands import Quit, handle
    from knock.cli.repl.notices import say_failure

    read = _reader(session)
    say(f"{printable(session.name)}; /help lists the commands")
    while True:
        try:
            handle(session, read())
        except KeyboardInterrupt:
            if interrupts.is_terminated():
                raise
            session.end_picking()
        except KnockError as error:
            say_failure(error)
        except MemoryError as error:
            say_failure(f"not enough memory: {error}; generate a shorter text or load a smaller model")
        except (Quit, EOFError):
            session.end_picking()
            return 0


def _run_script(session: Session) -> int:
    """Run the lines of standard input; return the exit code."""
    from knock.cli.repl.commands import Quit, handle

    failed = False
    for number, content in enumerate(_input(), 1):
        try:
            handle(session, _line(content))
        except KnockError as error:
            say(f"knock: line {number}: {visible_lines(str(error))}", is_essential=True)
            failed = True
        except Quit:
            break
    session.end_picking()
    return int(failed)


def _reader(session: Session) -> Callable[[], str]:
    """Return a function that reads a line from the terminal and raises EOFError on Ctrl-D."""
    if os.environ.get("TERM") == "dumb":
        return lambda: _read_plain(_prompt(session))
    from knock.cli.repl.prompt import reader

    return reader(session, lambda: _prompt(session))


def _prompt(session: Session) -> str:
    return _PROMPT if session.picking is None else _PICKING


def _read_plain(prompt: str) -> str:
    """Read a line from a terminal without line editing."""
    content = b""
    try:
        write(prompt)
        content = sys.stdin.buffer.readline()
    finally:
        if not content:  # the terminal prints no newline after Ctrl-C or Ctrl-D
            write("\n")
    if not content:
        raise EOFError
    return _line(content)


def _input() -> Iterator[bytes]:
    """Yield the lines of standard input as they arrive.

    Raises:
        KnockError: if standard input cannot be read.
    """
    try:
        yield from sys.stdin.buffer
    except (AttributeError, OSError) as error:  # AttributeError: sys.stdin is None
        raise KnockError("cannot read standard input; provide one prompt or command per line") from error


def _line(content: bytes) -> str:
    """Decode a line and remove its newline.

    Raises:
        TextError: if the line is not UTF-8.
    """
    from knock.files.text import decode_utf8

    return decode_utf8(content, "the line").removesuffix("\n")
