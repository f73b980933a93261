"""Progress of a training run, and the points of its loss curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from knock.weights import Weights

Point = tuple[int, float, float | None]  # step, training loss, validation loss or None

_MOST_POINTS = 400


@dataclass
class Curve:
    """The losses of a run over its steps, thinned to a few hundred points.

    Attributes:
        points: the points so far, by ascending step.
    """

    points: list[Point] = field(default_factory=list)

    def add(self, point: Point, steps: int) -> None:
        """Add a point, unless the stretch of steps that it falls into has one. A validation loss takes precedence.

        Args:
            point: the losses after a step.
            steps: number of steps of the run.
        """
        stretch = max(1, steps // _MOST_POINTS)
        is_taken = bool(self.points) and self.points[-1][0] // stretch == point[0] // stretch
        if not is_taken:
            self.points.append(point)
        elif point[2] is not None:
            self.points[-1] = point


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a training run.

    Attributes:
        step: steps done.
        steps: steps planned.
        loss: mean training loss since the previous evaluation, in nats/char.
        validation_loss: validation loss in nats/char; None between evaluations.
        best_loss: lowest validation loss so far; infinite before the first evaluation.
        learning_rate: AdamW's learning rate in the last step.
        chars_per_second: training speed since the start, without evaluations.
        seconds: training time so far, without evaluations.
        seconds_left: estimated time to the end.
        weights: averaged weights; None between evaluations.
        unigram_loss: validation loss of the unigram distribution, in nats/char.
        is_lost: whether both losses of the last evaluation are above those of the unigram distribution. Always False
            in the first steps.
        curve: losses from the first step on, also of the steps before the run was resumed.
    """

    step: int
    steps: int
    loss: float
    validation_loss: float | None
    best_loss: float
    learning_rate: float
    chars_per_second: float
    seconds: float
    seconds_left: float
    weights: Weights | None
    unigram_loss: float
    is_lost: bool
    curve: Sequence[Point]
