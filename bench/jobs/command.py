"""Commands of knock as a user runs them, timed from start to exit; and the machine they ran on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bench.extras import needed

with needed(__name__):
    import cpuinfo


class Done(NamedTuple):
    """A command that has run.

    Attributes:
        seconds: time from start to exit.
        summary: the last line of its standard error.
    """

    seconds: float
    summary: str


def knock(*arguments: str | Path) -> Done:
    """Run a command of knock.

    Raises:
        SystemExit: if it fails.
    """
    words = list(map(str, arguments))
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "knock", *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"error: knock {' '.join(words)} failed with exit code {done.returncode}:\n{done.stderr}")
    return Done(seconds, done.stderr.strip().rpartition("\n")[2])


def machine() -> str:
    """Return the line that names the machine."""
    brand = cpuinfo.get_cpu_info().get("brand_raw", platform.machine())
    return f"Measured on {brand}, {os.cpu_count()} cores, Python {platform.python_version()}."


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
