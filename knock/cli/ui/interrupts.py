"""Ctrl-C, SIGTERM and SIGHUP as requests to stop, so that nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self

# Those that ask a program to stop: Ctrl-C; kill, a service manager, a batch system; a terminal that closes.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# Seconds in which a second signal counts as the first: timeout, torchrun and terminals send theirs to a process and to
# its group, so that it arrives twice.
_SAME = 0.5


class _Last:
    """The signal that arrived last in this process."""

    number: int = signal.SIGINT
    time: float = -1.0


def forget() -> None:
    """Forget the last signal, before a command begins."""
    _Last.number, _Last.time = signal.SIGINT, -1.0


def exit_code() -> int:
    """The exit code of a command that a signal stopped: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + _Last.number


def is_terminated() -> bool:
    """Whether the process was asked to end, by another signal than Ctrl-C."""
    return _Last.number != signal.SIGINT


def raise_on_signals() -> None:
    """Have SIGTERM and SIGHUP, like Ctrl-C, raise KeyboardInterrupt in this process, so that commands clean up."""
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not what nohup ignores
            signal.signal(number, _raise)


def ignore_signals() -> None:
    """Have the process ignore the signals, for its last moments."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _raise(number: int, frame: object) -> None:
    if not _is_repeated(number):
        raise KeyboardInterrupt


def _is_repeated(number: int) -> bool:
    """Whether a signal belongs to the one before it; if not, record it."""
    now = time.monotonic()
    if _Last.time >= 0 and now - _Last.time < _SAME:
        return True
    _Last.number, _Last.time = number, now
    return False


class Interrupts(AbstractContextManager["Interrupts"]):
    """In a `with`, the first signal only sets `asked`, except where nothing can be lost; the second stops at once.

    Attributes:
        asked: whether a signal arrived.
    """

    def __init__(self) -> None:
        self.asked = False
        self._is_idle = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        _Last.time = -1.0
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # as SIGINT is in the background of a shell, and SIGHUP after nohup
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: object) -> None:
        if _is_repeated(number):
            return
        if self.asked or self._is_idle:
            raise KeyboardInterrupt
        self.asked = True  # no more than that: it may come in the middle of a write to standard error

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal arrived."""
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def idle(self) -> Iterator[None]:
        """In here nothing can be lost, so that a signal stops at once."""
        self._is_idle = True
        try:
            yield
        finally:
            self._is_idle = False
