"""What lies beside an object while it is compiled, and after that has failed.

| file | made | removed | what it means while nobody has the lock |
|---|---|---|---|
| `lock` | by the first compiler in the folder | never | |
| `.log` | by a compiler that has the lock, for its standard error | by it, at its end | it was killed, or crashed |
| `.unloadable` | before the object is loaded for the first time | after that | loading it ended the process |
| `.failed` | from the log, when someone is told of it | when the object is there | nobody tries unasked for an hour |
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from filelock import FileLock, Timeout

_RECENT = 3600.0  # seconds


class Marks:
    """The files beside one object.

    Args:
        path: of the object.
    """

    def __init__(self, path: Path) -> None:
        self.log, self.unloadable, self.failed = (
            path.with_name(f"{path.name}.{mark}") for mark in ("log", "unloadable", "failed")
        )
        self._lock = path.with_name("lock")

    def lock(self, timeout: float) -> FileLock:
        """The right to write to the folder. Who has it ends with its process."""
        return FileLock(self._lock, timeout=timeout)

    @property
    def is_unloadable(self) -> bool:
        """Whether an object could not be loaded, lately."""
        return _is_recent(self.unloadable)

    @property
    def has_failed(self) -> bool:
        """Whether there has been a failure, lately, that someone was told of; or an object could not be loaded."""
        return self.is_unloadable or _is_recent(self.failed)

    def take_failure(self) -> str | None:
        """What became of a compiler that did not get to its end; the next time this is no news."""
        if not self.log.exists():
            return None
        try:
            with self.lock(timeout=0):
                lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
                self.log.replace(self.failed)
        except (OSError, Timeout):  # it is still at work, or has just come to its end
            return None
        return last_line(lines[1:]) or "the compiler was stopped before its end"

    def forget(self) -> None:
        """Remove what a compiler has left that was stopped on purpose."""
        with contextlib.suppress(OSError, Timeout), self.lock(timeout=0):
            self.clear()

    def clear(self) -> None:
        """Remove all marks. The caller has the lock."""
        for mark in (self.log, self.unloadable, self.failed):
            mark.unlink(missing_ok=True)


def last_line(lines: list[str]) -> str:
    """Where a traceback says what went wrong."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _is_recent(mark: Path) -> bool:
    with contextlib.suppress(OSError):
        return 0 <= time.time() - mark.stat().st_mtime < _RECENT
    return False
