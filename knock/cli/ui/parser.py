"""Argument parser: help that fits the terminal, one-line errors, and suggestions for misspelt options."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from knock.cli.ui.terminal import columns, say_error, write
from knock.hints import suggestion

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

USAGE = 2  # exit code

_NARROW = 60  # columns; on narrower terminals, the help of an option starts on its own line

# What other programs call these options.
_ALSO_CALLED = {
    "--batch": "--batch-chars", "--cpus": "--threads", "--epochs": "--steps", "--iterations": "--steps",
    "--layers": "--n-blocks", "--lr": "--learning-rate", "--max-new-tokens": "--length",
    "--max-tokens": "--length", "--n-predict": "--length", "--num-samples": "--count", "--output": "--out",
    "--predict": "--length", "--tokens": "--length", "--workers": "--threads",
}  # fmt: skip


class HelpFormatter(argparse.HelpFormatter):
    """Help as wide as the terminal: paragraphs are refilled, words are never split, examples keep their lines."""

    def __init__(self, prog: str) -> None:
        width = columns()
        super().__init__(prog, max_help_position=24 if width >= _NARROW else 6, width=width)
        if width < _NARROW:
            self._max_help_position = 6  # argparse leaves at least 20 columns for the help

    def _format_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Iterable[Any], prefix: str | None
    ) -> str:
        """Return the usage: the arguments and the required options; the others are listed below it."""
        actions, prog = list(actions), self._prog
        if any(action.option_strings for action in actions):
            self._prog += " [OPTIONS]"
        shown = [action for action in actions if action.required or not action.option_strings]
        try:
            text = " ".join(super()._format_usage(usage, shown, [], prefix).split())
            return "\n".join(_wrap(text, self._width, rest=" " * 7)) + "\n\n"
        finally:
            self._prog = prog

    def start_section(self, heading: str | None) -> None:
        """Start a section, with its heading wrapped."""
        super().start_section(heading and "\n".join(_wrap(heading, self._width - 1)))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _wrap(" ".join(text.split()), width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(self._paragraph(paragraph, width, indent) for paragraph in paragraphs)

    def _paragraph(self, text: str, width: int, indent: str) -> str:
        if "\n  " not in text and not text.startswith("  "):
            return "\n".join(_wrap(" ".join(text.split()), width, indent, indent))
        return "\n".join(line for each in text.splitlines() for line in _example(indent + each, width))


def _wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    import textwrap  # here, since few commands need it

    return textwrap.wrap(
        text, max(width, 11), initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _example(line: str, width: int) -> list[str]:
    """Return a line of examples, continued with backslashes if it is a command too long for the width."""
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    if not line.lstrip().startswith(("knock ", "torchrun ", "echo ", "cat ", "printf ")):
        return _wrap(line.strip(), width, indent, indent + "  ")
    # Only spaces outside quotes separate words.
    word = r"""(?:[^\s"'-]|"[^"]*"|'[^']*')(?:[^\s"']|"[^"]*"|'[^']*')*"""
    words = re.findall(rf"-\S+(?: {word})?|{word}|-", line)  # an option and its value stay together
    lines, current = [], indent + words[0]
    for word in words[1:]:
        if len(current) + len(word) + 3 > width:
            lines.append(current + " \\")
            current = indent + "    " + word
        else:
            current += " " + word
    return [*lines, current]


class Parser(argparse.ArgumentParser):
    """Argument parser that reports errors on one line, without the usage.

    Attributes:
        commands: the parsers of the subcommands, by name.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **settings})
        self.commands: dict[str, Parser] = {}
        self._last = ""  # argument

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Write help or the version. Unlike argparse, report a standard output that is full or closed.

        Raises:
            KnockError: if standard output is closed.
            OSError: if it cannot be written.
        """
        if file is sys.stdout:
            write(message)
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        """Print an error and exit."""
        text = " ".join(message.splitlines())
        if text.endswith("expected one argument"):
            names = text.split()[1].rstrip(":").split("/")
            if self._last not in names:
                text += f"; write one that begins with a dash as {names[-1]}=-X"
        text = text.replace("ignored explicit argument", "takes no value, got")
        see = " See" if text.endswith("?") else "; see"
        say_error(f"{text}{see} {self.prog} --help", self.prog)
        self.exit(USAGE)

    def check_options(self, arguments: Iterable[str]) -> None:
        """Report an argument that begins with a dash and is no option, before `argparse` takes it for several.

        For example, `-hello` would print the help, for it begins with `-h`.
        """
        before = ""
        given = list(arguments)
        self._last = given[-1] if given else ""
        for argument in given:
            if argument == "--":
                return
            if re.match(r"-[^-\d.]", argument) and not self._is_cluster(argument):
                action = self._option_string_actions.get(before)
                if action is not None and action.nargs != 0:
                    self.error(f"{before} needs a value; write one that begins with a dash as {before}={argument}")
                self._unknown(argument)
            before = argument

    def _is_cluster(self, argument: str) -> bool:
        """Whether an argument is `-x`, or such letters together, the last with its value: `-qe`, `-n300`."""
        for position, letter in enumerate(argument[1:], 2):
            action = self._option_string_actions.get(f"-{letter}")
            if action is None:
                return False
            if action.nargs != 0:
                return _takes(action, argument[position:])
        return True

    def report_unrecognized(self, arguments: Sequence[str]) -> NoReturn:
        """Report arguments that the command does not have, with a suggestion."""
        options = [argument for argument in arguments if argument.startswith("-") and argument != "-"]
        if options:
            self._unknown(options[0])
        noun = "argument" if len(arguments) == 1 else "arguments"
        self.error(f"unexpected {noun} {', '.join(map(repr, arguments))}; quote an argument that contains spaces")

    def _unknown(self, argument: str) -> NoReturn:
        name, equals, value = argument.partition("=")
        short = self._option_string_actions.get(name) if equals else None
        if short is not None:
            takes_value = short.nargs != 0
            advice = f"a short option takes its value without =: {name} {value}" if takes_value else "it takes no value"
            self.error(f"{argument!r} is not an option; {advice}")
        known = [option for option in self._option_string_actions if option.startswith("--")]
        also = _ALSO_CALLED.get(name)
        close = also if also in known else suggestion(name, known) if name.startswith("--") else None
        hint = ""
        if close:
            hint = f"; did you mean {close}?"
        elif any(action.dest == "prompt" and not action.option_strings for action in self._actions):
            hint = f"; if it is a prompt, put -- before it: {self.prog} -- {argument!r}"
        self.error(f"unknown option {name!r}{hint}")


def _takes(action: argparse.Action, value: str) -> bool:
    """Whether an option accepts the rest of its cluster as its value; without one, the next argument is the value."""
    if not value or action.type is None:
        return True
    try:
        action.type(value)  # type: ignore[operator]  # a callable, not the name of a registered type
    except (ValueError, argparse.ArgumentTypeError):
        return False
    return True
