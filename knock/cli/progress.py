"""A bar on standard error: how many texts are done, characters a second, time left."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Self

from knock.cli.terminal import is_live


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
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
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
