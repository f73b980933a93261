"""History of the REPL, saved between sessions in a file that only its user can read."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from prompt_toolkit.history import History, InMemoryHistory

from knock.cli.ui.terminal import say
from knock_kernels.cache.store import RefusedError, reason, user_folder, writable

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
            say(f"knock: the history is no longer saved: {self._path}: {reason(error)}")


def history() -> History:
    """Return the user's saved history, or one in memory if it cannot be saved."""
    try:
        return FileHistory(writable(user_folder()) / NAME)
    except RefusedError as refused:
        say(f"knock: the history is not saved: {refused}")
        return InMemoryHistory()


def _opened(path: Path) -> IO[bytes]:
    """Open the file for reading and appending; create it if needed."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")


def _decoded(line: bytes) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
