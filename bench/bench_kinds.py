"""What a character costs to decode: heads and positions of every kind, in the shapes of the trials; shipped models."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.bench_generate import start
from bench.turns import seconds, take_turns
from knock.config import ModelConfig
from knock.engine.engine import MAX_LANES, Engine
from knock.files.checkpoint import read_checkpoint
from knock.models import shipped
from knock.weights import Weights
from tests.cases import random_weights
from training.trials import COMPARISONS

SIZES = ("nano", "tiny")
COUNTS = (1, MAX_LANES)
CHARS = 2000  # of each sequence, in a turn: what the turns of the others cost it is little then
ROUNDS = 11


def key(name: str, count: int) -> str:
    """What the time of a model is kept under."""
    return f"{name} x {count}"


@pytest.mark.parametrize("size", SIZES)
def bench_kinds(benchmark: BenchmarkFixture, size: str) -> None:
    """Random weights in the shapes that are compared, past the window, one text and eight together."""
    models = {
        f"{group}: {arm.name}": random_weights(ModelConfig(vocab_size=65, **arm.shape), 0, scale=0.1)
        for group in (f"parameters-{size}", f"time-{size}")
        for arm in COMPARISONS[group]
    }
    _decode(benchmark, models)


def bench_shipped(benchmark: BenchmarkFixture) -> None:
    """The shipped models, the same way."""
    _decode(benchmark, {name: read_checkpoint(path).weights for name, path in shipped().items()})


def _decode(benchmark: BenchmarkFixture, models: dict[str, Weights]) -> None:
    """Seconds a character of each model, one text and eight together, taking turns."""
    running = {
        (name, count): start(Engine(weights, "compiled"), count, range(count), 2 * weights.config.T)
        for name, weights in models.items()
        for count in COUNTS
    }
    take_turns(
        benchmark,
        lambda: {
            key(name, count): seconds(lambda lanes=lanes: lanes.advance(CHARS)) / (CHARS * count)
            for (name, count), lanes in running.items()
        },
        ROUNDS,
    )
