"""The command `knock`: picks a command, runs it, and turns whatever goes wrong into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 usage, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
import warnings
from typing import Any, NoReturn

from knock import __version__
from knock.cli.ui import interrupts
from knock.cli.ui.terminal import discard_output, open_streams, say, visible_lines
from knock.errors import ConfigError, KnockError, SamplingError

DONE, FAILED, USAGE = 0, 1, 2

# Modules of this package, each with the first line of its docstring: none is imported but the one that runs.
COMMANDS = {
    "generate": "Generate text from a model.",
    "sample": "Generate many texts: from one prompt, or from a file of them.",
    "repl": "Write with a model, a prompt a line.",
    "train": "Train a model on a text.",
    "score": "Measure how well models predict a text: bits a character, perplexity, a heat map.",
    "inspect": "Show what a model learned: its reweight patterns, its attention, its view of a text.",
    "info": "Show what a model file holds: shape, size, vocabulary, how it was trained, how well it does.",
    "convert": "Convert a model file to another format.",
    "demo": "Take the two-minute tour: three ways of sampling, three types of heads.",
    "completion": "Print the completion of a shell.",
    "warmup": "Compile the kernels for this machine, or say where they are.",
}

_OBJECTS = 100_000  # more than any command's imports make


def script() -> int:
    """Run `main` as a process of its own."""
    # What a short command makes is modules, not garbage: looking through them for it, on the way and once more at the
    # exit, would take a fifth of the time in which 300 characters are there.
    gc.set_threshold(_OBJECTS)
    interrupts.raise_on_signals()
    code = main()
    interrupts.ignore_signals()  # all is done, and Python would show a traceback of a signal on its way out
    gc.freeze()
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    open_streams()
    interrupts.forget()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("default", UserWarning)  # notices, never errors
            return _run(arguments)
    except (SamplingError, ConfigError) as error:
        return _fail(error, USAGE)
    except KnockError as error:
        return _fail(error, FAILED)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}; make the model or the text smaller", FAILED)
    except KeyboardInterrupt:
        return interrupts.exit_code()
    except ImportError as error:  # also of Ctrl-C while NumPy's extensions are loaded
        return _fail(f"cannot be started: {(str(error).splitlines() or [''])[0]}; install knock anew", FAILED)
    except BrokenPipeError:  # the reader has seen enough
        discard_output()
        return DONE
    except OSError as error:
        discard_output()
        return _fail(f"cannot write: {(error.strerror or str(error)).lower()}", FAILED)


def _run(arguments: list[str] | None) -> int:
    given = (sys.argv[1:] if arguments is None else arguments) or _alone()
    try:
        parser = build_parser(*given[:1])
        if not given:
            parser.error(f"a COMMAND is needed, one of {', '.join(COMMANDS)}")
        options = parser.parse_args(given)
        code: int = options.run(options)
    except SystemExit as exit_:  # argparse is done: it has printed help, a version or an error
        code = exit_.code if isinstance(exit_.code, int) else DONE
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _alone() -> list[str]:
    """What `knock` alone stands for: the REPL, where someone can type."""
    from knock.cli.repl import on_terminal

    return ["repl"] if on_terminal() else []


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage of every option before it."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.splitlines())
        self.exit(USAGE, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def build_parser(*chosen: str) -> argparse.ArgumentParser:
    """The parser of the command line, with the options of the commands that are chosen, and of no others."""
    parser = _Parser(
        prog="knock",
        description="Train a character-level language model on your own text, and generate from it.",
        epilog="knock COMMAND --help tells more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"knock {__version__}")
    commands: Any = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="knock")
    for name, summary in COMMANDS.items():
        if name not in chosen:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"knock.cli.{name}")
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, error=command.error)
    return parser


def _show_warning(message: Warning | str, category: type[Warning], *_place: object, **_more: object) -> None:
    """Write a warning as one line, without the place in the code."""
    kind = "" if category is UserWarning else f"{category.__name__}: "
    say(f"knock: {kind}{visible_lines(str(message))}")


def _fail(error: object, code: int) -> int:
    say(f"knock: error: {visible_lines(str(error))}")
    return code
