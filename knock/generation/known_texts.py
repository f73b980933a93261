"""Sets of known texts, and of the runs of characters in them, by their hashes: what a new text is compared with."""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from knock.errors import SamplingError, TextError
from knock.escapes import unescape
from knock.files.text import read_chunks
from knock.generation.hash_set import Hashes, HashSet
from knock.generation.text_hashes import RollingHash, run_hashes, text_hash, text_hashes
from knock.validation import shown, whole_number

Source = str | os.PathLike[str] | Iterable[str]

_AT_ONCE = 2**16  # texts hashed together
_CHARS_AT_ONCE = 2**20  # characters hashed together
_LONGEST_RUN = 10**6  # characters
_SHORT = 64  # characters of a text whose runs are hashed faster one by one than as arrays


class KnownTexts:
    """A set of texts, by their 64-bit hashes: about 12 bytes of memory per text, and up to 20 while it is built.

    Two different texts have the same hash with probability 2**-64, so among a billion texts one in 10**10 new ones is
    taken for known.

    Args:
        sources: files with one text per line, which are read in pieces, or iterables of texts. A line that has escapes
            stands for two texts: itself, and the one that `knock sample` writes like this to .txt files. In a .jsonl
            file, a row of `knock sample` stands for its prompt and text.

    Raises:
        TextError: if a file cannot be read, is empty or is not UTF-8.
    """

    def __init__(self, *sources: Source) -> None:
        self._hashes = HashSet(text_hashes(texts) for source in sources for texts in _batches_of(source))

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

    They take about 12 bytes of memory per distinct run, and up to 20 while they are collected.

    Args:
        length: length of a run, in characters, at most a million.
        sources: files, or iterables of texts. A run of a file may cross its lines, one of an iterable not its texts.
            Where a line of a file stands for another text, as in `KnownTexts`, the runs of both count.

    Raises:
        TextError: if a file cannot be read, is empty or is not UTF-8.
        SamplingError: if `length` is not a whole number from 1 to a million.
    """

    def __init__(self, length: int, *sources: Source) -> None:
        self.length = whole_number("max_overlap", length, 1, _LONGEST_RUN, error=SamplingError)
        self._hashes = HashSet(hashes for source in sources for hashes in self._hashes_of(source))

    @classmethod
    def of(cls, max_overlap: tuple[int, Source], read: Callable[[Source], Iterable[Source]]) -> KnownRuns:
        """Return the runs of a length and a source, as they are given to `LanguageModel.items`.

        Args:
            max_overlap: the two.
            read: returns what a source holds for a model, as `known_items` does.

        Raises:
            SamplingError: if they are not such a pair; also for the reasons that the class raises.
        """
        if not isinstance(max_overlap, (tuple, list)) or len(max_overlap) != 2:
            raise SamplingError(
                f"max_overlap must be a number of characters and texts, such as (20, 'known.txt'), "
                f"got {shown(max_overlap)}"
            )
        length, source = max_overlap
        return cls(length, *read(source))

    def has_run_of(self, text: str) -> bool:
        """Whether a text contains one of the runs."""
        if len(text) < self.length:
            return False
        if len(text) <= _SHORT:
            return self._hashes.has_any(self._rolling.hashes(text))
        return self._hashes.has_any_of(run_hashes([text], self.length))

    @functools.cached_property
    def _rolling(self) -> RollingHash:
        return RollingHash(self.length)

    @property
    def digest(self) -> str:
        """Identifies the set of runs: 16 hex digits."""
        return self._hashes.digest

    def _hashes_of(self, source: Source) -> Iterator[Hashes]:
        if not isinstance(source, (str, os.PathLike)):
            yield from self._hashes_of_texts(_checked(source))
            return
        lines, before, is_rows = _Lines(), "", _may_have_rows(source)
        for chunk in _chunks(source):
            text = before + chunk
            yield run_hashes([text], self.length)
            before = text[max(0, len(text) - self.length + 1) :]
            yield from self._hashes_of_texts(_meant(lines.add(chunk), is_rows))
        yield from self._hashes_of_texts(_meant(lines.rest(), is_rows))

    def _hashes_of_texts(self, texts: Iterable[str]) -> Iterator[Hashes]:
        step = _CHARS_AT_ONCE
        parts = (text[i : i + step + self.length - 1] for text in texts for i in range(0, len(text), step))
        for batch in _batches(parts):
            yield run_hashes(batch, self.length)


class _Lines:
    """Splits text that arrives in chunks into lines."""

    def __init__(self) -> None:
        self._begun: list[str] = []  # pieces of the last line, joined once: it may be as long as the file

    def add(self, chunk: str) -> list[str]:
        """Return the lines that a chunk completes, without their ends and without empty ones."""
        end, is_complete, others = chunk.partition("\n")
        self._begun.append(end)
        if not is_complete:
            return []
        *lines, last = others.split("\n")
        lines.insert(0, "".join(self._begun))
        self._begun = [last]
        return list(filter(None, lines))

    def rest(self) -> list[str]:
        """Return the last line, if it is not empty; call it after the last chunk."""
        return list(filter(None, ["".join(self._begun)]))


def _batches_of(source: Source) -> Iterator[list[str]]:
    """Yield the texts of a source in lists.

    Raises:
        TextError: if a file cannot be read, has no line or is not UTF-8.
        SamplingError: if it is neither a file nor an iterable of strings.
    """
    if not isinstance(source, (str, os.PathLike)):
        yield from _batches(_checked(source))
        return
    lines, is_rows = _Lines(), _may_have_rows(source)
    for chunk in _chunks(source):
        complete = lines.add(chunk)
        yield complete + _meant(complete, is_rows)
    yield (last := lines.rest()) + _meant(last, is_rows)


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts of an iterable; of an open file, its lines without their ends.

    Raises:
        SamplingError: if it is no iterable, or not one of strings.
    """
    if not isinstance(texts, Iterable):
        raise SamplingError(f"known texts must be a file or an iterable of strings, got {shown(texts)}")
    has_ends = isinstance(texts, io.TextIOBase)
    for text in texts:
        if not isinstance(text, str):
            raise SamplingError(f"known texts must be strings, got {shown(text)}")
        yield text.removesuffix("\n") if has_ends else text


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in lists of a bounded number of characters, longer texts alone."""
    batch: list[str] = []
    count = 0
    for text in texts:
        batch.append(text)
        count += len(text)
        if len(batch) == _AT_ONCE or count >= _CHARS_AT_ONCE:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def _may_have_rows(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".jsonl"


def _meant(lines: Iterable[str], is_rows: bool) -> list[str]:
    """Return the texts that `knock sample` writes as some of the lines, where they differ from those.

    Args:
        lines: the lines.
        is_rows: whether it writes them as JSON objects; otherwise, with escapes.
    """
    if is_rows:
        return [text for text in map(_text_of_row, lines) if text is not None]
    return [text for line in lines if "\\" in line and (text := unescape(line)) != line]


def _text_of_row(line: str) -> str | None:
    """Return prompt and text of a row; None if a line is no row."""
    try:
        row = json.loads(line)
        return str(row["prompt"] + row["text"]) if "index" in row else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


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
