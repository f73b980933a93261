"""Generated texts as rows: what is kept of each, and what takes them, counts them and writes them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from knock.choices import LineFormat
from knock.generation.results import Generation

Row = Mapping[str, Any]

_DIGITS = 6  # of log-probabilities and entropies
_DIGEST = 16  # bytes: among a billion rows, two that differ look the same once in 10^20 runs

_encode = json.JSONEncoder(ensure_ascii=False).encode


def row_of(text: Generation, *, log_probs: bool = False, entropies: bool = False) -> dict[str, Any]:
    """What is kept of a text, as JSON can hold it.

    Args:
        text: the text.
        log_probs: whether to keep the natural logarithm of each character's probability, rounded.
        entropies: whether to keep the model's entropy at each character, in bits, rounded.
    """
    row: dict[str, Any] = {
        "index": text.index,
        "prompt": text.prompt,
        "text": text.text,
        "finish_reason": text.finish_reason,
        "seed": text.seed,
    }
    if text.error is not None:
        row["error"] = text.error
    if text.token_stats is not None:
        if log_probs:
            row["log_probs"] = text.token_stats.log_probs.round(_DIGITS).tolist()
        if entropies:
            row["entropies"] = text.token_stats.entropy.round(_DIGITS).tolist()
    return row


def line_of(row: Row, form: LineFormat) -> bytes:
    r"""A row as a line: JSON; or prompt and text, with \n for a newline and \\ for a backslash, empty for an error."""
    if form == "jsonl":
        return (_encode(row) + "\n").encode()
    text: str = "" if "error" in row else row["prompt"] + row["text"]
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return (escaped + "\n").encode()


@dataclass
class Place:
    """How far a run is.

    Attributes:
        size: of what it has written, in bytes.
        rows: that were taken.
        index: of the row that comes next.
        duplicates: rows that were left out.
        errors: rows that have an error for a text.
        skipped: lines of the prompts that were passed over.
        prompts: digest of the lines of the prompts that were used.
    """

    size: int = 0
    rows: int = 0
    index: int = 0
    duplicates: int = 0
    errors: int = 0
    skipped: int = 0
    prompts: str = ""


class RowWriter(AbstractContextManager["RowWriter"], ABC):
    """Takes the rows of a run in their order, and writes them when it is told to. Use it in a `with`.

    Args:
        unique: whether to leave out a row that is the same text as an earlier one; takes about 100 bytes a row.
        errors_alike: whether a row with an error is, for that, the same as an empty text, as where it is written so.

    Attributes:
        place: how far the run is with the rows that were taken; what is not about rows is set by whoever knows it.
    """

    def __init__(self, *, unique: bool, errors_alike: bool) -> None:
        self.place = Place()
        self._errors_alike = errors_alike
        self._seen: set[bytes] | None = set() if unique else None
        self._taken: list[Row] = []

    def __exit__(self, *exception: object) -> None:
        """Let go of what is written to; rows that were not written are lost."""

    def add(self, row: Row) -> None:
        """Take the next row."""
        place = self.place
        place.index = row["index"] + 1
        place.errors += "error" in row
        if self._seen is not None and ("error" not in row or self._errors_alike):
            digest = _digest(line_of(row, "txt"))
            if digest in self._seen:
                place.duplicates += 1
                return
            self._seen.add(digest)
        self._taken.append(row)
        place.rows += 1

    def flush(self) -> None:
        """Write the rows that were taken.

        Raises:
            OSError: if they cannot be written; they are kept, to be written the next time.
        """
        self._write(self._taken)
        self._taken.clear()

    def _recall(self, lines: Iterable[bytes]) -> None:
        """Know texts from before again, by their plain lines."""
        self._seen = {_digest(line) for line in lines}

    @abstractmethod
    def _write(self, rows: Sequence[Row]) -> None:
        """Write some rows, or raise and have written none."""


class LineWriter(RowWriter):
    """Writes rows as lines to something that only goes forward, like standard output.

    Args:
        write: takes bytes, and returns how many of them it has written.
        form: how a row is written.
        unique: as for any writer.
    """

    def __init__(self, write: Callable[[memoryview], int | None], form: LineFormat, *, unique: bool = False) -> None:
        super().__init__(unique=unique, errors_alike=form == "txt")
        self._form = form
        self._write_some = write

    def _write(self, rows: Sequence[Row]) -> None:
        lines = b"".join(line_of(row, self._form) for row in rows)
        write_all(self._write_some, lines)
        self.place.size += len(lines)


def write_all(write: Callable[[memoryview], int | None], content: bytes) -> None:
    """Write all of it by what may write a part."""
    left = memoryview(content)
    while left:
        left = left[write(left) or 0 :]


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=_DIGEST).digest()
