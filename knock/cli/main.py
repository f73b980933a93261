"""The command `knock`: picks a command, runs it, and turns whatever goes wrong into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from knock import __version__
from knock.cli import generate, info, train
from knock.cli.terminal import discard_output, open_streams, say
from knock.errors import ConfigError, KnockError, SamplingError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

COMMANDS = {"generate": generate, "train": train, "info": info}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    open_streams()
    try:
        return _run(arguments)
    except (SamplingError, ConfigError) as error:
        return _fail(error, USAGE)
    except KnockError as error:
        return _fail(error, FAILED)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}; make the model or the text smaller", FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough
        discard_output()
        return DONE
    except OSError as error:
        discard_output()
        return _fail(f"cannot write: {(error.strerror or str(error)).lower()}", FAILED)


def _run(arguments: list[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
    except SystemExit as exit_:  # argparse is done: it has printed help, a version or an error
        code = exit_.code if isinstance(exit_.code, int) else DONE
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage of every option before it."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.splitlines())
        self.exit(USAGE, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="knock",
        description="Train a character-level language model on your own text, and generate from it.",
        epilog="knock COMMAND --help tells more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"knock {__version__}")
    commands: Any = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=(module.__doc__ or "").split("\n")[0],
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _fail(error: object, code: int) -> int:
    say(f"knock: error: {error}")
    return code
