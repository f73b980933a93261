"""Show the help of knock or of one of its commands."""

from __future__ import annotations

import argparse

EXAMPLES = """examples:
  knock help
  knock help generate
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="the command (default: knock itself)")


def run(options: argparse.Namespace) -> int:
    """Print the help."""
    from knock.cli.main import main

    return main([*([options.command] if options.command else []), "--help"])
