"""Ctrl-C as something that is asked for, so that nothing is cut off in the middle."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self


class Interrupts(AbstractContextManager["Interrupts"]):
    """In a `with`, the first Ctrl-C is only noted, but where nothing can be lost; the second ends the process at once.

    Attributes:
        asked: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.asked = False
        self._is_idle = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, signum: int, frame: object) -> None:
        if self.asked or self._is_idle:
            raise KeyboardInterrupt
        self.asked = True  # no more than that: it may come in the middle of a write to standard error

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def idle(self) -> Iterator[None]:
        """In here nothing can be lost, so that Ctrl-C stops at once."""
        self._is_idle = True
        try:
            yield
        finally:
            self._is_idle = False
