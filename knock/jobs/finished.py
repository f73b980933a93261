"""Recognise the JSON lines of a finished run: some of its rows are generated again and compared."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from knock.errors import OutputError
from knock.generation.results import Prompt
from knock.jobs.rows import Place
from knock.words import counted

_COMPARED = 256  # rows, evenly spaced


class FinishedRows:
    """The rows of a file without a journal.

    Args:
        path: path of the file; each line is a row.
        is_dense: whether the run has dropped no row.

    Attributes:
        place: progress of the run after the last complete row.
        end: index after that row.

    Raises:
        OutputError: if a line is no row, or the rows are not in order.
    """

    def __init__(self, path: Path, *, is_dense: bool) -> None:
        self._path = path
        self._is_dense = is_dense
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
        seen, is_counted = 0, False
        for prompt in prompts:
            assert prompt.index is not None
            if prompt.index < self.end:
                seen += 1
                passed(prompt.index)
                if prompt.index not in self._lines:
                    continue
            elif not is_counted:
                self._count(seen)
                is_counted = True
            yield prompt
        if not is_counted:
            self._count(seen)

    def _count(self, seen: int) -> None:
        """Compare the number of rows with that of their prompts; those that are missing were duplicates."""
        if seen < self.place.rows:
            raise OutputError(
                f"{str(self._path)!r} has more than the {counted(seen, 'row')} of this run; resume with the original "
                "settings, or choose another name"
            )
        if self._is_dense and seen > self.place.rows:
            self.reject(self.place.rows - 1)
        self.place.duplicates = seen - self.place.rows

    def compare(self, index: int, line: bytes) -> None:
        """Compare a row with that of the file.

        Raises:
            OutputError: if they differ.
        """
        row, expected = self._lines.pop(index)
        if line != expected:
            self.reject(row)

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
            "settings and --backend, or choose another name"
        )
