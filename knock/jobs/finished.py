"""Recognise the JSON lines of a finished run: some of its rows, and of those dropped, are generated again."""

from __future__ import annotations

import json
import operator
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from knock.errors import OutputError
from knock.generation.results import Prompt
from knock.jobs.rows import Place, Row
from knock.words import counted

if TYPE_CHECKING:
    from knock.generation.filters import Verdict
    from knock.jobs.row_filter import RowFilter

_COMPARED = 256  # rows, evenly spaced, and as many of those that are missing
_MISSING: Verdict = "in an earlier run"  # why rows were dropped that are not in the file


class FinishedRows:
    """The rows of a file without a journal.

    Args:
        path: path of the file; each line is a row.
        filter_: which rows the run kept; None if it kept all.

    Attributes:
        place: progress of the run after the last complete row.
        end: index after that row.

    Raises:
        OutputError: if a line is no row, or the rows are not in order.
    """

    def __init__(self, path: Path, filter_: RowFilter | None) -> None:
        self._path = path
        self._filter = filter_
        self._indices = array("q")  # of all rows
        self.place = place = Place()
        with path.open("rb") as lines:
            total = sum(1 for _ in lines)
            lines.seek(0)
            step = -(-total // _COMPARED) or 1
            self._lines: dict[int, tuple[int, bytes]] = {}  # by index: number and line of each row to compare
            for line in lines:
                if not line.endswith(b"\n"):  # truncated
                    break
                index, is_error = self._read(line)
                if place.rows % step == 0 or place.rows == total - 1:
                    self._lines[index] = place.rows, line
                self._indices.append(index)
                place.size += len(line)
                place.rows += 1
                place.index = index + 1
                place.errors += is_error
        self.end = place.index

    def _read(self, line: bytes) -> tuple[int, bool]:
        """Return the index of a row, and whether it has an error."""
        try:
            row = json.loads(line)
            index = operator.index(row["index"])
        except (ValueError, TypeError, KeyError, RecursionError):
            self.reject(self.place.rows)
        if index < self.place.index:
            self.reject(self.place.rows)
        return index, "error" in row

    def needed(self, prompts: Iterable[Prompt], passed: Callable[[int], None]) -> Iterator[Prompt]:
        """Yield the prompts of the rows to compare, then those of new rows.

        Args:
            prompts: prompts with their indices, from the first row on.
            passed: called with the index of each row that the file has.

        Raises:
            OutputError: if the file has too many rows, or too few.
        """
        seen, missing, is_counted = 0, 0, False
        step = -(-(self.end - self.place.rows) // _COMPARED) or 1
        for prompt in prompts:
            assert prompt.index is not None
            if prompt.index < self.end:
                seen += 1
                passed(prompt.index)
                if self._has(prompt.index):
                    if prompt.index not in self._lines:
                        continue
                else:
                    missing += 1
                    if self._filter is None or missing % step:
                        continue
            elif not is_counted:
                self._count(seen)
                is_counted = True
            yield prompt
        if not is_counted:
            self._count(seen)

    def _count(self, seen: int) -> None:
        """Compare the number of rows with that of their prompts; those that are missing were dropped."""
        if seen < self.place.rows:
            raise OutputError(
                f"{str(self._path)!r} has more than the {counted(seen, 'row')} of this run; resume with the original "
                "settings, or choose another name"
            )
        missing = seen - self.place.rows
        if self._filter is None:
            if missing:
                self.reject(self.place.rows - 1)
            return
        self.place.dropped = {_MISSING: missing} if missing else {}
        self._filter.resume(self.place.rows - self.place.errors, self.place.dropped)

    def _has(self, index: int) -> bool:
        """Return whether the file has a row."""
        place = bisect_left(self._indices, index)
        return place < len(self._indices) and self._indices[place] == index

    def compare(self, row: Row, line: bytes, identity: str) -> None:
        """Compare a row with that of the file, or with the reason why it may be missing there.

        Args:
            row: the row.
            line: the row as it is written.
            identity: what must not repeat.

        Raises:
            OutputError: if they differ.
        """
        index, verdict = row["index"], None
        if self._filter is not None and "error" not in row:
            verdict = self._filter.verdict(row, identity)
        if self._has(index):
            number, expected = self._lines.pop(index)
            if line != expected or verdict not in (None, "repeats"):  # it is the one that others repeat
                self.reject(number)
        elif verdict is None:
            self.reject(bisect_left(self._indices, index))

    def finish(self) -> None:
        """Call after the last comparison.

        Raises:
            OutputError: if a row of the file has no prompt.
        """
        if self._lines:
            self.reject(next(iter(self._lines.values()))[0])

    def reject(self, row: int) -> NoReturn:
        """Raise the error for a row that is not one of the run."""
        raise OutputError(
            f"{str(self._path)!r} is not the output of this run: line {row + 1:,} differs. Resume with the original "
            "settings, --precision and --backend, or choose another name"
        )
