"""Messages of `knock train`, with a sign of life after ten seconds of silence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

from knock.cli.ui.progress import Heartbeat
from knock.cli.ui.terminal import say


class Messages(AbstractContextManager["Messages"]):
    """The messages of a run; a context manager.

    Args:
        write: prints a line; None in a process that reports nothing.

    Attributes:
        lock: held while something is shown, because signs of life come from another thread.
        beat: shows a sign of life; the live display replaces it.
    """

    def __init__(self, write: Callable[[str], None] | None = say) -> None:
        self._write = write
        self.lock = threading.RLock()
        self.beat: Callable[[str], None] = write or (lambda line: None)
        self._heartbeat = Heartbeat(self._beat, self.lock) if write else None

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the signs of life."""
        if self._heartbeat is not None:
            self._heartbeat.close()

    def _beat(self, line: str) -> None:
        self.beat(line)

    def say(self, message: str) -> None:
        """Print a message."""
        if self._write is not None:
            with self.lock:
                self.shown()
                self._write(message)

    def doing(self, activity: str | Callable[[], str] | None) -> Self:
        """Set what is being done from now on, as in `Heartbeat.doing`."""
        if self._heartbeat is not None:
            self._heartbeat.doing(activity)
        return self

    def shown(self) -> None:
        """Restart the ten seconds: something was shown."""
        if self._heartbeat is not None:
            self._heartbeat.shown()
