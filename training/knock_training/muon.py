"""Muon: the optimiser of the matrices inside blocks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"), with Nesterov momentum.

    The update of a matrix is its momentum with all singular values brought close to 1. The result is that of
    `torch.optim.Muon`, but matrices of the same size are processed together, and the learning rate may be a tensor, so
    that a step can be part of a CUDA graph.

    Args:
        parameters: matrices.
        lr: learning rate.
        weight_decay: weight decay, decoupled from the gradient.
        momentum: share of the average of gradients that is kept at each step.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float | Tensor, weight_decay: float, momentum: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            matrices = [p for p in group["params"] if p.grad is not None]
            if not matrices:
                continue
            gradients = [p.grad for p in matrices]
            averages = [self._average(p) for p in matrices]
            torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, averages, group["momentum"])
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            for same in _by_size(matrices):
                wide = [updates[i] if _is_wide(matrices[i]) else updates[i].mT for i in same]
                directions = orthogonalised(torch.stack(wide)).float()
                for i, direction in zip(same, directions, strict=True):
                    rows, columns = matrices[i].shape
                    scaled = direction * (group["lr"] * math.sqrt(max(1, rows / columns)))
                    matrices[i].sub_(scaled if _is_wide(matrices[i]) else scaled.mT)

    def _average(self, matrix: nn.Parameter) -> Tensor:
        state: dict[str, Any] = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return matrices with all singular values brought close to 1, float32 [M, rows, columns] -> bfloat16.

    Five Newton-Schulz iterations with the coefficients of Jordan et al. 2024. Singular values end between about 0.7 and
    1.2. There must not be more rows than columns.
    """
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_EPSILON)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _is_wide(matrix: Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]


def _by_size(matrices: list[nn.Parameter]) -> list[list[int]]:
    """Return the places of the matrices, those that have the same size, transposed or not, together."""
    places = defaultdict(list)
    for place, matrix in enumerate(matrices):
        places[tuple(sorted(matrix.shape))].append(place)
    return list(places.values())
