"""Batches on compiled kernels: requests as the tables that the kernel `run` reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from knock.config import ModelConfig
from knock.engine.batch import LENGTH, MATCH, NOT_DONE, Request, Rows
from knock.engine.packed_model import PackedModel
from knock.engine.packing import controls_of, reachable
from knock.sampling import Sampling
from knock.vocab import TokenArray
from knock_kernels.cache.store import ROWS, WIDTH, Controls, Job, Lane, Row, Stats, address, point

if TYPE_CHECKING:
    from knock.engine.automaton import Automaton


_WIDE_FROM = 12  # rows of a thread from which running WIDTH lanes side by side is faster


class CompiledJob:
    """Requests that threads generate together."""

    def __init__(
        self, model: PackedModel, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int
    ) -> None:
        self._model = model
        self._requests = requests  # kept alive: what they share is recognised by its identity
        self._room = room = Rows.empty(requests, keep_stats)
        self._memory = memory = _Memory()
        limits = np.array([request.max_new_tokens for request in requests], np.int64)
        prompts = [memory.prompt(request.tokens, model.config) for request in requests]
        self._rows = rows = Row.array(len(requests))
        rows["prompt"] = [prompt.address for prompt in prompts]
        rows["before"] = [len(prompt.array) - 1 for prompt in prompts]
        rows["max_new_tokens"], rows["out"] = limits, room.starts
        rows["seed"] = np.uint64(seed).astype(np.int64)
        rows["index"] = [request.index for request in requests]
        rows["controls"] = [memory.controls(request.sampling) for request in requests]
        rows["bias"] = [memory.bias(request.sampling, model.config.vocab_size) for request in requests]
        rows["automaton"] = [memory.automaton(request.automaton) for request in requests]
        rows["state"] = [request.state for request in requests]
        rows["is_masked"] = [request.automaton is not None and request.is_masked for request in requests]
        rows["context"] = memory.contexts(requests)
        rows["context_size"] = [len(request.tokens) for request in requests]
        rows["finish_reason"] = [
            NOT_DONE if request.max_new_tokens else MATCH if request.is_over else LENGTH for request in requests
        ]
        # The longest first, so that all threads finish at about the same time.
        self._order = np.argsort(-limits, kind="stable")[: np.count_nonzero(limits)]
        rows_a_thread = max(1, -(-len(self._order) // threads))
        self._is_wide = model.can_be_wide and rows_a_thread >= _WIDE_FROM
        self._most = WIDTH if self._is_wide else min(ROWS, rows_a_thread)
        self._next, self._stop = np.zeros((2, 1), np.int64)
        self._job = Job.array()
        self._job["count"] = len(self._order)
        point(Job, self._job, order=self._order, rows=rows, next=self._next, stop=self._stop, tokens=room.tokens,
              stats=None if room.stats is None else room.stats.view(Stats.dtype))  # fmt: skip

    def work(self) -> None:
        """Generate rows until none is left."""
        model, T = self._model, self._model.config.longest_window
        lanes, controls, history = Lane.array(WIDTH), Controls.array(WIDTH), np.zeros((WIDTH, T), np.int64)
        scratch, caches = model.scratch(), model.caches(WIDTH + 1)
        for home in range(WIDTH):
            point(Lane, lanes[home : home + 1], cache=caches[home], history=history[home],
                  controls=controls[home : home + 1])  # fmt: skip
        wide = model.wide() if self._is_wide else None
        record = None if wide is None else wide.record
        model.kernels.run(self._job, self._most, lanes, caches[WIDTH], model.record, scratch.state, record)

    def stop(self) -> None:
        """Make the working threads return at their next step."""
        self._stop[0] = 1

    def done(self) -> int:
        """Return the number of finished rows."""
        return int(np.count_nonzero(self._rows["finish_reason"]))

    def rows(self) -> Rows:
        """Return what has been generated so far."""
        rows = self._rows
        return replace(self._room, lengths=rows["length"], kept=rows["kept"], finish_reasons=rows["finish_reason"])


class _Placed(NamedTuple):
    """An array and its address. Asking NumPy for an address takes a while, and an interrupt meanwhile is lost."""

    array: npt.NDArray[Any]
    address: int


class _Memory:
    """The arrays that rows point to. What requests share is there once."""

    def __init__(self) -> None:
        self._shared: dict[int, _Placed] = {}  # by the identity of what they are made of
        self._contexts = np.zeros(1, np.int32)

    def prompt(self, tokens: TokenArray, config: ModelConfig) -> _Placed:
        """Return the end of a prompt that matters, [N], int64."""
        return self._once(tokens, lambda: reachable(tokens, config).astype(np.int64))

    def controls(self, sampling: Sampling) -> int:
        """Return the address of controls."""
        return self._once(sampling, lambda: controls_of(sampling)).address

    def bias(self, sampling: Sampling, vocab_size: int) -> int:
        """Return the address of a bias, 0 if there is none."""
        if not sampling.logit_bias:
            return 0
        bias = self._once(sampling.logit_bias, lambda: np.asarray(sampling.bias_array(vocab_size), np.float32))
        return bias.address

    def automaton(self, automaton: Automaton | None) -> int:
        """Return the address of an automaton's table, 0 if there is none."""
        if automaton is None:
            return 0
        return self._once(automaton, lambda: np.ascontiguousarray(automaton.table, np.int32)).address

    def contexts(self, requests: Sequence[Request]) -> list[int]:
        """Return the address of each prompt with room behind it, 0 if no control needs the text so far."""
        sizes = [
            len(request.tokens) + request.max_new_tokens if request.sampling.penalizes_repetition else 0
            for request in requests
        ]
        self._contexts = np.zeros(sum(sizes) + 1, np.int32)
        first, addresses, start = address(self._contexts), [], 0
        for request, size in zip(requests, sizes, strict=True):
            addresses.append(first + start * self._contexts.itemsize if size else 0)
            if size:
                self._contexts[start : start + len(request.tokens)] = request.tokens
            start += size
        return addresses

    def _once(self, key: object, make: Callable[[], npt.NDArray[Any]]) -> _Placed:
        """Return the array that is made of an object, which outlives this memory."""
        if id(key) not in self._shared:
            array = make()
            self._shared[id(key)] = _Placed(array, address(array))
        return self._shared[id(key)]
