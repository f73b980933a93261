"""Filters: which generated texts to keep. Texts that are not kept are counted by the reason."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from knock.errors import SamplingError
from knock.files.text import read_chunks
from knock.validation import shown, whole_number

Verdict = Literal["repeats", "copies", "overlaps", "cut", "not matching", "not accepted", "errors"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Accept = str | re.Pattern[str] | Callable[[str], bool]
Source = str | os.PathLike[str] | Iterable[str]

_SPLITMIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_BASE = np.uint64(0xD6E8FEB86659FD93)  # odd, so that it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))


class Filters:
    """Decides, text after text, which to keep.

    Args:
        unique: drop a text that equals an earlier one; needs about 100 bytes of memory per kept text.
        novel: texts that are not new, as `KnownTexts`.
        overlap: texts of which no long run may be copied.
        accept: a regular expression that a text must match as a whole, in all of Python's syntax, or a function that
            returns whether to keep a text.
        keep_cut: keep texts that ended at the limit of their length.

    Attributes:
        drawn: number of texts judged.
        kept: number of texts kept.
        dropped: number of texts dropped, by reason.

    Raises:
        SamplingError: if `accept` is neither a valid regular expression nor a function.
    """

    def __init__(
        self,
        *,
        unique: bool = False,
        novel: KnownTexts | None = None,
        overlap: KnownRuns | None = None,
        accept: Accept | None = None,
        keep_cut: bool = True,
    ) -> None:
        self.drawn = self.kept = 0
        self.dropped: Counter[Verdict] = Counter()
        self._seen: set[int] | None = set() if unique else None
        self._novel = novel
        self._overlap = overlap
        self._accept = _checked_accept(accept)
        self._keep_cut = keep_cut

    def keep(self, text: str, finish_reason: str) -> bool:
        """Judge the next text; return whether to keep it."""
        self.drawn += 1
        verdict = self._verdict(text, finish_reason)
        if verdict is not None:
            self.dropped[verdict] += 1
            return False
        self.kept += 1
        return True

    def recall(self, texts: Iterable[str]) -> None:
        """Note texts that were kept before, by an earlier run, so that they are not repeated."""
        if self._seen is not None:
            self._seen.update(map(text_hash, texts))

    def _verdict(self, text: str, finish_reason: str) -> Verdict | None:
        if finish_reason == "error":
            return "errors"
        if finish_reason == "rejected":
            return "not matching"
        if finish_reason == "length" and not self._keep_cut:
            return "cut"
        if self._novel is not None and text in self._novel:
            return "copies"
        if self._overlap is not None and self._overlap.has_run_of(text):
            return "overlaps"
        if self._accept is not None and not self._accept(text):
            return "not accepted"
        if self._seen is not None:
            digest = text_hash(text)
            if digest in self._seen:
                return "repeats"
            self._seen.add(digest)
        return None


class KnownTexts:
    """A set of texts, by their 64-bit hashes: 8 bytes of memory per text.

    Two different texts have the same hash with probability 2**-64, so among a billion texts one in 10**10 new ones is
    taken for known.

    Args:
        sources: files with one text per line, or iterables of texts.

    Raises:
        TextError: if a file cannot be read or is not UTF-8.
    """

    def __init__(self, *sources: Source) -> None:
        hashes = (text_hash(text) for source in sources for text in texts_of(source))
        self._hashes = np.unique(np.fromiter(hashes, np.uint64))

    def __contains__(self, text: str) -> bool:
        digest = np.uint64(text_hash(text))
        place = int(np.searchsorted(self._hashes, digest))
        return place < len(self._hashes) and bool(self._hashes[place] == digest)

    def __len__(self) -> int:
        return len(self._hashes)


class KnownRuns:
    """All runs of `length` characters of some texts, by their 64-bit hashes: 8 bytes of memory per character.

    Args:
        length: length of a run, in characters.
        sources: files, or iterables of texts. A run of a file may cross its lines, one of an iterable not its texts.

    Raises:
        TextError: if a file cannot be read or is not UTF-8.
        SamplingError: if `length` is not a whole number of at least 1.
    """

    def __init__(self, length: int, *sources: Source) -> None:
        self.length = whole_number("max_overlap", length, 1, error=SamplingError)
        parts = [hashes for source in sources for hashes in self._hashes_of(source)]
        self._hashes = np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))

    def has_run_of(self, text: str) -> bool:
        """Whether a text contains one of the runs."""
        hashes = run_hashes(text, self.length)
        if not hashes.size or not self._hashes.size:
            return False
        places = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        return bool((self._hashes[places] == hashes).any())

    def _hashes_of(self, source: Source) -> Iterator[npt.NDArray[np.uint64]]:
        if not isinstance(source, (str, os.PathLike)):
            yield from (run_hashes(text, self.length) for text in source)
            return
        before = ""
        for chunk in read_chunks(source):
            text = before + chunk
            yield np.unique(run_hashes(text, self.length))
            before = text[max(0, len(text) - self.length + 1) :]


def texts_of(source: Source) -> Iterator[str]:
    """Yield the lines of a file without their ends, leaving out empty ones, or the texts of an iterable."""
    if not isinstance(source, (str, os.PathLike)):
        yield from source
        return
    before = ""
    for chunk in read_chunks(Path(source)):
        *lines, before = (before + chunk).split("\n")
        yield from filter(None, lines)
    if before:
        yield before


def text_hash(text: str) -> int:
    """Return a 64-bit hash of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def run_hashes(text: str, length: int) -> npt.NDArray[np.uint64]:
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
        powers, inverses = (_powers(base, len(points) + 1) for base in (_BASE, _INVERSE))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(x * powers[:-1])])
        runs: npt.NDArray[np.uint64] = (sums[length:] - sums[:-length]) * inverses[: len(points) - length + 1]
    return runs


def _powers(base: np.uint64, count: int) -> npt.NDArray[np.uint64]:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers)


def _checked_accept(accept: Accept | None) -> Callable[[str], object] | None:
    if accept is None or (callable(accept) and not isinstance(accept, str)):
        return accept
    if not isinstance(accept, (str, re.Pattern)):
        raise SamplingError(f"accept must be a regular expression or a function, got {shown(accept)}")
    try:
        return re.compile(accept).fullmatch
    except re.error as error:
        raise SamplingError(f"accept={shown(accept)} is not a regular expression: {error}") from error


def describe(filters: Filters) -> str:
    """Return a line with what was drawn and kept, and why the rest was not: `drawn 12, kept 10: 2 repeats`."""
    reasons: Sequence[str] = [f"{count:,} {verdict}" for verdict, count in filters.dropped.most_common()]
    rest = f"; dropped: {', '.join(reasons)}" if reasons else ""
    return f"drawn {filters.drawn:,}, kept {filters.kept:,}{rest}"
