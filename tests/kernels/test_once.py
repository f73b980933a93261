"""Lazy initialisation runs once, whatever the threads that race for it."""

from __future__ import annotations

import threading
import time

import pytest

from knock_kernels.cache.once import once


def test_threads_share_one_result() -> None:
    calls: list[object] = []

    @once
    def slow() -> object:
        """Documented."""
        time.sleep(0.05)  # the other threads arrive meanwhile
        calls.append(object())
        return calls[-1]

    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(slow())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert results == calls * 16
    assert slow.__doc__ == "Documented."


def test_exception_is_not_cached() -> None:
    attempts: list[int] = []

    @once
    def second_time() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise LookupError("not yet")
        return "now"

    with pytest.raises(LookupError, match="not yet"):
        second_time()
    assert second_time() == second_time() == "now"
    assert len(attempts) == 2
