"""What was typed into the REPL, kept between sessions in a file that its user alone can read."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from prompt_toolkit.history import History, InMemoryHistory

from knock.cli.ui.terminal import say
from knock_kernels.cache.store import Refused, reason, user_folder, writable

NAME = "history"

_RECALLED = 1000  # lines, the newest


class FileHistory(History):
    """A line of JSON for each that was typed, whatever is in it.

    Args:
        path: of the file, in a folder that can be trusted.

    Raises:
        Refused: if it cannot be read and written to.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._is_kept = True
        try:
            with _opened(path) as file:
                file.seek(0)
                self._newest = deque(file, _RECALLED)
        except OSError as error:
            raise Refused(f"{path} cannot be used: {reason(error)}") from error

    def load_history_strings(self) -> Iterable[str]:
        """The lines of earlier sessions, newest first; one that is damaged is left out."""
        return filter(None, map(_decoded, reversed(self._newest)))

    def store_string(self, string: str) -> None:
        """Add a line, while that can be done."""
        if not self._is_kept:
            return
        try:
            with _opened(self._path) as file:
                file.write(json.dumps(string).encode() + b"\n")
        except OSError as error:
            self._is_kept = False
            say(f"knock: the history is no longer kept: {self._path}: {reason(error)}")


def history() -> History:
    """The history of this user; where it cannot be kept, that of this session."""
    try:
        return FileHistory(writable(user_folder()) / NAME)
    except Refused as refused:
        say(f"knock: the history is not kept: {refused}")
        return InMemoryHistory()


def _opened(path: Path) -> IO[bytes]:
    """The file, made if it is not there, at its end."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")


def _decoded(line: bytes) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
