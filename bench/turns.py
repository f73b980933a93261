"""Measure several things in turns, so that a slow period of the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 21


def take_turns(benchmark: BenchmarkFixture, once: Callable[[], dict[str, float]], rounds: int = ROUNDS) -> None:
    """Run rounds of `once`, which returns seconds by name; record the median and the best of each name."""
    times = defaultdict(list)

    def run() -> None:
        for name, taken in once().items():
            times[name].append(taken)

    benchmark.pedantic(run, rounds=rounds, warmup_rounds=1)
    medians = {name: statistics.median(each[-rounds:]) for name, each in times.items()}
    bests = {name: min(each[-rounds:]) for name, each in times.items()}
    benchmark.extra_info.update(unit="rounds", count=1, medians=medians, bests=bests)


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def best(call: Callable[[], object], runs: int) -> float:
    """Return the seconds of the fastest of several short runs."""
    return min(seconds(call) for _ in range(runs))
