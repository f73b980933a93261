"""Training: one optimiser step on 4,096 characters, on one CPU thread."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from knock.config import POSITIONS, Position
from knock.weights import Weights
from knock_training.model import Twin
from knock_training.optimizing import Optimizers, training_step
from knock_training.recipe import Recipe
from tests.cases import EXAMPLE, random_tokens


@pytest.mark.parametrize("position", POSITIONS)
def bench_train(benchmark: BenchmarkFixture, position: Position) -> None:
    """The default recipe's batch."""
    torch.set_num_threads(1)
    config, recipe = replace(EXAMPLE, position=position), Recipe()
    length = config.T * (recipe.windows if position == "relative" else 1)
    tokens = torch.from_numpy(random_tokens(config, recipe.batch_chars)).long().view(-1, length)
    twin = Twin(Weights.random(config))
    optimizers = Optimizers(twin, recipe)
    benchmark.extra_info.update(unit="characters", count=recipe.batch_chars)
    benchmark(training_step, twin, optimizers, (tokens, tokens), recipe, 0)
