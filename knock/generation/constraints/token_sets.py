"""Sets of tokens as whole numbers, whose bit t stands for token t: one operation works on the whole vocabulary."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def token_set(tokens: Iterable[int]) -> int:
    """Return the set of some tokens."""
    whole = 0
    for token in tokens:
        whole |= 1 << token
    return whole


def token_set_of_mask(mask: npt.NDArray[np.bool_]) -> int:
    """Return the set of the tokens where a mask is true, bool [V]."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


def tokens_of(whole: int) -> npt.NDArray[np.intp]:
    """Return the tokens of a set, in order."""
    octets = np.frombuffer(whole.to_bytes((whole.bit_length() + 7) // 8, "little"), np.uint8)
    return np.flatnonzero(np.unpackbits(octets, bitorder="little"))
