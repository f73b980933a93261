"""Training: one optimiser step on 4,096 characters, on one CPU thread; and of a plain GPT of the same size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.plain_gpt import PlainGPT, plain_step
from knock.config import POSITIONS, ModelConfig, Position
from knock.weights import Weights
from knock_training.model import Twin
from knock_training.optimizing import Optimizers, training_step
from knock_training.recipe import Recipe
from knock_training.sizes import SIZES
from tests.cases import EXAMPLE, random_tokens

NANO = ModelConfig(vocab_size=65, **SIZES["nano"].shape)
CONTEXT = NANO.T * Recipe().windows
PLAIN = {"vocab_size": 65, "context": CONTEXT, "width": 52, "heads": 4, "blocks": 3}


@pytest.mark.parametrize("position", POSITIONS)
def bench_train(benchmark: BenchmarkFixture, position: Position) -> None:
    """The default recipe's batch."""
    train(benchmark, replace(EXAMPLE, position=position), Recipe())


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def bench_train_nano(benchmark: BenchmarkFixture, optimizer: str) -> None:
    """The size that trains in minutes, by the default recipe or by AdamW alone."""
    train(benchmark, NANO, Recipe(optimizer=optimizer))  # type: ignore[arg-type]


def bench_train_plain(benchmark: BenchmarkFixture) -> None:
    """A plain GPT with as many parameters and blocks, in sequences of the same length."""
    torch.set_num_threads(1)
    gpt = PlainGPT(**PLAIN)
    size, nano = sum(p.numel() for p in gpt.parameters()), Weights.random(NANO).n_parameters
    assert abs(size - nano) < 0.1 * nano
    tokens = torch.from_numpy(random_tokens(NANO, Recipe().batch_chars)).long().view(-1, CONTEXT)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3, fused=True)
    benchmark.extra_info.update(unit="characters", count=tokens.numel())
    benchmark(plain_step, gpt, optimizer, (tokens, tokens))


def train(benchmark: BenchmarkFixture, config: ModelConfig, recipe: Recipe) -> None:
    """Steps of a recipe."""
    torch.set_num_threads(1)
    length = config.T * (recipe.windows if config.position == "relative" else 1)
    tokens = torch.from_numpy(random_tokens(config, recipe.batch_chars)).long().view(-1, length)
    twin = Twin(Weights.random(config))
    optimizers = Optimizers(twin, recipe)
    benchmark.extra_info.update(unit="characters", count=recipe.batch_chars)
    benchmark(training_step, twin, optimizers, (tokens, tokens), recipe, 0)
