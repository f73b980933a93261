"""Batched generation: requests, results and worker threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from knock.sampling import Sampling, TokenStats
from knock.vocab import TokenArray

if TYPE_CHECKING:
    from knock.engine.automaton import Automaton

# Why a row ended, by number; the kernels use the same numbers.
FINISH_REASONS = ("not done", "length", "stop", "not finite", "end", "match", "rejected")
NOT_DONE, LENGTH, STOP, NOT_FINITE, END, MATCH, REJECTED = range(7)

# Rows of a group: the first one, the most, and the fewest that end a group of too many tokens.
_FIRST_ROWS, _MOST_ROWS, _LEAST_ROWS, _MOST_TOKENS = 256, 16_384, 16, 2**19
_MOST_ROOM = 2**25  # upper bound on the tokens of a group, even of a single row: buffers are allocated up front
_SHORT = 1.0  # seconds: a group that takes less may be followed by one twice as large
_POLL = 0.05  # seconds between two looks at the progress, and at most from Ctrl-C until the threads stop


@dataclass(slots=True, eq=False)
class Request:
    """One row to generate. Everything has been validated.

    Attributes:
        tokens: the prompt, at least one token.
        sampling: the controls.
        automaton: what the text must match and where it ends, after the prompt; None if nothing restricts it.
        max_new_tokens: upper bound on the generated tokens.
        index: the row's number in its batch.
        prompt: the prompt as text, kept for the result.
        error: why the prompt is invalid, None if it is valid; an invalid one generates nothing.
        stop: the stop strings as text, kept for the result.
        extra: the prompt's other fields, kept for the result.
        state: state of the automaton after the prompt.
        is_masked: whether forbidden tokens are masked; otherwise a text that does not match is rejected.
        is_over: whether the text matches and ends before the first token; `max_new_tokens` is then 0.
    """

    tokens: TokenArray
    sampling: Sampling
    automaton: Automaton | None
    max_new_tokens: int
    index: int
    prompt: str = ""
    error: str | None = None
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Any] | None = None
    state: int = 0
    is_masked: bool = True
    is_over: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Results of requests, in their order.

    Attributes:
        tokens: int32 tokens of all rows, concatenated; those of row i begin at `starts[i]`.
        starts: offset of each row in `tokens`, [rows].
        lengths: number of generated tokens, [rows].
        kept: number of tokens before the stop string, [rows].
        finish_reasons: index into `FINISH_REASONS`, [rows].
        stats: the fields of `TokenStats` for each of `tokens`, [total, fields]; None if they were not requested.
        is_interrupted: whether Ctrl-C stopped the work; rows that are not finished have the reason `NOT_DONE`.
    """

    tokens: TokenArray
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    kept: npt.NDArray[np.int64]
    finish_reasons: npt.NDArray[np.int64]
    stats: npt.NDArray[np.float64] | None
    is_interrupted: bool = False

    @classmethod
    def empty(cls, requests: Sequence[Request], keep_stats: bool) -> Rows:
        """Allocate the results of requests."""
        limits = np.array([request.max_new_tokens for request in requests], np.int64)
        lengths, kept, finish_reasons = np.zeros((3, len(requests)), np.int64)
        return cls(
            tokens=np.zeros(limits.sum(), np.int32),
            starts=np.cumsum(limits) - limits,
            lengths=lengths,
            kept=kept,
            finish_reasons=finish_reasons,
            stats=np.zeros((limits.sum(), len(fields(TokenStats)))) if keep_stats else None,
        )

    def finish(self, row: int, length: int, kept: int, finish_reason: int) -> None:
        """Record how a row ended."""
        self.lengths[row], self.kept[row], self.finish_reasons[row] = length, kept, finish_reason

    @property
    def kept_offsets(self) -> npt.NDArray[np.int64]:
        """Offsets in `tokens` of the kept tokens of all rows, [sum of kept]."""
        before = np.cumsum(self.kept) - self.kept
        return np.repeat(self.starts - before, self.kept) + np.arange(self.kept.sum())


class Job(Protocol):
    """Requests being generated."""

    def work(self) -> None:
        """Generate rows until none is left. Several threads may do so together."""

    def stop(self) -> None:
        """Make the working threads return as soon as they can."""

    def done(self) -> int:
        """Return the number of finished rows."""

    def rows(self) -> Rows:
        """Return what has been generated so far."""


def work_together(job: Job, threads: int, progress: Callable[[int], None] | None = None) -> None:
    """Finish a job in several threads; when interrupted, stop them first.

    Args:
        job: the job.
        threads: number of threads, at least 1.
        progress: called periodically, and at the end, with the number of finished rows.
    """
    from concurrent.futures import ThreadPoolExecutor, wait  # which imports logging; a single text needs neither

    changed, at_work, is_stopped = threading.Condition(), 0, False

    def work() -> None:
        nonlocal at_work
        with changed:
            if is_stopped:
                return
            at_work += 1
        try:
            job.work()
        finally:
            with changed:
                at_work -= 1
                changed.notify_all()

    with ThreadPoolExecutor(threads, "knock") as pool:
        try:
            futures = [pool.submit(work) for _ in range(threads)]
            while wait(futures, timeout=_POLL).not_done:
                if progress:
                    progress(job.done())
        except BaseException:
            job.stop()
            with changed:  # the pool does not wait for a thread that was being started
                is_stopped = True
                changed.wait_for(lambda: not at_work)
            raise
    for future in futures:
        future.result()
    if progress:
        progress(job.done())


def groups(
    requests: Iterable[Request],
    clock: Callable[[], float] = time.monotonic,
    at_once: Callable[[], int] | None = None,
) -> Iterator[list[Request]]:
    """Yield requests in groups to be generated one after the other: large enough to keep all threads busy.

    The first group is small, so that the first results come soon; the next is larger if that took little time. An
    exception of `requests` is raised after the group of the requests before it.

    Args:
        requests: the requests.
        clock: returns the time in seconds.
        at_once: called before each group; returns the most rows that it may have, at least 1.
    """
    group: list[Request] = []
    tokens, rows = 0, _FIRST_ROWS
    most = rows if at_once is None else min(rows, at_once())
    try:
        for request in requests:
            group.append(request)
            tokens += request.max_new_tokens
            is_long = tokens >= (_MOST_TOKENS if len(group) >= _LEAST_ROWS else _MOST_ROOM)
            if len(group) >= most or is_long:
                full, group, tokens, started = group, [], 0, clock()
                yield full
                if clock() - started < _SHORT:
                    rows = min(2 * rows, _MOST_ROWS)
                most = rows if at_once is None else min(rows, at_once())
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group
