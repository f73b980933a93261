"""Tests of training steps as a CUDA graph. A function that computes at every call takes the place of the graph."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from knock_training.graphs import StepGraph
from knock_training.model import Twin
from knock_training.optimizing import Optimizers, training_step
from knock_training.recipe import Recipe
from tests.cases import EVERY, random_weights

RECIPE = Recipe(steps=8, batch_chars=32)
V = EVERY["hybrid-relative"].vocab_size


def batches(is_taught: bool, device: str = "cpu") -> list[tuple[tuple[Tensor, Tensor], Tensor | None]]:
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(V, size=(8, 2, 17))).to(device)
    expected = torch.from_numpy(rng.dirichlet(np.ones(V), size=(8, 2, 16))).half().to(device)
    return [((t[:, :-1], t[:, 1:]), e if is_taught else None) for t, e in zip(tokens, expected, strict=True)]


def trained(
    graph: bool, is_taught: bool, capture: Callable | None = None, device: str = "cpu"
) -> tuple[Twin, list[float]]:
    twin = Twin(random_weights(EVERY["hybrid-relative"], 0)).to(device)
    optimizers = Optimizers(twin, RECIPE)
    take = StepGraph(twin, optimizers, RECIPE, capture)
    losses = []
    for step, (batch, expected) in enumerate(batches(is_taught, device)):
        loss = take(batch, step, expected) if graph else training_step(twin, optimizers, batch, RECIPE, step, expected)
        losses.append(loss.item())
    return twin, losses


@pytest.mark.parametrize("is_taught", [False, True])
def test_steps_are_the_same(is_taught: bool) -> None:
    captured = []

    def capture(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        captured.append(step)
        return step

    twin, losses = trained(True, is_taught, capture)
    expected, expected_losses = trained(False, is_taught)
    assert losses == expected_losses
    for name, value in expected.state_dict().items():
        assert torch.equal(twin.state_dict()[name], value)
    assert len(captured) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("is_taught", [False, True])
def test_steps_are_the_same_on_a_gpu(is_taught: bool) -> None:
    assert trained(True, is_taught, device="cuda")[1] == trained(False, is_taught, device="cuda")[1]


def test_batches_must_have_one_shape() -> None:
    twin = Twin(random_weights(EVERY["hybrid-relative"], 0))
    take = StepGraph(twin, Optimizers(twin, RECIPE), RECIPE, lambda step: step)
    for step, (batch, _) in enumerate(batches(False)):
        take(batch, step)
    with pytest.raises(RuntimeError, match="size of tensor"):
        take((batch[0][:, :-1], batch[1][:, :-1]), 0)


def test_states_move_between_devices() -> None:
    """Those of a GPU hold learning rates as tensors, and say that their steps can be captured."""
    (first, _), (second, _) = batches(False)[:2]
    twin = Twin(random_weights(EVERY["hybrid-relative"], 0))
    optimizers = Optimizers(twin, RECIPE)
    training_step(twin, optimizers, first, RECIPE, 0)
    moved, states = (
        copy.deepcopy(twin),
        copy.deepcopy({name: each.state_dict() for name, each in optimizers.all.items()}),
    )
    for group in states["adamw"]["param_groups"]:
        group["capturable"] = True
    for group in states["adamw"]["param_groups"] + states["muon"]["param_groups"]:
        group["lr"] = torch.tensor(group["lr"])
    others = Optimizers(moved, RECIPE)
    others.load(states)
    training_step(twin, optimizers, second, RECIPE, 1)
    training_step(moved, others, second, RECIPE, 1)
    for name, value in twin.state_dict().items():
        assert torch.equal(moved.state_dict()[name], value)
