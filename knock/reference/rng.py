"""Philox4x32-10: random numbers as a pure function of a counter and a key.

Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". Nothing is kept between draws, so
the number for a step of a row is the same whatever was drawn before it, or beside it.
"""

from __future__ import annotations

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Four 32-bit words from a counter of four and a key of two: [4], [2] -> [4]."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seed: int, stream: int, step: int) -> float:
    """The uniform number in [0, 1) of one step of one row, with 53 random bits.

    The key is the seed, the counter is (step, stream), each 64 bits as two words, low word first. The bits are the
    upper 27 of the first word, then the upper 26 of the second.
    """
    words = philox4x32(
        (step & _MASK, step >> 32 & _MASK, stream & _MASK, stream >> 32 & _MASK),
        (seed & _MASK, seed >> 32 & _MASK),
    )
    return ((words[0] >> 5) * 2**26 + (words[1] >> 6)) * 2.0**-53
