"""Training steps on a GPU as a CUDA graph.

A step of a small model is hundreds of short kernels. Starting each of them from Python takes several times as long as
running it; a graph starts them all at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from knock_training.optimizing import Optimizers, update
from knock_training.recipe import Recipe

_WARM_UP = 3  # steps before the capture: optimisers and libraries allocate their memory in the first ones

Step = Callable[[], Tensor]


class StepGraph:
    """Takes the steps of `training_step` on a GPU. All batches must have the same shape.

    Args:
        twin: model to train.
        optimizers: optimisers of its parameters.
        recipe: as for `training_step`.
        capture: turns a function on GPU tensors into one that replays it; another one serves tests without a GPU.
    """

    def __init__(
        self,
        twin: nn.Module,
        optimizers: Optimizers,
        recipe: Recipe,
        capture: Callable[[Step], Step] | None = None,
    ) -> None:
        self._twin, self._optimizers, self._recipe = twin, optimizers, recipe
        self._capture = capture or _captured
        self._steps = 0
        self._inputs: list[Tensor] = []  # from which the graph reads
        self._replay: Step | None = None

    def __call__(self, batch: tuple[Tensor, Tensor], step: int, expected: Tensor | None = None) -> Tensor:
        """Take a step. Arguments and result are those of `training_step`."""
        given = [*batch, *(() if expected is None else (expected,))]
        self._optimizers.set_rates(step)
        if self._replay is not None:
            for inside, new in zip(self._inputs, given, strict=True):
                inside.copy_(new)
            return self._replay()
        self._steps += 1
        if self._steps <= _WARM_UP:
            return self._update(given)
        self._inputs = [each.clone() for each in given]
        self._replay = self._capture(lambda: self._update(self._inputs))
        return self._replay()  # capturing does not compute anything

    def _update(self, given: list[Tensor]) -> Tensor:
        inputs, targets, *expected = given
        return update(self._twin, self._optimizers, (inputs, targets), self._recipe, expected[0] if expected else None)


def _captured(step: Step) -> Step:
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay
