"""Sets of known texts, and of the runs of characters in them, by their hashes: what a new text is compared with."""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knock.errors import SamplingError, TextError
from knock.files.text import read_chunks
from knock.validation import whole_number

Source = str | os.PathLike[str] | Iterable[str]
Hashes = npt.NDArray[np.uint64]

_AT_ONCE = 2**16  # texts hashed before their hashes are stored
_SPARSITY = 16  # bits per hash in the table of `_HashSet`: it answers all but a sixteenth of the questions

_SPLITMIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_BASE = 0xD6E8FEB86659FD93  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 2**64)


class KnownTexts:
    """A set of texts, by their 64-bit hashes: about 12 bytes of memory per text, and 20 while it is built.

    Two different texts have the same hash with probability 2**-64, so among a billion texts one in 10**10 new ones is
    taken for known.

    Args:
        sources: files with one text per line, which are read in pieces, or iterables of texts.

    Raises:
        TextError: if a file cannot be read, is empty or is not UTF-8.
    """

    def __init__(self, *sources: Source) -> None:
        self._hashes = _HashSet(_in_parts(text_hash(text) for source in sources for text in texts_of(source)))

    def __contains__(self, text: str) -> bool:
        return text_hash(text) in self._hashes

    def has_hash(self, digest: int) -> bool:
        """Whether the hash, by `text_hash`, is that of one of the texts."""
        return digest in self._hashes

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def digest(self) -> str:
        """Identifies the set of texts, whatever their order: 16 hex digits."""
        return self._hashes.digest


class KnownRuns:
    """All runs of `length` characters of some texts, by their 64-bit hashes.

    They take about 12 bytes of memory per character, and 20 while they are collected.

    Args:
        length: length of a run, in characters.
        sources: files, or iterables of texts. A run of a file may cross its lines, one of an iterable not its texts.

    Raises:
        TextError: if a file cannot be read, is empty or is not UTF-8.
        SamplingError: if `length` is not a whole number of at least 1.
    """

    def __init__(self, length: int, *sources: Source) -> None:
        self.length = whole_number("max_overlap", length, 1, error=SamplingError)
        self._hashes = _HashSet(hashes for source in sources for hashes in self._hashes_of(source))

    def has_run_of(self, text: str) -> bool:
        """Whether a text contains one of the runs."""
        return len(text) >= self.length and self._hashes.has_any(run_hashes(text, self.length))

    @property
    def digest(self) -> str:
        """Identifies the set of runs: 16 hex digits."""
        return self._hashes.digest

    def _hashes_of(self, source: Source) -> Iterator[Hashes]:
        if not isinstance(source, (str, os.PathLike)):
            yield from (run_hashes(text, self.length) for text in source)
            return
        before = ""
        for chunk in _chunks(source):
            text = before + chunk
            yield _distinct(run_hashes(text, self.length))
            before = text[max(0, len(text) - self.length + 1) :]


class _HashSet:
    """A sorted array of 64-bit hashes, with a table of bits that answers most questions without a search."""

    def __init__(self, parts: Iterable[Hashes]) -> None:
        self._sorted = _distinct(np.concatenate([np.empty(0, np.uint64), *parts]))
        self._mask = (1 << (max(8, _SPARSITY * len(self._sorted)) - 1).bit_length()) - 1
        bits = np.zeros((self._mask + 1) // 8, np.uint8)
        for start in range(0, len(self._sorted), _AT_ONCE):
            places = self._sorted[start : start + _AT_ONCE] & np.uint64(self._mask)
            np.bitwise_or.at(bits, places >> np.uint64(3), np.uint8(1) << (places & np.uint64(7)).astype(np.uint8))
        self._bits = bits.tobytes()  # of which Python reads a byte faster than of an array

    def __contains__(self, digest: int) -> bool:
        place = digest & self._mask
        if not self._bits[place >> 3] >> (place & 7) & 1:
            return False
        place = bisect.bisect_left(self._sorted.data, digest)
        return place < len(self._sorted) and bool(self._sorted[place] == digest)

    def __len__(self) -> int:
        return len(self._sorted)

    def has_any(self, hashes: Hashes) -> bool:
        """Whether one of the hashes is in the set."""
        if not self._sorted.size:
            return False
        places = np.searchsorted(self._sorted, hashes).clip(max=len(self._sorted) - 1)
        return bool((self._sorted[places] == hashes).any())

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._sorted.astype("<u8", copy=False).data).hexdigest()[:16]


def _distinct(hashes: Hashes) -> Hashes:
    """Sort hashes in place, and return the distinct ones: faster than `np.unique`, and in less memory."""
    hashes.sort()
    is_first = np.ones(len(hashes), bool)
    np.not_equal(hashes[1:], hashes[:-1], out=is_first[1:])
    return hashes[is_first]


def _in_parts(hashes: Iterator[int]) -> Iterator[Hashes]:
    while (part := np.fromiter(itertools.islice(hashes, _AT_ONCE), np.uint64)).size:
        yield part


def texts_of(source: Source) -> Iterator[str]:
    """Yield the lines of a file without their ends, leaving out empty ones, or the texts of an iterable.

    Raises:
        TextError: if the file cannot be read, has no line or is not UTF-8.
    """
    if not isinstance(source, (str, os.PathLike)):
        yield from source
        return
    before = ""
    for chunk in _chunks(source):
        *lines, before = (before + chunk).split("\n")
        yield from filter(None, lines)
    if before:
        yield before


def _chunks(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the text of a file in chunks.

    Raises:
        TextError: if it cannot be read, has nothing but empty lines, or is not UTF-8.
    """
    is_empty = True
    for chunk in read_chunks(Path(path)):
        is_empty = is_empty and not chunk.strip("\n")
        yield chunk
    if is_empty:
        raise TextError(f"{str(path)!r} is empty, so nothing can be compared with it; pass a file with text")


def text_hash(text: str) -> int:
    """Return a 64-bit hash of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def run_hashes(text: str, length: int) -> Hashes:
    """Return a 64-bit hash of every run of `length` characters, uint64 [max(0, len(text) - length + 1)].

    A polynomial in an odd base modulo 2**64 whose coefficients are hashed code points (Karp and Rabin 1987).
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if len(points) < length:
        return np.empty(0, np.uint64)
    with np.errstate(over="ignore"):
        x = (points + np.uint64(1)) * np.uint64(_SPLITMIX[0])  # the mixing function of splitmix64
        x = (x ^ (x >> np.uint64(30))) * np.uint64(_SPLITMIX[1])
        x = (x ^ (x >> np.uint64(27))) * np.uint64(_SPLITMIX[2])
        x ^= x >> np.uint64(31)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(x * _powers(_BASE, len(points)))])
        runs: Hashes = (sums[length:] - sums[:-length]) * _powers(_INVERSE, len(points) - length + 1)
    return runs


def _powers(base: int, count: int) -> Hashes:
    """Return the first powers of a base modulo 2**64, uint64 [count]."""
    return _powers_of_two(base, (count - 1).bit_length())[:count]


@functools.lru_cache(maxsize=8)
def _powers_of_two(base: int, exponent: int) -> Hashes:
    """Return the first 2**exponent powers of a base, which the texts of about one length share."""
    powers = np.full(1 << exponent, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers)
