"""Which slot of a ring of T keys a step takes, and at what distances it sees the others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knock.weights import FloatArray


class Ring(NamedTuple):
    """A row a step. Steps 0 to T-1 fill the ring, T to 2T-1 roll it, and from then on the latter repeat.

    Attributes:
        slot: (2T,), where the step's own key and value go.
        columns: (2T, T), for each slot, the column of the reweight logits for its distance, farthest first.
        mask: (2T, T), what to add to the logits of each slot: 0, or -inf where nothing has been put yet.
    """

    slot: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    mask: FloatArray


def make_ring(T: int) -> Ring:
    """The ring of a window of T."""
    step = np.arange(2 * T)
    distance = (step[:, None] - np.arange(T)) % T
    mask = np.where(distance <= step[:, None], 0, -np.inf).astype(np.float32)
    return Ring(step % T, T - 1 - distance, mask)


def row(step: int, T: int) -> int:
    """The row of a step, however late."""
    return step if step < T else T + step % T
