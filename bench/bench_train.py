"""Benchmarks of training: one optimiser step on 4,096 characters, on one thread; a plain GPT for comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.plain_gpt import PlainGPT, plain_step
from knock.choices import POSITIONS, Position
from knock.config import ModelConfig
from knock.weights import Weights
from knock_training.model import Twin
from knock_training.optimizing import Optimizers, training_step
from knock_training.recipe import Optimizer, Recipe
from knock_training.sizes import SIZES
from tests.cases import EXAMPLE, random_tokens
from training import trials

NANO = ModelConfig(vocab_size=65, **SIZES["nano"].shape)
HYBRID = ModelConfig(vocab_size=65, **trials.NANO)
CONTEXT = HYBRID.T * Recipe().windows
PLAIN = {"vocab_size": 65, "context": CONTEXT, "width": 52, "heads": 4, "blocks": 3}


@pytest.mark.parametrize("position", POSITIONS)
def bench_train(benchmark: BenchmarkFixture, position: Position) -> None:
    """Take a step of the default recipe with the example shape."""
    train(benchmark, replace(EXAMPLE, position=position), Recipe())


def bench_train_nano(benchmark: BenchmarkFixture) -> None:
    """Take a step with the size that trains in minutes."""
    train(benchmark, NANO, Recipe())


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def bench_train_hybrid(benchmark: BenchmarkFixture, optimizer: Optimizer) -> None:
    """Take a step with a relative hybrid of that size, by the default recipe or by AdamW alone."""
    train(benchmark, HYBRID, Recipe(optimizer=optimizer))


def bench_train_plain(benchmark: BenchmarkFixture) -> None:
    """Take a step with a plain GPT of as many parameters and blocks as that hybrid, on sequences of the same length."""
    torch.set_num_threads(1)
    gpt = PlainGPT(**PLAIN)
    size, hybrid = sum(p.numel() for p in gpt.parameters()), Weights.random(HYBRID).n_parameters
    assert abs(size - hybrid) < 0.02 * hybrid
    assert PLAIN["blocks"] == HYBRID.n_blocks
    tokens = torch.from_numpy(random_tokens(HYBRID, Recipe().batch_chars)).long().view(-1, CONTEXT)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3, fused=True)
    benchmark.extra_info.update(unit="characters", count=tokens.numel())
    benchmark(plain_step, gpt, optimizer, (tokens, tokens))


def train(benchmark: BenchmarkFixture, config: ModelConfig, recipe: Recipe) -> None:
    """Measure the steps of a recipe."""
    torch.set_num_threads(1)
    length = config.longest_window * (recipe.windows if config.position == "relative" else 1)
    tokens = torch.from_numpy(random_tokens(config, recipe.batch_chars)).long().view(-1, length)
    twin = Twin(Weights.random(config))
    optimizers = Optimizers(twin, recipe)
    benchmark.extra_info.update(unit="characters", count=recipe.batch_chars)
    benchmark(training_step, twin, optimizers, (tokens, tokens), recipe, 0)
