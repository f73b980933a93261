"""Benchmarks of generation, with sampling and statistics, and of logits; compiled and on NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from knock import ModelConfig, Sampling, reference
from knock.choices import HEAD_TYPES, POSITIONS, Backend, HeadType, Position
from knock.engine.batch import Request, Rows
from knock.engine.engine import Engine, TokenStream
from knock_kernels.cache.store import ROWS
from tests.cases import EXAMPLE, float64, random_tokens, random_weights

LENGTH = {"numpy": 50, "compiled": 2000}
LARGE = ModelConfig(vocab_size=65, T=256, n_emb=384, nodes=1536, n_blocks=6, n_heads=6)
SIZES = (32, 64, 128, 256, 384, 512, 768)
PLACES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("backend", LENGTH)
def bench_generate(benchmark: BenchmarkFixture, backend: Backend, position: Position) -> None:
    """Generate one sequence past its window: a relative model rolls its ring, an absolute one slides its window."""
    generate(benchmark, replace(EXAMPLE, position=position), 1, LENGTH[backend], backend)


@pytest.mark.parametrize("head_type", HEAD_TYPES)
@pytest.mark.parametrize("count", [1, ROWS])
def bench_heads(benchmark: BenchmarkFixture, count: int, head_type: HeadType) -> None:
    """Generate one sequence, or eight together on one thread, with heads of each type."""
    generate(benchmark, replace(EXAMPLE, head_type=head_type, position="relative"), count, 2000)


def bench_rows(benchmark: BenchmarkFixture) -> None:
    """Generate 256 sequences on one thread."""
    engine = Engine(random_weights(EXAMPLE, 0, scale=0.1), "compiled")
    count, length = 256, 120
    requests = [Request(random_tokens(EXAMPLE, 1), Sampling(), None, length, i) for i in range(count)]
    benchmark.extra_info.update(unit="tokens", count=count * length)
    rows = benchmark(engine.run, requests, 0, threads=1)
    assert (rows.lengths == length).all()


def bench_recompute(benchmark: BenchmarkFixture) -> None:
    """Generate a token on NumPy without a cache: recompute everything that it depends on."""
    weights = float64(random_weights(EXAMPLE, 0, scale=0.1))
    tokens = random_tokens(EXAMPLE, EXAMPLE.receptive_field)
    benchmark.extra_info.update(unit="tokens", count=1)
    benchmark(lambda: reference.sample(reference.forward(tokens, weights, EXAMPLE)[-1], Sampling(), 0.5))


@pytest.mark.parametrize("backend", LENGTH)
def bench_logits(benchmark: BenchmarkFixture, backend: Backend) -> None:
    """Compute the logits of 1,024 positions at once."""
    logits(benchmark, EXAMPLE, backend)


@pytest.mark.parametrize("n_emb", [128, 256])
def bench_wider_logits(benchmark: BenchmarkFixture, n_emb: int) -> None:
    """Compute the logits of 1,024 positions of wider models, compiled."""
    logits(benchmark, replace(EXAMPLE, n_emb=n_emb, nodes=n_emb), "compiled")


def bench_large(benchmark: BenchmarkFixture) -> None:
    """Generate one sequence of a model that fits in no cache."""
    generate(benchmark, LARGE, 1, 40)


def bench_large_logits(benchmark: BenchmarkFixture) -> None:
    """Compute the logits of 1,024 positions of that model."""
    logits(benchmark, LARGE, "compiled")


@pytest.mark.parametrize("count", [1, ROWS])
@pytest.mark.parametrize("n_emb", SIZES)
def bench_size(benchmark: BenchmarkFixture, n_emb: int, count: int) -> None:
    """Generate with the example shape, wider or narrower: C = F."""
    generate(benchmark, replace(EXAMPLE, n_emb=n_emb, nodes=n_emb), count, max(20, 64_000 // n_emb // count))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("place", PLACES)
def bench_place(benchmark: BenchmarkFixture, place: int, position: Position) -> None:
    """Generate 100 tokens starting at a position."""
    if place > PLACES[-1] // 10 and position == "absolute":
        pytest.skip("a window that slides costs the same at every position, and takes long to get there")
    engine = Engine(random_weights(replace(EXAMPLE, position=position), 0, scale=0.1), "compiled")

    def arrive() -> TokenStream:
        stream = engine.start(random_tokens(engine.config, 1), Sampling(), 0)
        for done in range(1, place, 10_000):
            stream.advance(min(10_000, place - done))
        return stream

    benchmark.extra_info.update(unit="tokens", count=100)
    if place <= 1000:  # from the start in each round
        benchmark.pedantic(lambda stream, n: stream.advance(n), setup=lambda: ((arrive(), 100), {}), rounds=30)
    else:
        benchmark.pedantic(arrive().advance, (100,), rounds=30, warmup_rounds=1)


def decoder(engine: Engine, count: int) -> Callable[[int], object]:
    """Return a function that generates that many tokens of each of `count` sequences, past their windows.

    A single sequence is a stream that continues from call to call; several are rows of a batch on one thread.
    """
    prompt = random_tokens(engine.config, 2 * engine.config.longest_window)
    if count == 1:
        stream = engine.start(prompt, Sampling(), 0)
        stream.advance(1)
        return stream.advance
    controls = Sampling()

    def run(length: int) -> Rows:
        return engine.run([Request(prompt, controls, None, length, i) for i in range(count)], 0, threads=1)

    return run


def generate(
    benchmark: BenchmarkFixture, config: ModelConfig, count: int, length: int, backend: Backend = "compiled"
) -> None:
    """Measure `count` sequences with random weights on one thread."""
    benchmark.extra_info.update(unit="tokens", count=count * length)
    benchmark(decoder(Engine(random_weights(config, 0, scale=0.1), backend), count), length)


def logits(benchmark: BenchmarkFixture, config: ModelConfig, backend: Backend) -> None:
    """Measure the logits of 1,024 positions of one sequence, with random weights."""
    engine = Engine(random_weights(config, 0, scale=0.1), backend)
    tokens = random_tokens(config, 1024)
    engine.logits(tokens)
    benchmark.extra_info.update(unit="tokens", count=len(tokens))
    result = benchmark(engine.logits, tokens)
    assert np.isfinite(result).all()
