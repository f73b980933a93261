"""Entry point of `knock`: run a command and turn errors into a one-line message and an exit code.

Exit codes: 0 success, 1 failure, 2 usage error, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from knock import __version__
from knock.cli.ui import interrupts
from knock.cli.ui.naming import as_typed, option_names
from knock.cli.ui.parser import USAGE, Parser
from knock.cli.ui.terminal import be_quiet, discard_output, open_streams, say, say_error, visible_lines
from knock.errors import ConfigError, KnockError, PromptError, SamplingError, UnknownCharacterError
from knock.hints import suggestion

DONE, FAILED = 0, 1

# Modules of this package and the first lines of their docstrings, repeated here so that help imports none of them.
COMMANDS = {
    "generate": "Generate text from a model.",
    "sample": "Generate many texts: from one prompt, or from a file of them.",
    "top": "Find the most probable texts of a model.",
    "repl": "Generate text interactively, one prompt per line.",
    "train": "Train a model on a text.",
    "score": "Measure how well models predict a text: bits per character, perplexity, heat map.",
    "inspect": "Show what a model learned: its reweight patterns, its attention, its predictions on a text.",
    "page": "Write a web page with a model inside: let it write, look into it, take a tour.",
    "info": "Show what a model file contains: shape, size, vocabulary, training record, losses.",
    "models": "List the models by name: size, loss, where they are.",
    "convert": "Convert a model file to another format.",
    "help": "Show the help of knock or of one of its commands.",
    "demo": "Take a tour of a model: temperature, loops, top-p, entropy, surprise, heads.",
    "completion": "Print a shell completion script.",
    "warmup": "Compile the kernels for this machine and print where they are.",
}

_GC_THRESHOLD = 100_000  # objects; more than the imports of any command create


def script() -> int:
    """Run `main` as the program; return its exit code."""
    # A short command creates modules, not garbage. Garbage collection during imports and at exit would take a fifth of
    # the time needed to generate 300 characters.
    gc.set_threshold(_GC_THRESHOLD)
    interrupts.raise_on_signals()
    code = main()
    interrupts.ignore_signals()  # a signal during exit would print a traceback
    gc.freeze()
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    open_streams()
    interrupts.forget()
    be_quiet(False)
    names: dict[str, str] = {}  # options of the command, by the arguments of the library
    try:
        with warnings.catch_warnings():
            warnings.showwarning = functools.partial(_show_warning, names)
            warnings.simplefilter("default", UserWarning)  # show notices once, even if warnings are errors
            return _run(arguments, names)
    except UnknownCharacterError as error:
        return _fail(error.advice("--unknown skip", "--unknown replace"), FAILED)
    except (SamplingError, ConfigError) as error:
        return _fail(as_typed(str(error), names), USAGE)
    except PromptError as error:  # names fields of a prompt file
        return _fail(error, FAILED)
    except KnockError as error:
        return _fail(as_typed(str(error), names), FAILED)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}; make the model or the text smaller", FAILED)
    except KeyboardInterrupt:
        return interrupts.exit_code()
    except ImportError as error:  # also raised by Ctrl-C while NumPy loads
        return _fail(f"cannot be started: {(str(error).splitlines() or [''])[0]}; reinstall knock", FAILED)
    except BrokenPipeError:  # the reader closed the pipe
        discard_output()
        return DONE
    except OSError as error:
        discard_output()
        return _fail(f"cannot write: {(error.strerror or str(error)).lower()}", FAILED)


def _run(arguments: list[str] | None, names: dict[str, str]) -> int:
    """Run a command, and store the names of its options in `names`; return its exit code."""
    given = (sys.argv[1:] if arguments is None else arguments) or _default_arguments()
    try:
        options = _parse(given)
        names.update(options.names)
        be_quiet(options.quiet)
        code: int = options.run(options)
    except SystemExit as exit_:  # argparse has printed help, the version or an error
        code = exit_.code if isinstance(exit_.code, int) else DONE
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _parse(given: list[str]) -> argparse.Namespace:
    """Return the options of a command line; exit if it has an error or asks for help."""
    parser = build_parser(*given[:1])
    if not given:
        parser.error(f"a COMMAND is required: one of {', '.join(COMMANDS)}")
    name = given[0]
    if name.startswith("-"):
        parser.check_options(given[:1])
        if not any(option.startswith(name) for option in ("-h", "--help", "--version")):
            parser.report_unrecognized([name])
    elif name not in COMMANDS:
        close = suggestion(name.lower(), COMMANDS)
        hint = f"did you mean {close}?" if close else f"to continue it as a text, run: knock generate {name!r}"
        parser.error(f"{name!r} is not a command; {hint}")
    else:
        parser.commands[name].check_options(given[1:])
    options, rest = parser.parse_known_args(given)
    if rest:
        parser.commands[name].report_unrecognized(rest)
    return options


def _default_arguments() -> list[str]:
    """Return the arguments that plain `knock` stands for: the REPL on a terminal, otherwise none."""
    from knock.cli.repl import on_terminal

    return ["repl"] if on_terminal() else []


def build_parser(*chosen: str) -> Parser:
    """Return the parser of the command line, with the options of the chosen commands only."""
    parser = Parser(
        prog="knock",
        description="Train a character-level language model on your own text, and generate from it.",
        epilog="Run knock help COMMAND, or knock COMMAND --help, for help on a command.",
    )
    parser.add_argument("--version", action="version", version=f"knock {__version__}")
    commands: Any = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="knock")
    for name, summary in COMMANDS.items():
        if name not in chosen:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"knock.cli.{name}")
        command = commands.add_parser(name, help=summary, description=module.__doc__, epilog=module.EXAMPLES)
        command.add_argument("-q", "--quiet", action="store_true", help="print no messages other than errors")
        module.add_arguments(command)
        command.set_defaults(run=module.run, error=command.error, names=option_names(command))
        parser.commands[name] = command
    return parser


def _show_warning(
    names: Mapping[str, str], message: Warning | str, category: type[Warning], *_place: object, **_more: object
) -> None:
    """Print a warning on one line, without its source location."""
    kind = "" if category is UserWarning else f"{category.__name__}: "
    say(f"knock: {kind}{visible_lines(as_typed(str(message), names))}")


def _fail(error: object, code: int) -> int:
    say_error(visible_lines(str(error)))
    return code
