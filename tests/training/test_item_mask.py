"""Packed items: every item is as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from knock_training.model import Twin
from tests.cases import EVERY, random_weights


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("seed", range(5))
def test_packed_items_equal_items_alone(kind: str, seed: int) -> None:
    weights = random_weights(EVERY[kind], 0)
    config, rng = weights.config, np.random.default_rng(seed)
    boundary = config.vocab_size - 1
    room = config.longest_window if config.position == "absolute" else 4 * config.longest_window + 3
    items: list[list[int]] = []
    while (left := room - sum(map(len, items))) > 0:
        length = min(int(rng.integers(0, room // 2 + 1)), left - 1)
        items.append([boundary, *rng.integers(0, boundary, length).tolist()])
    alone, packed = Twin(weights).double(), Twin(weights, boundary=boundary).double()
    expected = torch.cat([alone(torch.tensor([item]))[0] for item in items])
    result = packed(torch.tensor([[token for item in items for token in item]]))[0]
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", EVERY)
def test_gradients_stay_inside_items(kind: str) -> None:
    """The loss of the second item does not move the embedding of a character that only the first one has."""
    weights = random_weights(EVERY[kind], 0)
    boundary = weights.config.vocab_size - 1
    twin = Twin(weights, boundary=boundary)
    twin(torch.tensor([[boundary, 0, boundary, 1]]))[0, 2:].square().sum().backward()
    moved = twin.embed.grad.abs().sum(1) > 0
    assert not moved[0]
    assert moved[1]
    assert moved[boundary]
