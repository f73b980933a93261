"""HashSet: a set of 64-bit hashes, as a sorted array."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_LEAST = 2**16  # initial capacity, in hashes
_AT_ONCE = 2**16  # hashes handled together where that takes memory
_SPARSITY = 16  # bits per hash in the table: it answers all but a sixteenth of the questions


class HashSet:
    """A sorted array of 64-bit hashes, with a table of bits that answers most questions without a search.

    It takes 10 to 12 bytes per distinct hash, and no more while it is built where the system can enlarge an array
    without copying it.

    Args:
        parts: the hashes, of which each may occur any number of times.
    """

    def __init__(self, parts: Iterable[Hashes]) -> None:
        self._sorted = _sorted_distinct(parts)
        # The highest bits of a hash select its bit in the table. They depend on the whole text, unlike the lowest bits
        # of a polynomial hash, and writing in their order passes over the table once.
        exponent = (max(8, _SPARSITY * len(self._sorted)) - 1).bit_length()
        self._shift = 64 - exponent
        self._table = bytearray((1 << exponent) >> 3)  # of which Python reads a byte faster than of an array
        table = np.frombuffer(self._table, np.uint8)
        for start in range(0, len(self._sorted), _AT_ONCE):
            places, bits = self._places(self._sorted[start : start + _AT_ONCE])
            np.bitwise_or.at(table, places, bits)

    def __contains__(self, digest: int) -> bool:
        return self.has_any((digest,))

    def __len__(self) -> int:
        return len(self._sorted)

    def has_any(self, hashes: Iterable[int]) -> bool:
        """Whether one of some hashes is in the set; faster for a few than `has_any_of`."""
        table, shift = self._table, self._shift
        for digest in hashes:
            place = digest >> shift
            if table[place >> 3] >> (place & 7) & 1:
                place = bisect.bisect_left(self._sorted.data, digest)
                if place < len(self._sorted) and self._sorted[place] == digest:
                    return True
        return False

    def has_any_of(self, hashes: Hashes) -> bool:
        """Whether one of the hashes in an array is in the set."""
        places, bits = self._places(hashes)
        hashes = hashes[(np.frombuffer(self._table, np.uint8)[places] & bits).astype(bool)]
        if not hashes.size:
            return False
        places = np.searchsorted(self._sorted, hashes).clip(max=len(self._sorted) - 1)
        return bool((self._sorted[places] == hashes).any())

    @property
    def digest(self) -> str:
        """Identifies the set: 16 hex digits."""
        return hashlib.sha256(self._sorted.astype("<u8", copy=False).data).hexdigest()[:16]

    def _places(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Return the byte of the table for each hash, and its bit there."""
        places = (hashes >> np.uint64(self._shift)).astype(np.int64)
        return places >> 3, np.left_shift(1, places & 7).astype(np.uint8)


def _sorted_distinct(parts: Iterable[Hashes]) -> Hashes:
    """Return the distinct hashes of all parts, sorted.

    They are collected in one array. When it is full, repeated hashes are removed; if that leaves less than a third of
    it free, it grows. So hashes are sorted about three times, and there is never room for many more than the distinct
    ones.
    """
    hashes, count = np.empty(_LEAST, np.uint64), 0
    for part in parts:
        if count + len(part) > len(hashes):
            count = _move_distinct(hashes[:count])
            if 3 * (count + len(part)) > 2 * len(hashes):
                hashes.resize(3 * (count + len(part)) // 2, refcheck=False)
        hashes[count : count + len(part)] = part
        count += len(part)
    count = _move_distinct(hashes[:count])
    hashes.resize(count, refcheck=False)
    return hashes


def _move_distinct(hashes: Hashes) -> int:
    """Sort hashes in place, with the distinct ones at the beginning; return how many there are."""
    hashes.sort()
    count = 0
    for start in range(0, len(hashes), _AT_ONCE):
        part = hashes[start : start + _AT_ONCE]
        is_new = np.ones(len(part), bool)
        np.not_equal(part[1:], part[:-1], out=is_new[1:])
        if count:
            is_new[0] = part[0] != hashes[count - 1]
        kept = part[is_new]
        hashes[count : count + len(kept)] = kept
        count += len(kept)
    return count
