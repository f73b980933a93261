"""Generated texts as output rows: their fields and format, and the writers that filter and count them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from knock.choices import LineFormat, RowFormat
from knock.escapes import escape
from knock.generation.results import Generation, Prompt
from knock.jobs.as_json import json_of

if TYPE_CHECKING:
    from knock.generation.filters import Verdict
    from knock.jobs.row_filter import RowFilter
    from knock.jobs.table_rows import TableLines

Row = Mapping[str, Any]

# The fields that knock writes, in their order; the other fields of a prompt follow them.
ROW_FIELDS = ("index", "prompt", "text", "finish_reason", "stop_string", "seed", "error", "log_probs", "entropies")

_DIGITS = 6  # decimals of log-probabilities and entropies


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

    The row of a table has been reduced to its line.

    Args:
        row: the row.
        form: the format.
        only_new: leave the prompt out of a .txt line.
    """
    if form == "jsonl":
        return (json_of(row) + "\n").encode()
    if form == "table":
        return f"{row['line']}\n".encode()
    text = "" if "error" in row else written_text(row, only_new=only_new)
    return (escape(text) + "\n").encode()


def written_text(row: Row, *, only_new: bool = False) -> str:
    """Return the text that a .txt line of a row stands for: prompt and text, or the text alone."""
    text: str = row["text"] if only_new else row["prompt"] + row["text"]
    return text


@dataclass
class Place:
    """Progress of a run.

    Attributes:
        size: bytes written.
        rows: rows accepted.
        index: index of the next row.
        dropped: number of rows dropped by filters, by reason.
        errors: rows with an error instead of a text.
        skipped: invalid prompt lines skipped.
        prompts: digest of the prompt lines used.
    """

    size: int = 0
    rows: int = 0
    index: int = 0
    dropped: dict[Verdict, int] = field(default_factory=dict)
    errors: int = 0
    skipped: int = 0
    prompts: str = ""


class RowWriter(AbstractContextManager["RowWriter"], ABC):
    """Base class of writers: `add` takes the rows of a run in order, `flush` writes them. A context manager.

    Args:
        form: the format of the rows.
        filter_: which rows to keep; None for all. Rows that differ neither in the prompt nor in the text are repeats. A
            row with an error is kept, except in .txt, where it would be an empty line.
        only_new: leave the prompt out of .txt lines; rows with the same text are then repeats.
        table: writes the rows of a table; texts that are none count as errors, and are left out.

    Attributes:
        place: progress of the run, including pending rows; the caller sets `skipped` and `prompts`.
    """

    def __init__(
        self,
        form: LineFormat | RowFormat,
        *,
        filter_: RowFilter | None = None,
        only_new: bool = False,
        table: TableLines | None = None,
    ) -> None:
        self.place = Place()
        self._table = table
        self.filter = filter_
        self._form = form
        self._only_new = only_new and form == "txt"
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

    def takes(self, index: int) -> bool:
        """Whether the row of an index is needed, which none is after there are enough."""
        return self.filter is None or not self.filter.is_enough

    def add(self, row: Row) -> None:
        """Add the next row; it is written by the next `flush`."""
        place = self.place
        place.index = row["index"] + 1
        place.errors += "error" in row
        line = None if self._table is None else self._table.line(row)
        if self._table is not None and "error" in row:
            return
        if self.filter is not None:
            if "error" in row:
                if self._form == "txt":
                    return
            elif not self.filter.keep(row, line or written_text(row, only_new=self._only_new)):
                place.dropped = dict(self.filter.filters.dropped)
                return
        if self._table is not None and line is None:
            place.errors += 1
            return
        self._pending.append(row if line is None else {"line": line})
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
        form: LineFormat = self._form if self._form in ("txt", "table") else "jsonl"
        header = self._table.header if self._table is not None and not self.place.size else b""
        return header + b"".join(line_of(row, form, only_new=self._only_new) for row in rows)

    @abstractmethod
    def _write(self, rows: Sequence[Row]) -> None:
        """Write all rows, or raise without having written any."""


class LineWriter(RowWriter):
    """Writer of lines to a stream that cannot seek, like standard output.

    Args:
        write: writes bytes, and returns how many it has written.
        form: the row format.
        filter_: which rows to keep, as in `RowWriter`.
        only_new: leave out the prompt, as in `RowWriter`.
        table: writes the rows of a table, as in `RowWriter`.
    """

    def __init__(
        self,
        write: Callable[[memoryview], int | None],
        form: LineFormat,
        *,
        filter_: RowFilter | None = None,
        only_new: bool = False,
        table: TableLines | None = None,
    ) -> None:
        super().__init__(form, filter_=filter_, only_new=only_new, table=table)
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
