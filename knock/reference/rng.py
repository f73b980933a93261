"""Philox4x32-10: random numbers as a pure function of a counter and a key.

Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". The generator has no state, so the
number of a step of a row does not depend on other draws.
"""

from __future__ import annotations

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return four random 32-bit words for a counter and a key of 32-bit words: [4], [2] -> [4]."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seed: int, stream: int, step: int) -> float:
    """Return the uniform number in [0, 1) of one step of one row (`stream`), with 53 random bits.

    The key is the seed and the counter is (step, stream); each is 64 bits as two words, low word first. The result is
    made of the upper 27 bits of the first word, then the upper 26 bits of the second.
    """
    words = philox4x32(
        (step & _MASK, step >> 32 & _MASK, stream & _MASK, stream >> 32 & _MASK),
        (seed & _MASK, seed >> 32 & _MASK),
    )
    return ((words[0] >> 5) * 2**26 + (words[1] >> 6)) * 2.0**-53
