"""Tests of Muon, against PyTorch's and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from knock_training.muon import Muon, orthogonalised

SIZES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=5)


def matrices(sizes: list[tuple[int, int]], seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(size, generator=generator)) for size in sizes]


@given(sizes=SIZES, seed=st.integers(0, 2**31), rate=st.sampled_from([0.02, torch.tensor(0.02)]))
def test_steps_are_those_of_torch(sizes: list[tuple[int, int]], seed: int, rate: float | torch.Tensor) -> None:
    """Each size twice, and transposed: those are processed together."""
    sizes = [*sizes, *sizes, *((columns, rows) for rows, columns in sizes)]
    ours, theirs = matrices(sizes, seed), matrices(sizes, seed)
    muon = Muon(ours, lr=rate, weight_decay=0.1, momentum=0.9)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.9)
    for step in range(3):
        for mine, other, gradient in zip(ours, theirs, matrices(sizes, seed + 1 + step), strict=True):
            mine.grad, other.grad = gradient.detach(), gradient.detach().clone()
        muon.step()
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        # An update has singular values of about 1, and bfloat16 rounds it in other places.
        assert mine.detach().numpy() == pytest.approx(other.detach().numpy(), abs=3 * 0.02 * 0.05)


def test_parameters_without_a_gradient_stay() -> None:
    first, second = matrices([(3, 4), (3, 4)], 0)
    before = second.detach().clone()
    first.grad = torch.ones(3, 4)
    muon = Muon([first, second], lr=0.02, weight_decay=0.1, momentum=0.9)
    muon.step()
    assert torch.equal(second, before)
    assert list(muon.state) == [first]


@given(
    rows=st.integers(1, 16), more=st.integers(0, 40), scale=st.sampled_from([1e-6, 1.0, 1e6]), seed=st.integers(0, 99)
)
def test_singular_values_are_close_to_one(rows: int, more: int, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    given = torch.randn(3, rows, rows + 8 + more, generator=generator) * scale
    found = torch.linalg.svdvals(orthogonalised(given).float())
    assert found.min() > 0.5
    assert found.max() < 1.3
