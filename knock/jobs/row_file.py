"""A file of generated texts that can be gone on with after it was cut off at any byte.

Beside the file lies its journal, `NAME.run`: a line of JSON that says what the run is, then one after each write that
says how long the file was and how far the run. The file can be cut back to any of them, and the run go on from there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from knock.choices import LineFormat
from knock.errors import OutputError
from knock.files.output import check_free
from knock.jobs.rows import Place, Row, RowWriter, line_of, write_all

_CHANGED = "{!r} cannot be gone on with: it has been changed since its run wrote it; choose another name"


class RowFile(RowWriter):
    """Rows as lines of a file with its journal.

    Args:
        path: of the file.
        run: what decides the rows, as JSON can hold it: the model's digest, controls, seed and so on.
        form: how a row is written.
        unique: whether to leave out a row that is the same text as an earlier one.
        resume: whether to go on with what is there; where nothing is, that is from the start.
        force: whether to overwrite what is there.

    Raises:
        OutputError: if there is a file that is not to be gone on with, or that belongs to another run, or that another
            process is writing; or if it cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], run: Mapping[str, Any], form: LineFormat, *, unique: bool,
        resume: bool, force: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(unique=unique, errors_alike=form == "txt")
        self._path = Path(path)
        self._form = form
        with contextlib.ExitStack() as opened, told(self._path):
            if self._path.is_dir():
                raise OutputError(f"{str(self._path)!r} is a folder; choose another name")
            opened.enter_context(locked(self._path))
            self._written, self._end = self._begin(json.loads(_line(run)), resume, force)
            self._file = opened.enter_context(self._path.open("r+b" if self._path.exists() else "x+b", buffering=0))
            self._journal = opened.enter_context(_journal(self._path).open("r+b", buffering=0))
            self._check_end()
            self._cut()
            if unique:
                with self._path.open("rb") as lines:
                    self._recall(self._texts(lines))
            self.place = replace(self._written)
            self._opened = opened.pop_all()

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def flush(self) -> None:
        """Write the rows that were taken, and note in the journal how far the run is.

        Raises:
            OutputError: if they cannot be written; the file is then as after the last time, and they are kept.
        """
        if self.place != self._written:
            super().flush()

    def _write(self, rows: Sequence[Row]) -> None:
        lines = b"".join(line_of(row, self._form) for row in rows)
        place = replace(self.place, size=self._written.size + len(lines))
        entry = _line(asdict(place))
        try:
            with told(self._path, f"; its {self._written.rows:,} rows are whole: make room, and resume the run"):
                write_all(self._file.write, lines)
                os.fsync(self._file.fileno())  # or a power cut could leave the journal ahead of the file
                write_all(self._journal.write, entry)
        except BaseException:  # Ctrl-C too leaves no half a row
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self.place, self._written, self._end = place, replace(place), self._end + len(entry)

    def _begin(self, run: Mapping[str, Any], resume: bool, force: bool) -> tuple[Place, int]:
        """How far the run is, and where in the journal that is said."""
        check_free(self._path, force=resume or force, resumable=True)
        size = self._path.stat().st_size if self._path.exists() and not force else 0
        journal = _journal(self._path)
        before = described(self._path) if resume else None
        if before is None:
            if size:
                raise OutputError(
                    f"{str(self._path)!r} cannot be gone on with: its journal {journal.name!r}, which says what run it "
                    "is of, is missing or damaged; choose another name"
                )
            journal.write_bytes(_line(run))
            return Place(), journal.stat().st_size
        if before != run:
            raise OutputError(
                f"{str(self._path)!r} belongs to another run: {_differences(before, run)}; resume it as it was begun, "
                "or choose another name"
            )
        return self._last_place(size)

    def _last_place(self, size: int) -> tuple[Place, int]:
        """The last place in the journal that the file goes as far as."""
        first, *rest = _journal(self._path).read_bytes().splitlines(keepends=True)
        end, last = len(first), (Place(), len(first))
        for line in rest:
            end += len(line)
            try:
                place = Place(**json.loads(line))
                is_there = place.size <= size
            except (ValueError, TypeError):  # cut off
                break
            if is_there and line.endswith(b"\n"):
                last = place, end
        return last

    def _check_end(self) -> None:
        """Refuse a file where no row ends in the place that the journal tells of."""
        if self._written.size:
            self._file.seek(self._written.size - 1)
            if self._file.read(1) != b"\n":
                raise OutputError(_CHANGED.format(str(self._path)))

    def _texts(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """The lines of the file as plain ones, without those of errors."""
        try:
            for line in lines:
                row = json.loads(line) if self._form == "jsonl" else {}
                if "error" not in row:
                    yield line_of(row, "txt") if self._form == "jsonl" else line
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(_CHANGED.format(str(self._path))) from error

    def _cut(self) -> None:
        """Cut file and journal back to what is whole."""
        for file, size in ((self._file, self._written.size), (self._journal, self._end)):
            file.truncate(size)
            file.seek(size)


def described(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the run of a file is, as its journal says; None if either is not there, or the journal is not whole.

    Raises:
        OutputError: if it cannot be read.
    """
    with told(Path(path)):
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


@contextlib.contextmanager
def told(path: Path, more: str = "; choose another place") -> Iterator[None]:
    """What the system says of a file that is written, as one of knock's errors."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise OutputError(f"cannot write {str(path)!r}: {reason}{more}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing a file.

    Raises:
        OutputError: if another one does.
        OSError: if there is no such folder.
    """
    from filelock import FileLock, Timeout

    if not path.parent.is_dir():  # which the lock would make
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    lock = path.with_name(path.name + ".run-lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows removes no file that is open
                    lock.unlink()
    except Timeout:
        raise OutputError(f"another process is writing {str(path)!r}; wait for it, or choose another name") from None


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".run")


def _line(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content) + "\n").encode()


def _differences(before: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    names = dict.fromkeys([*before, *run])
    return ", ".join(f"{n} was {before.get(n)!r} and is {run.get(n)!r}" for n in names if before.get(n) != run.get(n))
