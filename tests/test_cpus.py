"""Tests of the number of available CPUs, with the control groups of various systems."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from knock import cpus
from knock.cpus import available_threads, cpu_quota


def system(root: Path, membership: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": membership, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


GROUPS = "sys/fs/cgroup"
CASES = {
    "none": ("", {}, math.inf),
    "version 2 without a quota": ("0::/a\n", {f"{GROUPS}/a/cpu.max": "max 100000\n"}, math.inf),
    "version 2": ("0::/a\n", {f"{GROUPS}/a/cpu.max": "150000 100000\n"}, 1.5),
    "version 2, a group above": (
        "0::/a/b/c\n",
        {f"{GROUPS}/a/b/c/cpu.max": "max 100000\n", f"{GROUPS}/a/b/cpu.max": "400000 100000\n",
         f"{GROUPS}/a/cpu.max": "50000 100000\n"},
        0.5,
    ),
    "version 2 in a container": ("0::/outside/only\n", {f"{GROUPS}/cpu.max": "200000 100000\n"}, 2.0),
    "version 2 in a group namespace": ("0::/../..\n", {f"{GROUPS}/cpu.max": "200000 100000\n"}, 2.0),
    "version 1": (
        "5:memory:/m\n4:cpu,cpuacct:/a\n0::/\n",
        {f"{GROUPS}/cpu,cpuacct/a/cpu.cfs_quota_us": "30\n", f"{GROUPS}/cpu,cpuacct/a/cpu.cfs_period_us": "10\n"},
        3.0,
    ),
    "version 1 by its other name": (
        "4:cpuacct,cpu:/a\n",
        {f"{GROUPS}/cpu/a/cpu.cfs_quota_us": "100000\n", f"{GROUPS}/cpu/a/cpu.cfs_period_us": "100000\n"},
        1.0,
    ),
    "version 1 without a quota": (
        "4:cpu:/\n",
        {f"{GROUPS}/cpu/cpu.cfs_quota_us": "-1\n", f"{GROUPS}/cpu/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "version 1 of something else": (
        "4:cpuset:/a\n",
        {f"{GROUPS}/cpu/a/cpu.cfs_quota_us": "100000\n", f"{GROUPS}/cpu/a/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "damaged": ("nonsense\n0::\n::::\n", {f"{GROUPS}/cpu.max": "0 0\n"}, math.inf),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_quota(case: str, tmp_path: Path) -> None:
    membership, files, expected = CASES[case]
    assert cpu_quota(system(tmp_path, membership, files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [(math.inf, 8), (16.0, 8), (1.5, 2), (1.0, 1), (0.1, 1)])
def test_threads_are_limited_by_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cpus, "_own_quota", lambda: quota)
    assert available_threads() == expected


def test_threads_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(cpus, "_own_quota", lambda: math.inf)
    assert available_threads() == 1
