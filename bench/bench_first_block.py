"""Benchmark of a first block with a window of 2: its tables of tokens and of pairs against none, in turns."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.bench_generate import decoder, key
from bench.turns import seconds, take_turns
from knock.choices import PRECISIONS, Precision
from knock.engine.compiled_backend import CompiledBackend
from knock.engine.engine import Engine
from knock.engine.packing import Table
from knock.files.checkpoint import read_checkpoint
from knock.models import shipped
from knock.weights import Weights
from knock_kernels.cache.store import entry_points
from tests.cases import random_weights

# What each is called in the report.
TABLES: dict[Table, str] = {"none": "no table", "tokens": "table of tokens", "pairs": "table of pairs"}
LENGTH = {1: 2000, 256: 60}  # by sequences
ROUNDS = 15


@pytest.mark.parametrize("count", LENGTH)
def bench_first_block(benchmark: BenchmarkFixture, count: int) -> None:
    """Generate on one thread with the shape of `shakespeare-nano`, its first window shortened to 2, by precision."""
    nano = read_checkpoint(shipped()["shakespeare-nano"]).weights.config
    config = replace(nano, T=(2, *nano.windows[1:]))
    weights, length = random_weights(config, 0, scale=0.1), LENGTH[count]
    running = {
        key(table, precision): decoder(_engine(weights, precision, table), count)
        for precision in PRECISIONS
        for table in TABLES
    }

    def once() -> dict[str, float]:
        return {
            name: seconds(lambda decode=decode: decode(length)) / (count * length) for name, decode in running.items()
        }

    take_turns(benchmark, once, ROUNDS)


def _engine(weights: Weights, precision: Precision, table: Table) -> Engine:
    """Return an engine with that table at most; only benchmarks choose one."""
    engine = Engine(weights, "compiled", precision)
    engine._backend = CompiledBackend(weights, entry_points(), precision, table=table)
    return engine
