"""Generation: tokens from a running sequence, sampling and statistics included."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from knock import Sampling
from knock.config import POSITIONS, Position
from knock.engine import Engine
from tests.cases import EXAMPLE, random_tokens, random_weights

TOKENS = 50


@pytest.mark.parametrize("position", POSITIONS)
def bench_generate(benchmark: BenchmarkFixture, position: Position) -> None:
    """One sequence, past its window, so that a relative model rolls and an absolute one slides."""
    config = replace(EXAMPLE, position=position)
    stream = Engine(random_weights(config, 0, scale=0.1)).start(random_tokens(config, 100), Sampling(), seed=0)
    stream.advance(1)
    benchmark.extra_info.update(unit="tokens", count=TOKENS)
    tokens, _ = benchmark(stream.advance, TOKENS)
    assert len(tokens) == TOKENS


def bench_logits(benchmark: BenchmarkFixture, engine: Engine) -> None:
    """Every position of 1,024 tokens at once."""
    tokens = random_tokens(EXAMPLE, 1024)
    benchmark.extra_info.update(unit="tokens", count=1024)
    assert benchmark(engine.logits, tokens).shape == (1024, 65)
