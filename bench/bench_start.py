"""What comes before the first token: compiling the kernels, packing the weights."""

from __future__ import annotations

import subprocess
import sys

from pytest_benchmark.fixture import BenchmarkFixture

from knock.compiled_backend import CompiledBackend
from tests.cases import EXAMPLE, random_weights


def bench_compile(benchmark: BenchmarkFixture) -> None:
    """Every kernel, in a process of its own, imports included."""
    code = "from knock_kernels.store import entry_points; entry_points()"
    benchmark.extra_info.update(unit="times", count=1)
    benchmark.pedantic(subprocess.run, ([sys.executable, "-c", code],), {"check": True}, rounds=3)


def bench_pack(benchmark: BenchmarkFixture) -> None:
    """Fold, pad and tabulate the example shape."""
    weights = random_weights(EXAMPLE, 0, scale=0.1)
    benchmark.extra_info.update(unit="models", count=1)
    benchmark(CompiledBackend, weights)
