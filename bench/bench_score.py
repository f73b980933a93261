"""A text scored, as `knock score` does: in pieces, by all CPUs."""

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
    """Random characters: what a text costs does not depend on what is in it."""
    loaded = load(model, backend="compiled")
    text = loaded.vocab.decode(random_tokens(loaded.model.config, CHARS))
    benchmark.extra_info.update(unit="characters", count=CHARS)
    surprise = benchmark(lambda: Scorer(model, loaded, "error").feed(text))
    assert len(surprise) == CHARS
