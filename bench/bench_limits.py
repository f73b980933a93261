"""Benchmarks of the machine's limits, in the same run as the results that are compared with them."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.loops import TILE_COLUMNS, TILE_ROWS, run
from knock_kernels.cache.store import PANEL, aligned

MEGABYTES = {"L2": 0.4, "L3": 8, "DRAM": 256}


def bench_peak(benchmark: BenchmarkFixture) -> None:
    """Multiply and add on one core, with operands in the first-level cache."""
    K, times = 64, 10_000
    call = run("tile", aligned(TILE_ROWS * K), aligned(K * TILE_COLUMNS), aligned(TILE_COLUMNS), K, times)
    benchmark.extra_info.update(unit="GFLOP", count=2e-9 * TILE_ROWS * TILE_COLUMNS * K * times)
    benchmark(call)


@pytest.mark.parametrize("place", MEGABYTES)
def bench_stream(benchmark: BenchmarkFixture, place: str) -> None:
    """Read weights on one core from the cache level, or the memory, that they fit in."""
    K = int(MEGABYTES[place] * 2**20 / (4 * PANEL))
    times = max(1, int(64 / MEGABYTES[place]))
    w = aligned(K * PANEL)
    w[:] = np.float32(1e-3)
    call = run("stream", aligned(K), w, aligned(PANEL), K, times)
    benchmark.extra_info.update(unit="GB", count=4e-9 * K * PANEL * times)
    benchmark(call)
