"""Output files of generated texts, resumable after truncation at any byte.

Each file has a journal, `NAME.run`. Its first line is a JSON object of the settings that determine the rows. One line
follows per write, with the size of the file and the progress of the run. To resume, the file is truncated to the last
size that it still reaches, and the run continues from there.
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

_CHANGED = "cannot resume {!r}: it has been changed since it was written; choose another name"


class RowFile(RowWriter):
    """Writer of a file of lines, with its journal.

    Args:
        path: path of the file.
        run: settings that determine the rows, JSON serialisable: the model's digest, controls, seed and so on.
        form: the row format.
        unique: drop duplicate texts, as in `RowWriter`.
        resume: continue an existing file; a missing one is started.
        force: overwrite an existing file.

    Raises:
        OutputError: if the file exists and neither `resume` nor `force` is given, if it belongs to another run, if
            another process is writing it, or if it cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], run: Mapping[str, Any], form: LineFormat, *, unique: bool,
        resume: bool, force: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(unique=unique, errors_alike=form == "txt")
        self._path = Path(path)
        self._form = form
        with contextlib.ExitStack() as opened, output_errors(self._path):
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
        """Write the pending rows, and record the progress in the journal.

        Raises:
            OutputError: if they cannot be written. The file is then unchanged, and the rows stay pending.
        """
        if self.place != self._written:
            super().flush()

    def _write(self, rows: Sequence[Row]) -> None:
        lines = b"".join(line_of(row, self._form) for row in rows)
        place = replace(self.place, size=self._written.size + len(lines))
        entry = _line(asdict(place))
        try:
            with output_errors(
                self._path, f"; its {self._written.rows:,} rows are complete. Free some space and resume"
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
        journal = _journal(self._path)
        before = read_settings(self._path) if resume else None
        if before is None:
            if size:
                raise OutputError(
                    f"cannot resume {str(self._path)!r}: its journal {journal.name!r}, which identifies the run, is "
                    "missing or damaged. Choose another name"
                )
            journal.write_bytes(_line(run))
            return Place(), journal.stat().st_size
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

    def _check_end(self) -> None:
        """Reject a file that has no line end where the journal says that a row ends."""
        if self._written.size:
            self._file.seek(self._written.size - 1)
            if self._file.read(1) != b"\n":
                raise OutputError(_CHANGED.format(str(self._path)))

    def _texts(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the file's rows as .txt lines; in JSON, rows with an error are left out."""
        try:
            for line in lines:
                row = json.loads(line) if self._form == "jsonl" else {}
                if "error" not in row:
                    yield line_of(row, "txt") if self._form == "jsonl" else line
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(_CHANGED.format(str(self._path))) from error

    def _cut(self) -> None:
        """Truncate the file and its journal to the last complete write."""
        for file, size in ((self._file, self._written.size), (self._journal, self._end)):
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
        OSError: if the folder does not exist.
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
        raise OutputError(f"another process is writing {str(path)!r}; wait for it, or choose another name") from None


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".run")


def _line(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content) + "\n").encode()


def _differences(before: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    names = dict.fromkeys([*before, *run])
    return ", ".join(f"{n} was {before.get(n)!r} and is {run.get(n)!r}" for n in names if before.get(n) != run.get(n))
