"""Benchmark of scoring a text as `knock score` does: in pieces, on all CPUs."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from knock.generation.scoring import Scorer
from knock.language_model import load
from tests.cases import random_tokens

MODELS = ("shakespeare-nano", "shakespeare-small")
CHARS = 2**17


@pytest.mark.parametrize("model", MODELS)
def bench_score(benchmark: BenchmarkFixture, model: str) -> None:
    """Score random characters: the time does not depend on the text."""
    loaded = load(model, backend="compiled")
    text = loaded.vocab.decode(random_tokens(loaded.model.config, CHARS))
    benchmark.extra_info.update(unit="characters", count=CHARS)
    surprise = benchmark(lambda: Scorer(model, loaded.model.engine, loaded.vocab, "error").feed(text))
    assert len(surprise) == CHARS
