"""The ring of T keys: the slot of each step, and the distances at which it sees the other slots."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knock.weights import FloatArray


class Ring(NamedTuple):
    """A row per step. Steps 0 to T-1 fill the ring, steps T to 2T-1 overwrite it, and all later steps repeat those.

    Attributes:
        slot: [2T], slot of the step's own key and value.
        columns: [2T, T], for each slot the column of the reweight logits for its distance, farthest first.
        mask: [2T, T], added to the logits of each slot: 0, or -inf if the slot is still empty.
    """

    slot: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    mask: FloatArray


def make_ring(T: int) -> Ring:
    """Return the ring of a window T."""
    step = np.arange(2 * T)
    distance = (step[:, None] - np.arange(T)) % T
    mask = np.where(distance <= step[:, None], 0, -np.inf).astype(np.float32)
    return Ring(step % T, T - 1 - distance, mask)


def row(step: int, T: int) -> int:
    """Return the row of any step."""
    return step if step < T else T + step % T
