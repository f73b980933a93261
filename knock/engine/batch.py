"""Many sequences at once: what is asked for, what comes of it, and the threads that work on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from knock.sampling import Sampling, TokenStats
from knock.vocab import TokenArray

# Why a row came to its end, by number: the kernels have the same.
REASONS = ("not done", "length", "stop", "not finite")
NOT_DONE, LENGTH, STOP, NOT_FINITE = range(4)

# Rows that are worked on together: at first, at most, and where they are long; and tokens at most where there are more.
_FIRST_ROWS, _MOST_ROWS, _LEAST_ROWS, _MOST_TOKENS = 256, 16_384, 16, 2**19
_MOST_ROOM = 2**25  # tokens at most, and be it one row: there has to be room for them, whether or not they come
_SHORT = 1.0  # seconds, for such a group: one twice as large keeps nobody waiting
_LOOK = 0.05  # seconds between two looks at the progress, and at most from Ctrl-C until the threads know


class Request(NamedTuple):
    """One sequence to generate; everything is checked.

    Attributes:
        tokens: what it goes on from, at least one.
        sampling: the controls.
        automaton: of its stop strings, as `knock.generation.stopping.automaton` makes it; None without any.
        limit: tokens to generate at most.
        stream: its row's index in the batch.
        prompt: the text that the tokens are of, for whoever wants to know.
        error: why there is nothing to generate, if something is wrong with the prompt; then the limit is 0.
    """

    tokens: TokenArray
    sampling: Sampling
    automaton: npt.NDArray[np.int64] | None
    limit: int
    stream: int
    prompt: str = ""
    error: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """What came of requests, in their order.

    Attributes:
        tokens: of all rows, one after the other, int32; row i's are those from `starts[i]` on.
        starts: (rows,), int64.
        lengths: tokens that were generated, (rows,), int64.
        kept: tokens before the stop string, (rows,), int64.
        reasons: why each row came to its end, as an index into `REASONS`, (rows,), int64.
        stats: a column for each field of `TokenStats`, in the places of `tokens`; None if they were not asked for.
    """

    tokens: TokenArray
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    kept: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.int64]
    stats: npt.NDArray[np.float64] | None

    @classmethod
    def empty(cls, requests: Sequence[Request], keep_stats: bool) -> Rows:
        """Room for what is to come of requests."""
        limits = np.array([request.limit for request in requests], np.int64)
        lengths, kept, reasons = np.zeros((3, len(requests)), np.int64)
        return cls(
            tokens=np.zeros(limits.sum(), np.int32),
            starts=np.cumsum(limits) - limits,
            lengths=lengths,
            kept=kept,
            reasons=reasons,
            stats=np.zeros((limits.sum(), len(fields(TokenStats)))) if keep_stats else None,
        )

    def finish(self, row: int, length: int, kept: int, reason: int) -> None:
        """Note how a row came to its end."""
        self.lengths[row], self.kept[row], self.reasons[row] = length, kept, reason

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Where in `tokens` those are that are kept, one row's after the other's."""
        before = np.cumsum(self.kept) - self.kept
        return np.repeat(self.starts - before, self.kept) + np.arange(self.kept.sum())


class Stopped(KeyboardInterrupt):
    """Ctrl-C in the middle of a job.

    Attributes:
        rows: what came of it; the reason of those that are not done is `NOT_DONE`.
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows


class Job(Protocol):
    """Requests being worked on."""

    def work(self) -> None:
        """Generate rows until none is left. Several threads may do so together."""

    def stop(self) -> None:
        """Make those that work return as soon as they can."""

    def done(self) -> int:
        """How many rows have come to their ends."""

    def rows(self) -> Rows:
        """What came of it so far."""


def work_together(job: Job, threads: int, progress: Callable[[int], None] | None = None) -> None:
    """Work on a job to its end in so many threads; when interrupted, stop them first.

    Args:
        job: the job.
        threads: at least 1.
        progress: told now and then how many rows are done, and at the end.
    """
    from concurrent.futures import ThreadPoolExecutor, wait  # which imports logging, and one text needs neither

    with ThreadPoolExecutor(threads, "knock") as pool:
        futures = [pool.submit(job.work) for _ in range(threads)]
        try:
            while wait(futures, timeout=_LOOK).not_done:
                if progress:
                    progress(job.done())
        except BaseException:
            job.stop()
            raise
    for future in futures:
        future.result()
    if progress:
        progress(job.done())


def windows(requests: Iterable[Request], clock: Callable[[], float] = time.monotonic) -> Iterator[list[Request]]:
    """Requests in groups that are worked on one after the other: large, so that no thread waits, but not too large.

    The first one is small, so that something comes out soon; the next is larger if that took little time. What is
    raised where requests come from is raised after those that came before.
    """
    window: list[Request] = []
    tokens, rows = 0, _FIRST_ROWS
    try:
        for request in requests:
            window.append(request)
            tokens += request.limit
            is_long = tokens >= (_MOST_TOKENS if len(window) >= _LEAST_ROWS else _MOST_ROOM)
            if len(window) >= rows or is_long:
                full, window, tokens, started = window, [], 0, clock()
                yield full
                if clock() - started < _SHORT:
                    rows = min(2 * rows, _MOST_ROWS)
    except Exception:
        if window:
            yield window
        raise
    if window:
        yield window
