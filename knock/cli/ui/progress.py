"""Progress on standard error, if it is a terminal: a bar that counts texts, and a line with a percentage."""

from __future__ import annotations

import contextlib
import time
from contextlib import AbstractContextManager
from typing import Self

from knock.cli.ui.terminal import is_live, say

_PATIENCE = 1.0  # seconds before a percentage is shown


class Bar(AbstractContextManager["Bar"]):
    """Progress bar that counts texts; shown only on a terminal.

    Args:
        total: Number of texts, including those done before; None if unknown.
        done: Number of texts done before, by an earlier run.
    """

    def __init__(self, total: int | None, done: int) -> None:
        self._done = done
        self._chars = 0
        self._started = time.monotonic()
        self._progress = None
        if is_live():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            speed, left = TextColumn("{task.fields[speed]}"), [TimeRemainingColumn()] if total else []
            self._progress = Progress(
                BarColumn(), MofNCompleteColumn(), TextColumn("texts"), speed, *left,
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._progress.add_task("", total=total, completed=done, speed="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            with contextlib.suppress(OSError):  # the terminal may have closed
                self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            with contextlib.suppress(OSError):
                self._progress.stop()

    def texts(self, count: int) -> None:
        """Set the number of texts done in this run."""
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done + count)

    def chars(self, count: int) -> None:
        """Set the number of characters written in this run."""
        self._chars = count
        if self._progress is not None:
            self._progress.update(self._task, speed=self.speed)

    @property
    def speed(self) -> str:
        """Average speed so far, such as `1,234 characters/s`."""
        return f"{self._chars / max(1e-9, time.monotonic() - self._started):,.0f} characters/s"


class ShareLine(AbstractContextManager["ShareLine"]):
    """Line with the percentage done and the time left, shown if the work takes longer than a second.

    Args:
        label: Name of the work, such as `scored`.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = time.monotonic()
        self._is_live = is_live()
        self._shown = ""

    def show(self, share: float) -> None:
        """Show the fraction done, from 0 to 1."""
        seconds = time.monotonic() - self._started
        if self._is_live and seconds > _PATIENCE and share > 0:
            self._write(f"{self._label} {share:.0%}, {seconds * (1 - share) / share:.0f} s left")

    def _write(self, line: str) -> None:
        say(f"\r{line:<{len(self._shown)}}", end="")
        self._shown = line

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            self._write("")
            say("\r", end="")
