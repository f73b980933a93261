"""Lock, log and failure markers of a cached object.

| file | created | removed | meaning while the lock is free |
|---|---|---|---|
| `lock` | by the first compiler in the folder | never | |
| `.log` | by a compiler that holds the lock, for its standard error | on success | it failed, crashed or was killed |
| `.unloadable` | before an object is first loaded | after loading | loading crashed the process |
| `.failed` | by renaming the log, when the failure is reported | on success | no background compilation for an hour |
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from filelock import FileLock, Timeout

_RECENT = 3600.0  # seconds


class Marks:
    """The marker files of one object.

    Args:
        path: file of the object.
    """

    def __init__(self, path: Path) -> None:
        self.log, self.unloadable, self.failed = (
            path.with_name(f"{path.name}.{mark}") for mark in ("log", "unloadable", "failed")
        )
        self._lock = path.with_name("lock")

    def lock(self, timeout: float) -> FileLock:
        """Return the lock that is required to write to the folder. It is released when its process ends."""
        return FileLock(self._lock, timeout=timeout)

    @property
    def is_unloadable(self) -> bool:
        """Whether an object could not be loaded within the last hour."""
        return _is_recent(self.unloadable)

    @property
    def has_failed(self) -> bool:
        """Whether a failure was reported, or an object could not be loaded, within the last hour."""
        return self.is_unloadable or _is_recent(self.failed)

    def take_failure(self, otherwise: str = "the compiler was stopped before it finished") -> str | None:
        """Return why the last compiler failed, once; return None if it did not fail or the failure was reported.

        Args:
            otherwise: the reason if the compiler left none.
        """
        if not self.log.exists():
            return None
        try:
            with self.lock(timeout=0):
                lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
                self.log.replace(self.failed)
        except (OSError, Timeout):  # the compiler is still running, or has just finished
            return None
        return last_line(lines[1:]) or otherwise

    def forget(self) -> None:
        """Remove the marks of a compiler that was stopped on purpose."""
        with contextlib.suppress(OSError, Timeout), self.lock(timeout=0):
            self.clear()

    def clear(self) -> None:
        """Remove all marks. The caller holds the lock."""
        for mark in (self.log, self.unloadable, self.failed):
            mark.unlink(missing_ok=True)


def last_line(lines: list[str]) -> str:
    """Return the last line that is not blank: in a traceback, the error."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _is_recent(mark: Path) -> bool:
    with contextlib.suppress(OSError):
        return 0 <= time.time() - mark.stat().st_mtime < _RECENT
    return False
