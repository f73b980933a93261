"""The number of CPUs available to this process."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path, PurePosixPath


def available_threads() -> int:
    """Return the number of CPUs available to this process, limited by its affinity and its control groups' quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _own_quota())))


@cache
def _own_quota() -> float:
    return cpu_quota()


def cpu_quota(root: Path = Path("/")) -> float:
    """Return the CPU quota of this process's control groups and their ancestors; infinity without one.

    A container started with `--cpus 1.5` has a quota of 1.5, although its affinity includes all CPUs of the machine.
    Control groups v2 store quota and period in the file `cpu.max`, v1 in two files.

    Args:
        root: folder that contains `proc` and `sys`.
    """
    groups = root / "sys/fs/cgroup"
    quotas = [math.inf]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        below = PurePosixPath(path.lstrip("/"))
        for folder in (groups / name for name in (controllers, "cpu" if controllers else "unified", "")):
            for group in (below, *below.parents):  # in a container, the path may be the host's: try every ancestor
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
    """Return quota / period; infinity for no quota, which is `max` in v2 and -1 in v1."""
    try:
        quota, period = map(int, text.split())
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
