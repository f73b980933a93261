"""The loss curve of a training run, as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

    from knock_training.progress import Point

TRAINING, VALIDATION = "·", "●"
_STYLES = {TRAINING: "cyan", VALIDATION: "magenta"}
_LABEL = 7  # width of the labels of the axis
_NARROWEST = 10  # columns
_CAPTIONS = (f"nats per character: {TRAINING} training, {VALIDATION} validation",
             f"nats/char: {TRAINING} training, {VALIDATION} validation",
             f"{TRAINING} training, {VALIDATION} validation")  # fmt: skip


def loss_curve(points: Sequence[Point], steps: int, width: int, height: int) -> str:
    """Plot losses against steps as text: · for training, ● for validation.

    The first losses of a run are far above the rest. So the axis covers the lowest nine tenths of the training losses,
    and all validation losses except those of the first tenth of the steps; but every validation loss is visible: one
    above the axis is in the top line.

    Args:
        points: step, training loss, validation loss or None.
        steps: last step of the axis.
        width: width of the plot, in characters.
        height: lines of the plot without its caption, at least 2.

    Returns:
        The plot; empty if there are no points or the width is too small.
    """
    across = width - _LABEL
    training = [(step, loss) for step, loss, _ in points if math.isfinite(loss)]
    validation = [(step, loss) for step, _, loss in points if loss is not None and math.isfinite(loss)]
    if not training or across < _NARROWEST:
        return ""
    losses = sorted(loss for _, loss in training)
    late = [loss for step, loss in validation if step > points[-1][0] / 10] or [loss for _, loss in validation]
    high = max([losses[int(0.9 * (len(losses) - 1))], *late])
    low = min([losses[0], *(loss for _, loss in validation)])
    span = max(high - low, 0.01)
    cells = [[" "] * across for _ in range(height)]

    def draw(mark: str, step: int, loss: float) -> None:
        row = round((low + span - loss) / span * (height - 1))
        cells[max(0, row)][min(across - 1, step * across // (steps + 1))] = mark

    for step, loss in training:
        if loss <= low + span:
            draw(TRAINING, step, loss)
    for step, loss in validation:
        draw(VALIDATION, step, loss)
    lines = [
        (f"{low + span * (1 - row / (height - 1)):{_LABEL - 1}.3f} " if row % 3 == 0 else " " * _LABEL) + "".join(line)
        for row, line in enumerate(cells)
    ]
    return "\n".join([*(line.rstrip() for line in lines), _caption(width)])


def _caption(width: int) -> str:
    """Return the longest caption that fits, below the plot if there is room for it."""
    text = next((text for text in _CAPTIONS if len(text) <= width), _CAPTIONS[-1][:width])
    return " " * min(_LABEL, width - len(text)) + text


def painted(curve: str) -> Text:
    """Return a plot with each curve, and its name in the caption, in a colour of its own."""
    from rich.text import Text

    text = Text(curve, no_wrap=True, overflow="ellipsis")
    for (mark, style), name in zip(_STYLES.items(), ("training", "validation"), strict=True):
        text.highlight_regex(rf"{mark}( {name})?", style)
    return text
