"""Compile the kernels for this machine and print where they are.

Other commands compile the kernels when it pays off; use this command in images and installers, or to retry after a
failure. The kernels are stored in the folder KNOCK_CACHE_DIR if that is set, or else in the user's cache folder. The
last example compiles them for all users.
"""

from __future__ import annotations

import argparse

from knock.cli.ui.terminal import for_output, write
from knock.errors import KnockError

EXAMPLES = """examples:
  knock warmup
  knock warmup --check
  mkdir -m 755 /opt/knock && KNOCK_CACHE_DIR=/opt/knock knock warmup
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--check", action="store_true",
                        help="compile nothing; exit with 0 if the kernels are compiled, with 1 if not")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print the path of the kernels, compiling them if needed."""
    from knock.engine.backends import compile_now, kept

    path = kept() if options.check else compile_now()
    if path is None:
        from knock_kernels.cache.folder import is_requested

        where = "for this machine into KNOCK_CACHE_DIR" if is_requested() else "for this machine"
        raise KnockError(f"the kernels have not been compiled {where}; run knock warmup")
    write(f"{for_output(str(path))}\n")
    return 0
