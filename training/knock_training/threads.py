"""Choose the number of CPU threads for training steps."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Iterator

import torch

_TIMED = 3  # steps timed with each number of threads; their median counts
_CHECK_EVERY = 15.0  # seconds between trials
_CHECK_AFTER = 2.0  # seconds between trials while steps are slower than usual
_SLOWER, _SLOW_STEPS = 1.5, 3  # steps are slow if three in a row take this many times the median of the trial
_GAIN = 0.95  # more threads must take at most this share of the time to be chosen


class Threads:
    """Choose the number of threads with which a step is fastest, timed at the start and periodically after that.

    More threads are not always faster. The threads of a step synchronise after every operation. If operations are
    small, or another program uses one of the cores, threads wait longer than they compute. On a busy machine, a step of
    a small model can take ten times as long with two threads as with one.

    Args:
        most: largest number of threads. The powers of two below it are tried too.
    """

    def __init__(self, most: int) -> None:
        self._counts = sorted({most, *(2**i for i in range(most.bit_length()) if 2**i < most)})
        self._best = most
        self._times: dict[int, deque[float]] = {}
        self._trials: deque[int] = deque()
        self._latest: deque[float] = deque(maxlen=_SLOW_STEPS)
        self._checked = -_CHECK_EVERY
        if len(self._counts) > 1:
            self._try(self._counts)

    @property
    def count(self) -> int:
        """Number of threads for the next step."""
        return self._trials[0] if self._trials else self._best

    @property
    def is_settled(self) -> bool:
        """Whether no trial is in progress."""
        return not self._trials

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Set the number of threads for a step and time it."""
        count = self.count
        torch.set_num_threads(count)
        started = time.perf_counter()
        yield
        self._record(count, time.perf_counter() - started)

    def _record(self, count: int, seconds: float) -> None:
        now = time.perf_counter()
        if self._trials:
            self._trials.popleft()
            self._times[count].append(seconds)
            if not self._trials:
                self._decide()
                self._checked = now
            return
        if len(self._counts) == 1:
            return
        self._latest.append(seconds)
        is_due = now - self._checked > _CHECK_EVERY
        # A single slow step is noise: the system does other things, too.
        is_slow = len(self._latest) == _SLOW_STEPS and min(self._latest) > _SLOWER * statistics.median(
            self._times[self._best]
        )
        if is_due or (is_slow and now - self._checked > _CHECK_AFTER):
            at = self._counts.index(self._best)
            self._try(self._counts[max(0, at - 1) : at + 2])

    def _try(self, counts: list[int]) -> None:
        """Start timing steps with each of these numbers of threads in turn. The first step of each is ignored."""
        self._latest.clear()
        self._times = {count: deque(maxlen=_TIMED) for count in counts}
        self._trials = deque(list(reversed(counts)) * (_TIMED + 1))

    def _decide(self) -> None:
        medians = {count: statistics.median(times) for count, times in self._times.items()}
        first, *rest = sorted(medians)
        self._best = first
        for count in rest:
            if medians[count] < _GAIN * medians[self._best]:
                self._best = count
