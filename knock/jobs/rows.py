"""Generated texts as output rows: their fields and format, and the writers that count and deduplicate them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from knock.choices import LineFormat, RowFormat
from knock.escapes import escape
from knock.generation.results import Generation, Prompt
from knock.jobs.as_json import json_of

Row = Mapping[str, Any]

# The fields that knock writes, in their order; the other fields of a prompt follow them.
ROW_FIELDS = ("index", "prompt", "text", "finish_reason", "stop_string", "seed", "error", "log_probs", "entropies")

_DIGITS = 6  # decimals of log-probabilities and entropies
_DIGEST = 16  # bytes: the chance of a collision among a billion rows is about 10^-21


def row_of(text: Generation, *, log_probs: bool = False, entropies: bool = False) -> dict[str, Any]:
    """Return a generated text as a row, with the other fields of its prompt.

    Args:
        text: the text.
        log_probs: include the natural logarithm of the model's probability of each character, before bias, temperature
            and filters, rounded.
        entropies: include the model's entropy at each character, in bits, rounded.
    """
    row: dict[str, Any] = {
        "index": text.index,
        "prompt": text.prompt,
        "text": text.text,
        "finish_reason": text.finish_reason,
        "stop_string": text.stop_string,
        "seed": text.seed,
    }
    if text.error is not None:
        row["error"] = text.error
    if text.token_stats is not None:
        if log_probs:
            row["log_probs"] = text.token_stats.log_probs.round(_DIGITS).tolist()
        if entropies:
            row["entropies"] = text.token_stats.entropy.round(_DIGITS).tolist()
    if text.extra:
        row |= text.extra
    return row


def line_of(row: Row, form: LineFormat, *, only_new: bool = False) -> bytes:
    """Return a row as a line: JSON, or the prompt and the text as `escape` writes them; empty for errors.

    Args:
        row: the row.
        form: the format.
        only_new: leave the prompt out of a .txt line.
    """
    if form == "jsonl":
        return (json_of(row) + "\n").encode()
    text: str = "" if "error" in row else row["text"] if only_new else row["prompt"] + row["text"]
    return (escape(text) + "\n").encode()


@dataclass
class Place:
    """Progress of a run.

    Attributes:
        size: bytes written.
        rows: rows accepted.
        index: index of the next row.
        duplicates: rows dropped as duplicates.
        errors: rows with an error instead of a text.
        skipped: invalid prompt lines skipped.
        prompts: digest of the prompt lines used.
    """

    size: int = 0
    rows: int = 0
    index: int = 0
    duplicates: int = 0
    errors: int = 0
    skipped: int = 0
    prompts: str = ""


class RowWriter(AbstractContextManager["RowWriter"], ABC):
    """Base class of writers: `add` takes the rows of a run in order, `flush` writes them. A context manager.

    Args:
        unique: drop rows whose prompt and text equal an earlier row's; needs about 100 bytes of memory per row.
        form: the format of the rows. In .txt, rows with an error are compared as the empty lines that they are.
        only_new: leave the prompt out of .txt lines, and out of the comparison.

    Attributes:
        place: progress of the run, including pending rows; the caller sets `skipped` and `prompts`.
    """

    def __init__(self, form: RowFormat, *, unique: bool = False, only_new: bool = False) -> None:
        self.place = Place()
        self._form = form
        self._only_new = only_new and form == "txt"
        self._seen: set[bytes] | None = set() if unique else None
        self._pending: list[Row] = []

    def __exit__(self, *exception: object) -> None:
        """Close the output; pending rows are lost."""

    def needed(self, prompts: Iterable[Prompt], passed: Callable[[int], None]) -> Iterable[Prompt]:
        """Return the prompts of the rows that `add` needs, in order.

        Args:
            prompts: prompts with their indices.
            passed: called with the indices of prompts that may be left out.
        """
        return prompts

    def add(self, row: Row) -> None:
        """Add the next row; it is written by the next `flush`."""
        place = self.place
        place.index = row["index"] + 1
        place.errors += "error" in row
        if self._seen is not None and ("error" not in row or self._form == "txt"):
            digest = _digest(line_of(row, "txt", only_new=self._only_new))
            if digest in self._seen:
                place.duplicates += 1
                return
            self._seen.add(digest)
        self._pending.append(row)
        place.rows += 1

    def flush(self) -> None:
        """Write the pending rows.

        Raises:
            OSError: if they cannot be written. They stay pending.
        """
        self._write(self._pending)
        self._pending.clear()

    def _lines(self, rows: Iterable[Row]) -> bytes:
        """Return rows of a format of lines as they are written."""
        form: LineFormat = "txt" if self._form == "txt" else "jsonl"
        return b"".join(line_of(row, form, only_new=self._only_new) for row in rows)

    def _recall(self, lines: Iterable[bytes]) -> None:
        """Restore the texts of earlier rows, given as .txt lines, for `unique`."""
        self._seen = {_digest(line) for line in lines}

    @abstractmethod
    def _write(self, rows: Sequence[Row]) -> None:
        """Write all rows, or raise without having written any."""


class LineWriter(RowWriter):
    """Writer of lines to a stream that cannot seek, like standard output.

    Args:
        write: writes bytes, and returns how many it has written.
        form: the row format.
        unique: drop duplicate texts, as in `RowWriter`.
        only_new: leave out the prompt, as in `RowWriter`.
    """

    def __init__(
        self,
        write: Callable[[memoryview], int | None],
        form: LineFormat,
        *,
        unique: bool = False,
        only_new: bool = False,
    ) -> None:
        super().__init__(form, unique=unique, only_new=only_new)
        self._write_some = write

    def _write(self, rows: Sequence[Row]) -> None:
        lines = self._lines(rows)
        write_all(self._write_some, lines)
        self.place.size += len(lines)


def write_all(write: Callable[[memoryview], int | None], content: bytes) -> None:
    """Write all of `content` with a function that may write only a part."""
    left = memoryview(content)
    while left:
        left = left[write(left) or 0 :]


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=_DIGEST).digest()
