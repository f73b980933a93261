"""Generation: tokens from running sequences, sampling and statistics included; on NumPy and compiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from knock import ModelConfig, Sampling, reference
from knock.choices import HEAD_TYPES, POSITIONS, Backend, HeadType, Position
from knock.engine.batch import Request
from knock.engine.engine import MAX_LANES, Engine, Lanes
from tests.cases import EXAMPLE, float64, random_tokens, random_weights

LENGTH = {"numpy": 50, "compiled": 2000}
LARGE = ModelConfig(vocab_size=65, T=256, n_emb=384, nodes=1536, n_blocks=6, n_heads=6)
SIZES = (32, 64, 128, 256, 384, 512, 768)
PLACES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("backend", LENGTH)
def bench_generate(benchmark: BenchmarkFixture, backend: Backend, position: Position) -> None:
    """One sequence, past its window, so that a relative model rolls and an absolute one slides."""
    generate(benchmark, replace(EXAMPLE, position=position), 1, LENGTH[backend], backend)


@pytest.mark.parametrize("head_type", HEAD_TYPES)
@pytest.mark.parametrize("count", [1, MAX_LANES])
def bench_heads(benchmark: BenchmarkFixture, count: int, head_type: HeadType) -> None:
    """One sequence, or eight together on one thread, with heads of each type."""
    generate(benchmark, replace(EXAMPLE, head_type=head_type, position="relative"), count, 2000)


def bench_rows(benchmark: BenchmarkFixture) -> None:
    """256 sequences on one thread."""
    engine = Engine(random_weights(EXAMPLE, 0, scale=0.1), "compiled")
    count, length = 256, 120
    requests = [Request(random_tokens(EXAMPLE, 1), Sampling(), None, length, i) for i in range(count)]
    benchmark.extra_info.update(unit="tokens", count=count * length)
    rows = benchmark(engine.run, requests, 0, threads=1)
    assert (rows.lengths == length).all()


def bench_recompute(benchmark: BenchmarkFixture) -> None:
    """What a token costs on NumPy without a cache: all that it depends on is computed anew."""
    weights = float64(random_weights(EXAMPLE, 0, scale=0.1))
    tokens = random_tokens(EXAMPLE, EXAMPLE.receptive_field)
    benchmark.extra_info.update(unit="tokens", count=1)
    benchmark(lambda: reference.sample(reference.forward(tokens, weights, EXAMPLE)[-1], Sampling(), 0.5))


@pytest.mark.parametrize("backend", LENGTH)
def bench_logits(benchmark: BenchmarkFixture, backend: Backend) -> None:
    """Every position of 1,024 tokens at once."""
    logits(benchmark, EXAMPLE, backend)


@pytest.mark.parametrize("n_emb", [128, 256])
def bench_wider_logits(benchmark: BenchmarkFixture, n_emb: int) -> None:
    """The same, compiled, of wider models."""
    logits(benchmark, replace(EXAMPLE, n_emb=n_emb, nodes=n_emb), "compiled")


def bench_large(benchmark: BenchmarkFixture) -> None:
    """One sequence of a model that no cache holds."""
    generate(benchmark, LARGE, 1, 40)


def bench_large_logits(benchmark: BenchmarkFixture) -> None:
    """Every position of 1,024 tokens, of the same."""
    logits(benchmark, LARGE, "compiled")


@pytest.mark.parametrize("count", [1, MAX_LANES])
@pytest.mark.parametrize("n_emb", SIZES)
def bench_size(benchmark: BenchmarkFixture, n_emb: int, count: int) -> None:
    """The example shape, wider or narrower: C = F."""
    generate(benchmark, replace(EXAMPLE, n_emb=n_emb, nodes=n_emb), count, max(20, 64_000 // n_emb // count))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("place", PLACES)
def bench_place(benchmark: BenchmarkFixture, place: int, position: Position) -> None:
    """100 tokens from that position on."""
    if place > PLACES[-1] // 10 and position == "absolute":
        pytest.skip("a window that slides costs the same at every position, and takes long to get there")
    engine = Engine(random_weights(replace(EXAMPLE, position=position), 0, scale=0.1), "compiled")

    def arrive() -> Lanes:
        lanes = start(engine, 1, [0], length=1)
        for done in range(1, place, 10_000):
            lanes.advance(min(10_000, place - done))
        return lanes

    benchmark.extra_info.update(unit="tokens", count=100)
    if place <= 1000:  # each round anew
        benchmark.pedantic(lambda lanes, n: lanes.advance(n), setup=lambda: ((arrive(), 100), {}), rounds=30)
    else:
        benchmark.pedantic(arrive().advance, (100,), rounds=30, warmup_rounds=1)


def start(engine: Engine, count: int, rows: range | list[int], length: int = 100) -> Lanes:
    """Sequences that go on from random tokens."""
    return engine.start_lanes([random_tokens(engine.config, length)] * count, [Sampling()] * count, 0, rows)


def generate(
    benchmark: BenchmarkFixture, config: ModelConfig, count: int, length: int, backend: Backend = "compiled"
) -> None:
    """That many sequences with random weights, on one thread."""
    lanes = start(Engine(random_weights(config, 0, scale=0.1), backend), count, range(count), 2 * config.T)
    lanes.advance(1)
    benchmark.extra_info.update(unit="tokens", count=count * length)
    rows = benchmark(lanes.advance, length)
    assert [len(tokens) for tokens, _ in rows] == [length] * count


def logits(benchmark: BenchmarkFixture, config: ModelConfig, backend: Backend) -> None:
    """1,024 positions of one sequence, random weights."""
    engine = Engine(random_weights(config, 0, scale=0.1), backend)
    tokens = random_tokens(config, 1024)
    engine.logits(tokens)
    benchmark.extra_info.update(unit="tokens", count=len(tokens))
    result = benchmark(engine.logits, tokens)
    assert np.isfinite(result).all()
