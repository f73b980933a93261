"""Lazy initialisation that threads may race for."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def once(function: Callable[[], T]) -> Callable[[], T]:
    """Decorate a function without arguments so that it runs once, whatever the threads that call it.

    Threads that call it while it runs wait for its result. An exception is raised in the thread that ran it and is not
    cached: the next call tries again. `functools.cache` alone lets every waiting thread run the function, and gives
    some of them a result that it does not keep.
    """
    cached = functools.cache(function)
    lock = threading.Lock()

    @functools.wraps(function)
    def call() -> T:
        with lock:
            return cached()

    return call
