"""Compile the kernels for this machine, or say where they are.

Every command does so by itself when it pays; this is for images and installers, and to try again after a failure.
The kernels are kept in the user's cache folder, or where KNOCK_CACHE_DIR says.
"""

from __future__ import annotations

import argparse

from knock.cli.ui.terminal import for_output, write
from knock.errors import KnockError

EXAMPLES = """examples:
  knock warmup
  knock warmup --check
  mkdir -m 755 /opt/knock && KNOCK_CACHE_DIR=/opt/knock knock warmup   (for all users)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--check", action="store_true",
                        help="compile nothing; exit with 0 if the kernels are there, with 1 if not")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print where the kernels are."""
    from knock.engine.backends import compile_now, kept

    path = kept() if options.check else compile_now()
    if path is None:
        raise KnockError("the kernels have not been compiled for this machine; knock warmup does")
    write(f"{for_output(str(path))}\n")
    return 0
