"""Benchmarks of the models of the trials, by head type, position mode and window, and of the shipped models."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.bench_generate import decoder
from bench.turns import seconds, take_turns
from knock.config import ModelConfig
from knock.engine.engine import Engine
from knock.files.checkpoint import read_checkpoint
from knock.models import shipped
from knock.weights import Weights
from knock_kernels.cache.store import ROWS
from tests.cases import random_weights
from training.reach.arms import ARMS
from training.trials import COMPARISONS

SIZES = ("nano", "tiny")
COUNTS = (1, ROWS)
CHARS = 2000  # per sequence and turn; enough that refilling the caches after other turns hardly counts
ROUNDS = 11


def key(name: str, count: int) -> str:
    """Return the name of a model's time."""
    return f"{name} x {count}"


@pytest.mark.parametrize("size", SIZES)
def bench_kinds(benchmark: BenchmarkFixture, size: str) -> None:
    """Generate past the window with random weights in the shapes of the comparisons: one text, and eight together."""
    models = {
        f"{group}: {arm.name}": random_weights(ModelConfig(vocab_size=65, **arm.shape), 0, scale=0.1)
        for group in (f"parameters-{size}", f"time-{size}")
        for arm in COMPARISONS[group]
    }
    _decode(benchmark, models)


def bench_reach(benchmark: BenchmarkFixture) -> None:
    """Generate with random weights in the shapes of the trial of far attention."""
    _decode(
        benchmark,
        {name: random_weights(ModelConfig(vocab_size=65, **arm.shape), 0, scale=0.1) for name, arm in ARMS.items()},
    )


def bench_shipped(benchmark: BenchmarkFixture) -> None:
    """Generate with the shipped models in the same way."""
    _decode(benchmark, {name: read_checkpoint(path).weights for name, path in shipped().items()})


def _decode(benchmark: BenchmarkFixture, models: dict[str, Weights]) -> None:
    """Measure the seconds per character of each model, one text and eight together, in turns."""
    running = {
        (name, count): decoder(Engine(weights, "compiled"), count)
        for name, weights in models.items()
        for count in COUNTS
    }
    take_turns(
        benchmark,
        lambda: {
            key(name, count): seconds(lambda generate=generate: generate(CHARS)) / (CHARS * count)
            for (name, count), generate in running.items()
        },
        ROUNDS,
    )
