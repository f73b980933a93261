"""Thread-safe lazy initialisation."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def once(function: Callable[[], T]) -> Callable[[], T]:
    """Decorate a function without arguments so that it runs once, even if several threads call it.

    Threads that call it while it runs wait for its result. An exception is raised in the thread that ran it and is not
    cached: the next call tries again. `functools.cache` alone lets concurrent threads each run the function, and
    returns results to some of them that it does not cache.
    """
    cached = functools.cache(function)
    lock = threading.Lock()

    @functools.wraps(function)
    def call() -> T:
        with lock:
            return cached()

    return call
