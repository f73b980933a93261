"""Benchmark of the engine and the fastest peer, compiled for AVX-512 and for AVX2, on one machine and in turns."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.bench_peers import LENGTH
from bench.child import Child
from bench.runners import Runners, runners
from bench.turns import take_turns
from knock.engine.backends import compile_now
from knock_kernels.lang.cpu import features
from tests.cases import EXAMPLE, random_weights

PEER = "JAX"
ROUNDS = 11
# The environment of each build.
SETS: dict[str, dict[str, str | None]] = {
    "AVX-512": {},
    "AVX2": {
        "KNOCK_CPU_FEATURES": "avx512*",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa=AVX2",
    },
}


@pytest.mark.skipif(not features().get("avx512f"), reason="this CPU has no AVX-512, or it is not to be used")
@pytest.mark.parametrize("batch", LENGTH)
def bench_sets(benchmark: BenchmarkFixture, batch: int) -> None:
    """Generate as in `bench_peers`, in a process for each instruction set; record the seconds for each token."""
    length = LENGTH[batch]
    # Where nothing is measured, the kernels need not be compiled once more.
    sets = SETS if benchmark.enabled else {name: {} for name in SETS}
    with ExitStack() as processes:
        children = {
            name: processes.enter_context(Child(_prepare, (batch, length), changes)) for name, changes in sets.items()
        }

        def once() -> dict[str, float]:
            return {
                f"{name}: {runner}": child.seconds(runner) / (batch * length)
                for runner in children["AVX-512"].names
                for name, child in children.items()
            }

        take_turns(benchmark, once, ROUNDS)


def _prepare(batch: int, length: int) -> Runners:
    compile_now()
    return runners(random_weights(EXAMPLE, 0, scale=0.1), batch, length, [PEER])
