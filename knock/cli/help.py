"""Show the help of knock or of one of its commands."""

from __future__ import annotations

import argparse

from knock.hints import suggestion

EXAMPLES = """examples:
  knock help
  knock help generate
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="the command (default: knock itself)")


def run(options: argparse.Namespace) -> int:
    """Print the help."""
    from knock.cli.main import COMMANDS, main

    if options.command and options.command not in COMMANDS:
        close = suggestion(options.command.lower(), COMMANDS)
        hint = f"did you mean {close}?" if close else f"the commands are {', '.join(COMMANDS)}"
        options.error(f"{options.command!r} is not a command; {hint}")
    return main([*([options.command] if options.command else []), "--help"])
