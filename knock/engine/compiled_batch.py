"""The compiled backend of `knock.engine.batch`: requests as the tables that the kernel `run` reads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.engine.batch import LENGTH, NOT_DONE, Request, Rows
from knock.engine.compiled_backend import CompiledBackend, control_row, kept_prompt
from knock_kernels.cache.store import ROWS, SPAN, Control, Lane, Row, Shared, Stat


class CompiledJob:
    """Requests that threads work on together; the kernel says what these arrays are."""

    def __init__(
        self, backend: CompiledBackend, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int
    ) -> None:
        config, V = backend.config, backend.config.vocab_size
        prompts, controls, biases, automata = (_Joined(dtype) for dtype in (np.int64, np.float64, np.float32, np.int64))
        self._room = Rows.empty(requests, keep_stats)
        signed_seed = int(np.uint64(seed).astype(np.int64))
        table = []
        for request, start in zip(requests, self._room.starts.tolist(), strict=True):
            tokens, sampling, automaton, limit, stream = request[:5]
            prompt = prompts.place(id(tokens), kept_prompt, tokens, config)
            table.append(
                (
                    prompt,
                    prompts.length(id(tokens)) - 1,
                    limit,
                    start,
                    signed_seed,
                    stream,
                    controls.place(id(sampling), control_row, sampling) // len(Control),
                    biases.place(id(sampling), sampling.bias_array, V) if sampling.logit_bias else -1,
                    -1 if automaton is None else automata.place(id(automaton), automaton.ravel),
                    0,
                    0,
                    LENGTH if limit == 0 else NOT_DONE,
                )
            )
        self._backend = backend
        self._requests = requests  # whose identities tell apart what they share
        self._table = np.array(table, np.int64).reshape(-1, len(Row))
        limits = self._table[:, Row.limit]
        # The longest first, so that the threads come to their ends together.
        self._order = np.argsort(-limits, kind="stable")[: np.count_nonzero(limits)]
        self._most = max(1, min(ROWS, -(-len(self._order) // threads)))
        self._shared = np.zeros(len(Shared), np.int64)
        self._controls, self._biases, self._automata, self._prompts = (
            joined.array() for joined in (controls, biases, automata, prompts)
        )

    def work(self) -> None:
        """Generate rows until none is left."""
        backend, config, room = self._backend, self._backend.config, self._room
        lanes, controls = np.zeros((ROWS, len(Lane)), np.int64), np.empty((ROWS, len(Control)))
        history, rows = np.zeros((ROWS, config.T), np.int64), np.zeros(3 * SPAN, np.int64)
        caches = np.array([backend.cache_offset(slot) for slot in range(ROWS + 1)])
        stats, stride = (np.empty(len(Stat)), 0) if room.stats is None else (room.stats, len(Stat))
        backend.call(
            "run", self._order, len(self._order), self._most, self._table, self._shared, self._controls, self._biases,
            self._automata, self._prompts, lanes, controls, history, caches, rows, backend.weights,
            backend.scratch(ROWS + 1), backend.plan, room.tokens, stats, stride,
        )  # fmt: skip

    def stop(self) -> None:
        """Make those that work return at their next step."""
        self._shared[Shared.stop] = 1

    def done(self) -> int:
        """How many rows have come to their ends."""
        return int(np.count_nonzero(self._table[:, Row.reason]))

    def rows(self) -> Rows:
        """What came of it so far."""
        return replace(
            self._room,
            lengths=self._table[:, Row.length],
            kept=self._table[:, Row.kept],
            reasons=self._table[:, Row.reason],
        )


class _Joined:
    """Arrays one after the other, each once."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._parts: list[npt.NDArray[Any]] = []
        self._places: dict[Hashable, tuple[int, int]] = {}
        self._size = 0

    def place(self, key: Hashable, make: Callable[..., Any], *arguments: Any) -> int:
        """Where the array of this key begins, which is made if it is new."""
        if key not in self._places:
            part = np.asarray(make(*arguments), self._dtype)
            self._parts.append(part)
            self._places[key] = self._size, len(part)
            self._size += len(part)
        return self._places[key][0]

    def length(self, key: Hashable) -> int:
        """Of the array of this key."""
        return self._places[key][1]

    def array(self) -> npt.NDArray[Any]:
        """All of them; never empty, so that it has an address."""
        return np.concatenate([*self._parts, np.zeros(1, self._dtype)])
