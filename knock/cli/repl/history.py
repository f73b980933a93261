"""History of the REPL, saved between sessions in a file that only its user can read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from prompt_toolkit.history import History, InMemoryHistory

from knock.cli.ui.terminal import say
from knock_kernels.cache.folder import RefusedError, check, home_folder, reason, user_folder, writable

NAME = "history"

_RECALLED = 1000  # most recent lines that are loaded


class FileHistory(History):
    """History in a file: a JSON string per line, so that an entry may contain newlines or invalid UTF-8.

    Args:
        path: Path of the file, in a trusted folder.

    Raises:
        RefusedError: if the file cannot be read and written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._is_saved = True
        try:
            with _opened(path) as file:
                file.seek(0)
                self._newest = deque(file, _RECALLED)
        except OSError as error:
            raise RefusedError(f"{path} cannot be used: {reason(error)}") from error

    def load_history_strings(self) -> Iterable[str]:
        """Yield the entries of earlier sessions, newest first; damaged lines are skipped."""
        return filter(None, map(_decoded, reversed(self._newest)))

    def store_string(self, string: str) -> None:
        """Append an entry; after a failed write, a notice is printed once and entries are no longer saved."""
        if not self._is_saved:
            return
        try:
            with _opened(self._path) as file:
                file.write(json.dumps(string).encode() + b"\n")
        except OSError as error:
            self._is_saved = False
            say(f"the history is no longer saved: {self._path}: {reason(error)}")


def history() -> History:
    """Return the user's saved history, or one in memory if it cannot be saved."""
    try:
        path = writable(state_folder()) / NAME
        _adopt_old(path)
        return FileHistory(path)
    except RefusedError as refused:
        say(f"the history is not saved: {refused}")
        return InMemoryHistory()


def state_folder() -> Path:
    """Return the folder of files that knock keeps for the user on this platform; a cache may be deleted, they may not.

    Raises:
        RefusedError: if the user has no home folder.
    """
    if sys.platform == "win32":
        return home_folder("LOCALAPPDATA", "AppData/Local") / "knock"
    if sys.platform == "darwin":
        return home_folder() / "Library" / "Application Support" / "knock"
    return home_folder("XDG_STATE_HOME", ".local/state") / "knock"


def _adopt_old(path: Path) -> None:
    """Move the history of earlier versions, which lies in the cache folder, to its place, unless there is one."""
    with contextlib.suppress(OSError, RefusedError):  # an old history that cannot be moved stays where it is
        old = user_folder()
        check(old)
        if (old / NAME).is_file() and not path.exists():
            moved = path.with_name(f"{NAME}.moved")  # between file systems, a move is a copy, which may end half-way
            shutil.move(old / NAME, moved)
            moved.replace(path)


def _opened(path: Path) -> IO[bytes]:
    """Open the file for reading and appending; create it if needed."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")


def _decoded(line: bytes) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
