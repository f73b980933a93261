"""Which part of a corpus is held out of training, to validate the model on: about a tenth."""

from __future__ import annotations

import hashlib
import itertools
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from knock.validation import shown

Tokens = npt.NDArray[np.integer]

How = Literal["end", "blocks", "items", "file", "given"]

COUNTED = 100  # different items

_SHARE = 10  # one part in ten is held out
_BLOCKS = 100  # number of blocks, roughly
_UNIT = 256  # blocks are multiples of this number of characters, the context of the loss "block 256"
_HASHES = 2**64
_SEEDS = 2**64
_DRAWS = 4  # of blocks, whose losses are averaged
_AT_ONCE = 2**22  # tokens counted at a time


@dataclass(frozen=True, kw_only=True)
class Split:
    """How a corpus is split into training and validation data.

    Attributes:
        how: what is held out: the last tenth of a text (`"end"`); a tenth in blocks spread over it (`"blocks"`); a
            tenth of the items, chosen by their hashes (`"items"`); another file (`"file"`); or other items that were
            given as a list (`"given"`).
        seed: chooses the blocks or the items.
        file: path of the other file.
    """

    how: How = "end"
    seed: int = 0
    file: str | None = None

    @property
    def is_apart(self) -> bool:
        """Whether what is held out is not a part of the corpus."""
        return self.how in ("file", "given")

    def to_record(self) -> dict[str, Any]:
        """Return the split as a JSON-serialisable dict, for the training record."""
        record: dict[str, Any] = {"how": self.how}
        if self.how in ("blocks", "items"):
            record["seed"] = self.seed
        return record if self.file is None else record | {"file": self.file}

    def held_out_length(self, length: int) -> int:
        """Return how many characters of a text are held out."""
        if self.how == "blocks":
            count, size = _blocks(length)
            return count * size
        return 0 if self.is_apart else held_out_length(length)

    @classmethod
    def from_record(cls, record: object) -> Split:
        """Return the split in a training record; the last tenth if there is none, as in older model files.

        Raises:
            ValueError: if it is not one that `to_record` returns.
        """
        if record is None:
            return cls()
        if not isinstance(record, Mapping) or record.get("how") not in get_args(How):
            raise ValueError(f"unknown split {shown(record)}")
        seed, file = record.get("seed", 0), record.get("file")
        is_seed = isinstance(seed, int) and 0 <= seed < _SEEDS
        if not is_seed or isinstance(file, str) != (record["how"] == "file"):
            raise ValueError(f"unknown split {shown(record)}")
        return cls(how=record["how"], seed=seed, file=file)


def held_out_length(length: int) -> int:
    """Return how many characters of a text are held out of training: a tenth."""
    return round(length / _SHARE)


def held_out_blocks(length: int, seed: int) -> list[tuple[int, int]]:
    """Return the blocks of a text that are held out, as start and end, ascending.

    The text is cut into equal parts, one for each block, which lies anywhere in it: the blocks cover the whole text.

    Args:
        length: number of characters of the text.
        seed: chooses the blocks.
    """
    count, size = _blocks(length)
    if not count:
        return []
    edges = [part * length // count for part in range(count + 1)]
    blocks = []
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        first = start + _hash(str(number), seed) % (end - start - size + 1)
        blocks.append((first, first + size))
    return blocks


def _blocks(length: int) -> tuple[int, int]:
    """Return the number of blocks of a text that are held out, and their size."""
    held_out = held_out_length(length)
    size = min(held_out, max(1, held_out // _BLOCKS // _UNIT) * _UNIT)
    return (round(held_out / size), size) if size else (0, 0)


def kept_parts(length: int, blocks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a text between blocks, as start and end."""
    edges = [0, *(edge for block in blocks for edge in block), length]
    yield from ((start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end)


class ItemSplit:
    """Which items are held out: those with the smallest hashes, about a tenth.

    It depends on the text of an item and the seed alone. The order of the items does not matter, and equal items are on
    the same side.

    Args:
        seed: the seed.
        limit: smallest hash that is not held out; a tenth of all hashes if None.
    """

    def __init__(self, seed: int, limit: int | None = None) -> None:
        self._seed = seed
        self._limit = _HASHES // _SHARE if limit is None else limit
        self._least, self._largest = _HASHES, -1  # hashes so far
        self._different: set[int] = set()  # some of them

    def holds_out(self, item: str) -> bool:
        """Return whether an item is held out."""
        value = _hash(item, self._seed)
        self._least, self._largest = min(value, self._least), max(value, self._largest)
        if len(self._different) < COUNTED:
            self._different.add(value)
        return value < self._limit

    def corrected(self) -> ItemSplit:
        """Return a split that leaves at least one of the items so far on each side, if two of them differ."""
        limit = max(self._least + 1, min(self._largest, self._limit))
        return self if limit == self._limit else ItemSplit(self._seed, limit)

    @property
    def different(self) -> int:
        """Number of different items so far, counted up to `COUNTED`."""
        return len(self._different)


def strangeness(train: Tokens, held_out: Tokens, vocab_size: int) -> float:
    """Return how strange the end of a text is to the rest, in nats/char: about 0, unless it is another text.

    It is the cross-entropy of its characters under their frequencies in the rest, less that of blocks spread over the
    text.

    Args:
        train: tokens of the text before its end, [N].
        held_out: tokens of the end, [M].
        vocab_size: V.
    """
    total = _counts(train, vocab_size) + _counts(held_out, vocab_size)

    def loss(part: npt.NDArray[np.int64]) -> float:
        """Return the cross-entropy of the characters of a part, given their counts, [V]."""
        rest = total - part + 1
        return float(part @ -np.log(rest / rest.sum()) / part.sum())

    def counted(start: int, end: int) -> npt.NDArray[np.int64]:
        after = held_out[max(0, start - len(train)) : max(0, end - len(train))]
        return _counts(train[start:end], vocab_size) + _counts(after, vocab_size)

    length = len(train) + len(held_out)
    draws = (held_out_blocks(length, seed) for seed in range(_DRAWS))
    usual = [loss(np.sum([counted(*block) for block in blocks], axis=0)) for blocks in draws]
    return loss(_counts(held_out, vocab_size)) - statistics.fmean(usual)


def _counts(tokens: Tokens, vocab_size: int) -> npt.NDArray[np.int64]:
    """Return how often each token occurs, [V]. A part at a time, since NumPy makes them eight bytes wide."""
    parts = (tokens[start : start + _AT_ONCE] for start in range(0, len(tokens), _AT_ONCE))
    counts = np.zeros(vocab_size, np.int64)
    for part in parts:
        counts += np.bincount(part, minlength=vocab_size)
    return counts


def _hash(text: str, seed: int) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little")
