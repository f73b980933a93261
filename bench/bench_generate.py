"""Benchmarks of generation, with sampling and statistics, and of logits, by head type, size and position."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.turns import seconds, take_turns
from knock import ModelConfig, Sampling, reference
from knock.choices import HEAD_TYPES, POSITIONS, PRECISIONS, Position
from knock.engine.batch import Request, Rows
from knock.engine.engine import Engine, TokenStream
from knock_kernels.cache.store import ROWS
from tests.cases import EXAMPLE, float64, random_tokens, random_weights

LARGE = ModelConfig(vocab_size=65, T=256, n_emb=384, nodes=1536, n_blocks=6, n_heads=6)
ROUNDS = 11
SIZES = (32, 64, 128, 256, 384, 512, 768)
PLACES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


@pytest.mark.parametrize("count", [1, ROWS])
def bench_heads(benchmark: BenchmarkFixture, count: int) -> None:
    """Generate one sequence, or eight together on one thread, with heads of each type, in every precision."""
    configs = {head_type: replace(EXAMPLE, head_type=head_type, position="relative") for head_type in HEAD_TYPES}
    generate(benchmark, configs, count, 2000 // count)


def bench_recompute(benchmark: BenchmarkFixture) -> None:
    """Generate a token on NumPy without a cache: recompute everything that it depends on."""
    weights = float64(random_weights(EXAMPLE, 0, scale=0.1))
    tokens = random_tokens(EXAMPLE, EXAMPLE.receptive_field)
    benchmark.extra_info.update(unit="tokens", count=1)
    benchmark(lambda: reference.sample(reference.forward(tokens, weights, EXAMPLE)[-1], Sampling(), 0.5))


@pytest.mark.parametrize("n_emb", [128, 256])
def bench_wider_logits(benchmark: BenchmarkFixture, n_emb: int) -> None:
    """Compute the logits of 1,024 positions of wider models at once."""
    config = replace(EXAMPLE, n_emb=n_emb, nodes=n_emb)
    engine, tokens = Engine(random_weights(config, 0, scale=0.1), "compiled"), random_tokens(config, 1024)
    benchmark.extra_info.update(unit="tokens", count=len(tokens))
    result = benchmark(engine.logits, tokens)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("count", [1, ROWS])
@pytest.mark.parametrize("n_emb", SIZES)
def bench_size(benchmark: BenchmarkFixture, n_emb: int, count: int) -> None:
    """Generate with the example shape, wider or narrower, C = F, in every precision."""
    length = max(20, 64_000 // n_emb // count)
    generate(benchmark, {"": replace(EXAMPLE, n_emb=n_emb, nodes=n_emb)}, count, length)


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


def generate(benchmark: BenchmarkFixture, configs: Mapping[str, ModelConfig], count: int, length: int) -> None:
    """Measure the seconds for each token of models with random weights, in every precision, in turns.

    Args:
        benchmark: the fixture.
        configs: shapes of the models, by name.
        count: number of sequences, on one thread.
        length: tokens for each sequence in a turn.
    """
    running = {
        key(name, precision): decoder(Engine(random_weights(config, 0, scale=0.1), "compiled", precision), count)
        for name, config in configs.items()
        for precision in PRECISIONS
    }
    take_turns(
        benchmark,
        lambda: {
            name: seconds(lambda decode=decode: decode(length)) / (count * length) for name, decode in running.items()
        },
        ROUNDS,
    )


def key(what: str, precision: str) -> str:
    """Return the name of the seconds of something in a precision."""
    return f"{what}, {precision}" if what else precision
