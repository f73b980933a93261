"""Treat Ctrl-C, SIGTERM and SIGHUP as requests to stop, so that no work is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self

# Signals that ask a program to stop, sent by: Ctrl-C; kill, service managers, batch systems; a closing terminal.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# Seconds within which a second signal is a duplicate: timeout, torchrun and terminals signal both the process and its
# group, so each signal arrives twice.
_DUPLICATE_WITHIN = 0.5


class _Last:
    """The last signal that this process received."""

    number: int = signal.SIGINT
    time: float = -1.0


def forget() -> None:
    """Forget the last signal; called before a command starts."""
    _Last.number, _Last.time = signal.SIGINT, -1.0


def exit_code() -> int:
    """Return the exit code after the last signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + _Last.number


def is_terminated() -> bool:
    """Whether the last signal was SIGTERM or SIGHUP rather than Ctrl-C."""
    return _Last.number != signal.SIGINT


def raise_on_signals() -> None:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, so that commands clean up."""
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # keep SIGHUP ignored under nohup
            signal.signal(number, _raise)


def ignore_signals() -> None:
    """Ignore the signals while the process exits."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _raise(number: int, frame: object) -> None:
    if not _is_duplicate(number):
        raise KeyboardInterrupt


def _is_duplicate(number: int) -> bool:
    """Whether a signal duplicates the last one; if not, record it."""
    now = time.monotonic()
    if _Last.time >= 0 and now - _Last.time < _DUPLICATE_WITHIN:
        return True
    _Last.number, _Last.time = number, now
    return False


class Interrupts(AbstractContextManager["Interrupts"]):
    """Context manager that defers the first signal: it only sets `asked`. The second raises KeyboardInterrupt.

    Inside `idle()`, the first signal raises as well.

    Attributes:
        asked: Whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.asked = False
        self._is_idle = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        _Last.time = -1.0
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # as for shell background jobs and nohup
                self._before[number] = before
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: object) -> None:
        if _is_duplicate(number):
            return
        if self.asked or self._is_idle:
            raise KeyboardInterrupt
        self.asked = True  # print nothing: a write to standard error may be in progress

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal arrived."""
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Context manager for code that may be stopped at once: any signal raises KeyboardInterrupt."""
        self._is_idle = True
        try:
            yield
        finally:
            self._is_idle = False
