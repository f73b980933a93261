"""64-bit hashes of texts, and of the runs of characters in them, the same on every machine."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from knock.generation.hash_set import Hashes

_WORD = 2**64 - 1
_SPLITMIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_BASE = 0xD6E8FEB86659FD93  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 2**64)


def text_hash(text: str) -> int:
    """Return a 64-bit hash of a text."""
    return int.from_bytes(_digest(text), "little")


def text_hashes(texts: Iterable[str]) -> Hashes:
    """Return `text_hash` of every text, uint64 [texts]."""
    return np.frombuffer(b"".join(map(_digest, texts)), "<u8").astype(np.uint64, copy=False)


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def run_hashes(texts: Sequence[str], length: int) -> Hashes:
    """Return a 64-bit hash of every run of `length` characters of every text, uint64 [runs].

    A polynomial in an odd base modulo 2**64 whose coefficients are hashed code points (Karp and Rabin 1987).
    """
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    if len(points) < length:
        return np.empty(0, np.uint64)
    with np.errstate(over="ignore"):
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(points) * _powers(_BASE, len(points)))])
        runs: Hashes = (sums[length:] - sums[:-length]) * _powers(_INVERSE, len(points) - length + 1)
    if len(texts) > 1:
        lengths = np.array([len(text) for text in texts])
        room = np.repeat(np.cumsum(lengths), lengths)[: len(runs)] - np.arange(len(runs))  # until the text's end
        runs = runs[room >= length]
    return runs


class RollingHash:
    """The hashes of `run_hashes` one after the other: faster for texts of up to some dozen characters.

    Args:
        length: length of a run, in characters.
    """

    def __init__(self, length: int) -> None:
        *self._terms, self._entering = (_Coefficients(power) for power in _powers(_BASE, length + 1).tolist())
        self._leaving = self._terms[0]

    def hashes(self, text: str) -> Iterator[int]:
        """Yield the hash of every run of a text, which has at least one."""
        digest = sum(map(operator.getitem, self._terms, text)) & _WORD
        yield digest
        entering, leaving = self._entering, self._leaving
        for new, old in zip(text[len(self._terms) :], text, strict=False):
            digest = (digest + entering[new] - leaving[old]) * _INVERSE & _WORD
            yield digest


class _Coefficients(dict[str, int]):
    """The coefficient of each character, times a factor modulo 2**64."""

    def __init__(self, factor: int) -> None:
        self._factor = factor

    def __missing__(self, char: str) -> int:
        coefficient = int(_mixed(np.array([ord(char)]))[0]) * self._factor & _WORD
        self[char] = coefficient
        return coefficient


def _mixed(points: npt.NDArray[np.integer]) -> Hashes:
    """Return hashes of code points: the mixing function of splitmix64."""
    with np.errstate(over="ignore"):
        x = (points.astype(np.uint64) + np.uint64(1)) * np.uint64(_SPLITMIX[0])
        x = (x ^ (x >> np.uint64(30))) * np.uint64(_SPLITMIX[1])
        x = (x ^ (x >> np.uint64(27))) * np.uint64(_SPLITMIX[2])
    mixed: Hashes = x ^ (x >> np.uint64(31))
    return mixed


def _powers(base: int, count: int) -> Hashes:
    """Return the first powers of a base modulo 2**64, uint64 [count]."""
    return _powers_of_two(base, (count - 1).bit_length())[:count]


@functools.lru_cache(maxsize=8)
def _powers_of_two(base: int, exponent: int) -> Hashes:
    """Return the first 2**exponent powers of a base, which the texts of about one length share."""
    powers = np.full(1 << exponent, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers)
