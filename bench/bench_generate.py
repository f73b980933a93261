"""Generation: tokens from running sequences, sampling and statistics included; on NumPy and compiled."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from knock import Sampling
from knock.config import POSITIONS, Position
from knock.engine import BACKENDS, MAX_LANES, Backend, Engine
from tests.cases import EXAMPLE, random_tokens, random_weights

LENGTH = {"numpy": 50, "compiled": 2000}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def bench_generate(benchmark: BenchmarkFixture, backend: Backend, position: Position) -> None:
    """One sequence, past its window, so that a relative model rolls and an absolute one slides."""
    generate(benchmark, backend, position, 1)


def bench_lanes(benchmark: BenchmarkFixture) -> None:
    """Eight sequences that advance together on one thread."""
    generate(benchmark, "compiled", "relative", MAX_LANES)


def generate(benchmark: BenchmarkFixture, backend: Backend, position: Position, count: int) -> None:
    """That many sequences of the example shape with random weights, on one thread."""
    config, length = replace(EXAMPLE, position=position), LENGTH[backend]
    engine = Engine(random_weights(config, 0, scale=0.1), backend)
    lanes = engine.start_lanes([random_tokens(config, 100)] * count, [Sampling()] * count, 0, range(count))
    lanes.advance(1)
    benchmark.extra_info.update(unit="tokens", count=count * length)
    rows = benchmark(lanes.advance, length)
    assert [len(tokens) for tokens, _ in rows] == [length] * count


@pytest.mark.parametrize("backend", BACKENDS)
def bench_logits(benchmark: BenchmarkFixture, backend: Backend) -> None:
    """Every position of 1,024 tokens at once."""
    engine = Engine(random_weights(EXAMPLE, 0, scale=0.1), backend)
    tokens = random_tokens(EXAMPLE, 1024)
    engine.logits(tokens)
    benchmark.extra_info.update(unit="tokens", count=1024)
    assert benchmark(engine.logits, tokens).shape == (1024, 65)
