"""Output files of generated texts, resumable after truncation at any byte.

Until it is finished, each file has a journal, `NAME.run`. Its first line is a JSON object of the settings that
determine the rows. One line follows per write, with the size of the file and the progress of the run. To resume, the
file is truncated to the last size that it still reaches, and the run continues from there.

A finished file needs no journal, since its rows can be generated again: they are compared with the file, which is
changed only if it is the beginning of what the run writes. Of JSON lines, which have an index, some are compared; of
.txt lines and the rows of tables all.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.choices import LineFormat, RowFormat
from knock.errors import OutputError
from knock.escapes import unescape
from knock.files.output import check_free
from knock.generation.results import Prompt
from knock.jobs.finished import FinishedRows
from knock.jobs.rows import Place, Row, RowWriter, write_all, written_text
from knock.words import counted

if TYPE_CHECKING:
    from knock.jobs.row_filter import RowFilter
    from knock.jobs.table_rows import TableLines

_CHANGED = "cannot resume {!r}: it has been changed since it was written; choose another name"


class RowFile(RowWriter):
    """Writer of a file of lines, with its journal.

    A file without a journal is compared with the first rows, and left as it is until one follows its last.

    Args:
        path: path of the file.
        run: settings that determine the rows, JSON serialisable: the model's digest, controls, seed and so on.
        form: the row format.
        filter_: which rows to keep, as in `RowWriter`.
        resume: continue an existing file; a missing one is started.
        force: overwrite an existing file.
        only_new: leave out the prompt, as in `RowWriter`.
        table: writes the rows of a table, as in `RowWriter`.

    Attributes:
        has_grown: whether rows have been written.
        is_finished: whether the file was found without a journal: `add` needs rows from the first on.

    Raises:
        OutputError: if the file exists and neither `resume` nor `force` is given, if it belongs to another run, if
            another process is writing it, or if it cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], run: Mapping[str, Any], form: LineFormat, *,
        filter_: RowFilter | None = None, resume: bool, force: bool = False, only_new: bool = False,
        table: TableLines | None = None,
    ) -> None:  # fmt: skip
        super().__init__(form, filter_=filter_, only_new=only_new, table=table)
        self._path = Path(path)
        self._run = _line(run)
        self._unchecked = 0  # bytes after the last known row that are still to be compared with rows
        self._rows: FinishedRows | None = None
        self._journal: io.FileIO | None = None
        self.has_grown = self.is_finished = False
        with contextlib.ExitStack() as opened, output_errors(self._path):
            if self._path.is_dir():
                raise OutputError(f"{str(self._path)!r} is a folder; choose another name")
            opened.enter_context(locked(self._path))
            self._written, self._end = self._begin(json.loads(self._run), resume, force)
            self._file = opened.enter_context(self._path.open("r+b" if self._path.exists() else "x+b", buffering=0))
            if not self.is_finished:
                self._journal = opened.enter_context(_journal(self._path).open("r+b", buffering=0))
                self._check_end()
                self._cut()
            self.place = replace(self._written) if self._rows is None else self._rows.place
            if filter_ is not None:
                self._resume(filter_)
            self._opened = opened.pop_all()

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def needed(self, prompts: Iterable[Prompt], passed: Callable[[int], None]) -> Iterable[Prompt]:
        """Return the prompts of rows to compare with those of the file, and of new rows."""
        return prompts if self._rows is None else self._rows.needed(prompts, passed)

    def add(self, row: Row) -> None:
        """Add the next row; a row that the file already has is compared with it.

        Raises:
            OutputError: if they differ.
        """
        if self._rows is not None and row["index"] < self._rows.end:
            self._rows.compare(row, self._lines([row]), written_text(row))
        else:
            super().add(row)

    def takes(self, index: int) -> bool:
        """Whether the row of an index is needed: to be compared, or as a new one."""
        return (self._rows is not None and index < self._rows.end) or super().takes(index)

    def flush(self) -> None:
        """Write the pending rows, and record the progress in the journal.

        Raises:
            OutputError: if they cannot be written. The file is then unchanged, and the rows stay pending.
        """
        if self.place != self._written:
            super().flush()

    def finish(self) -> None:
        """Remove the journal, once all rows of the run are written.

        Raises:
            OutputError: if the file has more than those rows.
        """
        if self._rows is not None:
            self._rows.finish()
        if self._unchecked:
            raise self._too_many(self.place.rows)
        if self._journal is not None:
            with output_errors(self._path):
                self._journal.close()
                _journal(self._path).unlink(missing_ok=True)

    def _write(self, rows: Sequence[Row]) -> None:
        lines = self._lines(rows)
        if self._unchecked:
            known = self._compare(lines)
            if known == len(lines):
                self.place.size = self._written.size + known
                self._written = replace(self.place)
                return
        if self._journal is None:
            if not lines:
                self._written = replace(self.place)
                return
            self._open_journal()
        assert self._journal is not None
        self.has_grown = self.has_grown or bool(lines)
        place = replace(self.place, size=self._written.size + len(lines))
        entry = _line(asdict(place))
        try:
            with output_errors(
                self._path,
                f"; its first {counted(self._written.rows, 'row')} can be kept. Free some space and resume",
            ):
                write_all(self._file.write, lines)
                os.fsync(self._file.fileno())  # or a power cut could leave the journal ahead of the file
                write_all(self._journal.write, entry)
        except BaseException:  # not even Ctrl-C leaves a partial row
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self.place, self._written, self._end = place, replace(place), self._end + len(entry)

    def _begin(self, run: Mapping[str, Any], resume: bool, force: bool) -> tuple[Place, int]:
        """Check or create the journal; return the place to continue from and the offset after its journal line."""
        check_free(self._path, force=resume or force, resumable=True)
        size = self._path.stat().st_size if self._path.exists() and not force else 0
        before = read_settings(self._path) if resume else None
        if before is None and size:
            self.is_finished = True
            if self._form == "jsonl":
                self._rows = FinishedRows(self._path, self.filter)
            place = Place() if self._rows is None else replace(self._rows.place)
            self._unchecked = size - place.size
            return place, 0
        if before is None:
            _begin_journal(self._path, self._run)
            return Place(), len(self._run)
        if before != run:
            raise OutputError(
                f"{str(self._path)!r} belongs to another run: {_differences(before, run)}; resume with the original "
                "settings, or choose another name"
            )
        return self._last_place(size)

    def _last_place(self, size: int) -> tuple[Place, int]:
        """Return the last place in the journal that the file of `size` bytes reaches, and the offset after it."""
        first, *rest = _journal(self._path).read_bytes().splitlines(keepends=True)
        end, last = len(first), (Place(), len(first))
        for line in rest:
            end += len(line)
            try:
                place = Place(**json.loads(line))
                is_there = place.size <= size
            except (ValueError, TypeError):  # truncated
                break
            if is_there and line.endswith(b"\n"):
                last = place, end
        return last

    def _compare(self, lines: bytes) -> int:
        """Compare the next lines with the file; return how many of their bytes it has.

        Raises:
            OutputError: if they differ.
        """
        self._file.seek(self._written.size)
        known = lines[: self._unchecked]
        if (found := self._file.read(len(known))) != known:
            pairs = zip(found.splitlines(keepends=True), known.splitlines(keepends=True), strict=False)
            line = self._written.rows + sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)) + 1
            raise OutputError(
                f"{str(self._path)!r} is not the output of this run: line {line:,} differs. Resume with the original "
                "settings, --precision and --backend, or choose another name"
            )
        if len(known) == len(lines):
            self._unchecked -= len(lines)
        return len(known)

    def _open_journal(self) -> None:
        """Start the journal of a file that has no more rows to compare."""
        if self._rows is not None:
            self._rows.finish()
        with output_errors(self._path):
            _begin_journal(self._path, self._run + _line(asdict(self._written)))
            self._journal = self._opened.enter_context(_journal(self._path).open("r+b", buffering=0))
        self._end = self._journal.seek(0, os.SEEK_END)
        self._unchecked = 0
        self._file.seek(self._written.size)

    def _check_end(self) -> None:
        """Reject a file that has no line end where the journal says that a row ends."""
        if self._written.size:
            self._file.seek(self._written.size - 1)
            if self._file.read(1) != b"\n":
                raise OutputError(_CHANGED.format(str(self._path)))

    def _resume(self, filter_: RowFilter) -> None:
        """Restore what the filters know of the rows that the file has."""
        place = self._written
        kept = place.rows - (place.errors if self._form == "jsonl" else 0)
        if filter_.count is not None and kept > filter_.count:
            raise self._too_many(filter_.count)
        with self._path.open("rb") as lines:
            texts = self._texts(itertools.islice(lines, place.rows)) if self._table is None else self._table.read(lines)
            filter_.resume(kept, place.dropped, itertools.islice(texts, place.rows))

    def _too_many(self, rows: int) -> OutputError:
        return OutputError(
            f"{str(self._path)!r} has more than the {counted(rows, 'row')} of this run; resume with the original "
            "settings, or choose another name"
        )

    def _texts(self, lines: Iterator[bytes]) -> Iterator[str]:
        """Yield the texts of the file's rows, as `written_text` returns them, without those with an error."""
        try:
            for line in lines:
                if self._form == "txt":
                    yield unescape(line.decode().removesuffix("\n"))
                elif "error" not in (row := json.loads(line)):
                    yield written_text(row)
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(_CHANGED.format(str(self._path))) from error

    def _cut(self) -> None:
        """Truncate the file and its journal to the last complete write."""
        assert self._journal is not None
        for file, size in ((self._file, self._written.size), (self._journal, self._end)):
            if file.seek(0, os.SEEK_END) > size:
                file.truncate(size)
            file.seek(size)


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the settings in the journal of a file; None if the file or its journal is missing or incomplete.

    Raises:
        OutputError: if the journal cannot be read.
    """
    with output_errors(Path(path)):
        if not Path(path).exists():
            return None
        try:
            first, end, _ = _journal(Path(path)).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
    try:
        run = json.loads(first) if end else None
    except ValueError:
        return None
    return run if isinstance(run, dict) else None


def read_seed(path: str | os.PathLike[str], form: LineFormat | RowFormat) -> int | None:
    """Return the seed in the first row of a file; None if the file is missing or empty.

    Raises:
        OutputError: if the first line is no row, or has no seed.
    """
    with output_errors(Path(path)):
        if not Path(path).exists():
            return None
        with Path(path).open("rb") as file:
            first = file.readline()
    if not first:
        return None
    if form != "jsonl" or _is_other_object(first):
        raise OutputError(
            f"{str(path)!r} has no journal: it is finished, or another program wrote it. To compare it with this run, "
            "and to continue it, pass the run's --seed"
        )
    try:
        return int(json.loads(first)["seed"])
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{str(path)!r} is not the output of this run: its first line is no row") from error


def _is_other_object(line: bytes) -> bool:
    """Return whether a line is a JSON object that is no row of knock, as in a table."""
    try:
        content = json.loads(line)
    except ValueError:
        return False
    return isinstance(content, dict) and "index" not in content


@contextlib.contextmanager
def output_errors(path: Path, advice: str = "; choose another location") -> Iterator[None]:
    """Raise system errors of writing a file as `OutputError`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise OutputError(f"cannot write {str(path)!r}: {reason}{advice}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on writing a file.

    Raises:
        OutputError: if another process holds it.
        OSError: if the folder does not exist, or takes no files.
    """
    from filelock import FileLock, Timeout

    if not path.parent.is_dir():  # FileLock would create it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    lock = path.with_name(path.name + ".run-lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows cannot remove an open file
                    lock.unlink()
    except Timeout:
        if not lock.exists():
            lock.touch()  # raises why the folder takes no files, such as /proc: FileLock waits as for another process
        raise OutputError(f"another process is writing {str(path)!r}; wait for it, or choose another name") from None


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".run")


def _begin_journal(path: Path, content: bytes) -> None:
    """Write a new journal.

    Raises:
        OutputError: if there is a file of its name that is no journal.
    """
    journal = _journal(path)
    if journal.exists() and not _is_journal(journal):
        raise OutputError(f"{str(journal)!r} is needed for the journal; move that file, or choose another name")
    journal.write_bytes(content)


def _is_journal(path: Path) -> bool:
    """Return whether a file may be a journal: empty, or one that begins with a JSON object, perhaps truncated."""
    with path.open("rb") as file:
        first = file.readline()
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return not first or (first.startswith(b"{") and not first.endswith(b"\n"))


def _line(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content) + "\n").encode()


def _differences(before: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    names = dict.fromkeys([*before, *run])
    return ", ".join(f"{n} was {before.get(n)!r} and is {run.get(n)!r}" for n in names if before.get(n) != run.get(n))
