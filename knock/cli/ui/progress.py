"""Progress on standard error: a bar that counts texts, a line with a percentage, and a sign of life after a silence.

Bar and line are overwritten on a terminal. Elsewhere, lines follow each other, one after each ten seconds of silence.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

from knock.cli.ui.terminal import is_live, say
from knock.words import counted

_PATIENCE = 1.0  # seconds before a percentage is shown
_NARROW = 60  # columns; narrower terminals have no room for the speed
_SILENCE = 10.0  # seconds without a line after which there is one


class Bar(AbstractContextManager["Bar"]):
    """Progress bar that counts texts; shown only on a terminal.

    Args:
        total: Number of texts, including those done before; None if unknown.
        done: Number of texts done before, by an earlier run.
        is_shown: Whether to show it at all: texts on the same terminal would run into it.
    """

    def __init__(self, total: int | None, done: int, *, is_shown: bool = True) -> None:
        self._total, self._done = total, done
        self._chars = 0
        self._started = time.monotonic()
        self._progress = None
        if is_shown and is_live():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
            from rich.text import Text

            bar, console = self, Console(stderr=True)

            class Speed(ProgressColumn):
                def render(self, task: Task) -> Text:
                    return Text(bar.speed if bar._chars else "", no_wrap=True)

            left = [TimeRemainingColumn(compact=True), TextColumn("left")] if total else []
            of = "{task.completed:,}/{task.total:,}" if total is not None else "{task.completed:,}"
            speed = [Speed()] if console.width >= _NARROW else []
            self._progress = Progress(
                BarColumn(), TextColumn(of), TextColumn("text" if total == 1 else "texts"), *speed, *left,
                console=console, transient=True,
            )  # fmt: skip
            self._task = self._progress.add_task("", total=total, completed=done)

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
            done = self._done + count
            self._progress.update(self._task, completed=done if self._total is None else min(done, self._total))

    def chars(self, count: int) -> None:
        """Set the number of characters written in this run; cheap enough for each row."""
        self._chars = count

    @property
    def speed(self) -> str:
        """Average speed so far, such as `1,234 characters/s`."""
        return f"{self._chars / max(1e-9, time.monotonic() - self._started):,.0f} characters/s"


class ShareLine(AbstractContextManager["ShareLine"]):
    """Line with the percentage done and the time left, shown if the work takes longer than a second.

    Where lines cannot be overwritten, there is one after each ten seconds.

    Args:
        label: Name of the work, such as `scored`.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = time.monotonic()
        self._is_live = is_live()
        self._shown = ""
        self._line = f"{label} 0%"
        self._heartbeat: Heartbeat | None = None

    def __enter__(self) -> Self:
        if not self._is_live:
            self._heartbeat = Heartbeat(say)
            self._heartbeat.doing(lambda: self._line)
        return self

    def show(self, share: float) -> None:
        """Show the fraction done, from 0 to 1."""
        seconds = time.monotonic() - self._started
        if share > 0:
            self._line = f"{self._label} {share:.0%}, {seconds * (1 - share) / share:.0f} s left"
            if self._is_live and seconds > _PATIENCE:
                self._write(self._line)

    def count(self, done: int, noun: str = "character") -> None:
        """Show the number of characters done, or of other things, where the total is unknown."""
        self._line = f"{self._label} {counted(done, noun)}"
        if self._is_live and time.monotonic() - self._started > _PATIENCE:
            self._write(self._line)

    def clear(self) -> None:
        """Remove the line until it is shown again, so that other output can take its place."""
        if self._shown:
            self._write("")
            say("\r", end="")

    def _write(self, line: str) -> None:
        say(f"\r{line:<{len(self._shown)}}", end="")
        self._shown = line

    def __exit__(self, *exception: object) -> None:
        if self._heartbeat is not None:
            self._heartbeat.close()
        if self._shown:
            self._write("")
            say("\r", end="")


class Heartbeat(AbstractContextManager["Heartbeat"]):
    """Reports what is being done whenever nothing was shown for ten seconds.

    A thread waits for the silence, because the work itself may be one long call.

    Args:
        report: Called with the line, in that thread.
        lock: Held during the call, so that a message shown under it is not interrupted.
    """

    def __init__(self, report: Callable[[str], None], lock: threading.RLock | None = None) -> None:
        self._report = report
        self._changed = threading.Condition(lock)
        self._activity: str | Callable[[], str] | None = None
        self._is_closed = False
        self._since = self._latest = time.monotonic()  # of the activity or the last line; of the last line or report
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def doing(self, activity: str | Callable[[], str] | None) -> None:
        """Set what is being done from now on.

        Args:
            activity: What to report, such as `reading the corpus`, or a function that returns the whole line. None if
                nothing is worth a report.
        """
        with self._changed:
            self._activity = activity
            self._since = time.monotonic()
            self._changed.notify()

    def shown(self) -> None:
        """Restart the silence: something was shown."""
        with self._changed:
            self._since = self._latest = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reporting."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_closed:
                now = time.monotonic()
                left = _SILENCE - (now - self._latest)
                if self._activity is None:
                    self._changed.wait()
                elif left > 0:
                    self._changed.wait(left)
                else:
                    self._latest = now
                    self._report(self._line(now))

    def _line(self, now: float) -> str:
        if callable(self._activity):
            return self._activity()
        return f"still {self._activity}, {now - self._since:.0f} s"
