"""Progress on standard error, on a terminal: a bar that counts texts, and a line with the share that is done."""

from __future__ import annotations

import contextlib
import time
from contextlib import AbstractContextManager
from typing import Self

from knock.cli.ui.terminal import is_live, say

_PATIENCE = 1.0  # seconds before a share is shown


class Bar(AbstractContextManager["Bar"]):
    """The bar; on what is no terminal, nothing.

    Args:
        total: texts there will be, if that is known.
        done: texts there were before.
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
            with contextlib.suppress(OSError):  # a terminal that is gone
                self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            with contextlib.suppress(OSError):
                self._progress.stop()

    def texts(self, count: int) -> None:
        """So many texts are done, beside those that were done before."""
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done + count)

    def chars(self, count: int) -> None:
        """So many characters are written."""
        self._chars = count
        if self._progress is not None:
            self._progress.update(self._task, speed=self.speed)

    @property
    def speed(self) -> str:
        """Characters a second so far."""
        return f"{self._chars / max(1e-9, time.monotonic() - self._started):,.0f} characters/s"


class ShareLine(AbstractContextManager["ShareLine"]):
    """A line with the share that is done and the time left, for work that takes longer than a second.

    Args:
        label: what is done, such as `scored`.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = time.monotonic()
        self._is_live = is_live()
        self._shown = ""

    def show(self, share: float) -> None:
        """Show a share, from 0 to 1."""
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
