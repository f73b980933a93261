"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path, PurePosixPath


def available_threads() -> int:
    """CPUs that this process may use: by its affinity, and by the quota of its control groups, rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _own_quota())))


@cache
def _own_quota() -> float:
    return cpu_quota()


def cpu_quota(root: Path = Path("/")) -> float:
    """CPUs by the quota of this process's control groups and of those above them; infinity without one.

    A container with `--cpus 1.5` has the quota 1.5, although all CPUs of the machine are in its affinity. In version 2
    the file `cpu.max` holds the quota and its period, in version 1 there are two files.

    Args:
        root: where `proc` and `sys` are.
    """
    groups = root / "sys/fs/cgroup"
    quotas = [math.inf]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        below = PurePosixPath(path.lstrip("/"))
        for folder in (groups / name for name in (controllers, "cpu" if controllers else "unified", "")):
            for group in (below, *below.parents):  # inside a container the path may be that outside, so up to the top
                quotas.append(_ratio(_read(folder / group / "cpu.max")))
                quotas.append(
                    _ratio(" ".join(_read(folder / group / f"cpu.cfs_{name}_us") for name in ("quota", "period")))
                )
    return min(quotas)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _ratio(text: str) -> float:
    """Quota by period; infinity where there is none, which is `max` in version 2 and -1 in version 1."""
    try:
        quota, period = map(int, text.split())
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
