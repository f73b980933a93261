"""Counters and flags that threads share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from knock_kernels.lang.threads import is_published, look, publish, take_next
from tests.kernels.pointers import address


def test_counter() -> None:
    @njit
    def run(counter: npt.NDArray[np.int64]) -> tuple[int, int, int]:
        return take_next(address(counter)), take_next(address(counter)), look(address(counter))

    assert run(np.array([5])) == (5, 6, 7)


def test_flags() -> None:
    @njit
    def run(flags: npt.NDArray[np.int16], i: int) -> tuple[bool, bool]:
        before = is_published(address(flags) + i)
        publish(address(flags) + i)
        return before, is_published(address(flags) + i)

    flags = np.zeros(3, np.int16)
    assert run(flags, 1) == (False, True)
    assert run(flags, 1) == (True, True)
    assert flags.tolist() == [0, 1, 0]
