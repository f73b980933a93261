"""Batches on compiled kernels: requests as the tables that the kernel `run` reads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.engine.batch import LENGTH, MATCH, NOT_DONE, Request, Rows
from knock.engine.packed_model import PackedModel
from knock.engine.packing import control_row, reachable
from knock.vocab import TokenArray
from knock_kernels.cache.store import ROWS, SPAN, Control, Lane, RowField, Shared, Stat


class CompiledJob:
    """Requests that threads generate together; `EntryPoints.run` documents the arrays."""

    def __init__(
        self, model: PackedModel, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int
    ) -> None:
        config, V = model.config, model.config.vocab_size
        prompts, controls, biases, automata = (_Joined(dtype) for dtype in (np.int64, np.float64, np.float32, np.int32))
        self._room = Rows.empty(requests, keep_stats)
        contexts = _Contexts()
        signed_seed = int(np.uint64(seed).astype(np.int64))
        table = []
        for request, start in zip(requests, self._room.starts.tolist(), strict=True):
            tokens, sampling, automaton = request.tokens, request.sampling, request.automaton
            prompt = prompts.offset(id(tokens), reachable, tokens, config)
            table.append(
                (
                    prompt,
                    prompts.length(id(tokens)) - 1,
                    request.max_new_tokens,
                    start,
                    signed_seed,
                    request.index,
                    controls.offset(id(sampling), control_row, sampling) // len(Control),
                    biases.offset(id(sampling), sampling.bias_array, V) if sampling.logit_bias else -1,
                    -1 if automaton is None else automata.offset(id(automaton), automaton.table.ravel),
                    request.state,
                    int(automaton is not None and request.is_masked),
                    contexts.add(tokens, request.max_new_tokens) if sampling.penalizes_repetition else -1,
                    len(tokens),
                    0,
                    0,
                    NOT_DONE if request.max_new_tokens else MATCH if request.is_over else LENGTH,
                )
            )
        self._model = model
        self._requests = requests  # kept alive: what they share is recognised by its identity
        self._table = np.array(table, np.int64).reshape(-1, len(RowField))
        limits = self._table[:, RowField.max_new_tokens]
        # The longest first, so that all threads finish at about the same time.
        self._order = np.argsort(-limits, kind="stable")[: np.count_nonzero(limits)]
        self._most = max(1, min(ROWS, -(-len(self._order) // threads)))
        self._shared = np.zeros(len(Shared), np.int64)
        self._controls, self._biases, self._automata, self._prompts = (
            joined.array() for joined in (controls, biases, automata, prompts)
        )
        self._contexts = contexts.array()

    def work(self) -> None:
        """Generate rows until none is left."""
        model, config, room = self._model, self._model.config, self._room
        lanes, controls = np.zeros((ROWS, len(Lane)), np.int64), np.empty((ROWS, len(Control)))
        history, inputs = np.zeros((ROWS, config.T), np.int64), np.zeros(3 * SPAN, np.int64)
        caches = np.array([model.cache_offset(home) for home in range(ROWS + 1)])
        stats, stride = (np.empty(len(Stat)), 0) if room.stats is None else (room.stats, len(Stat))
        model.kernels.run(
            self._order, len(self._order), self._most, self._table, self._shared, self._controls, self._biases,
            self._automata, self._contexts, self._prompts, lanes, controls, history, caches, inputs, model.weights,
            model.scratch(ROWS + 1), model.plan, room.tokens, stats, stride,
        )  # fmt: skip

    def stop(self) -> None:
        """Make the working threads return at their next step."""
        self._shared[Shared.stop] = 1

    def done(self) -> int:
        """Return the number of finished rows."""
        return int(np.count_nonzero(self._table[:, RowField.finish_reason]))

    def rows(self) -> Rows:
        """Return what has been generated so far."""
        return replace(
            self._room,
            lengths=self._table[:, RowField.length],
            kept=self._table[:, RowField.kept],
            finish_reasons=self._table[:, RowField.finish_reason],
        )


class _Contexts:
    """Texts so far, each with room for what is drawn."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, TokenArray]] = []
        self._size = 0

    def add(self, prompt: TokenArray, room: int) -> int:
        """Return the offset of a prompt with room behind it."""
        offset = self._size
        self._parts.append((offset, prompt))
        self._size += len(prompt) + room
        return offset

    def array(self) -> npt.NDArray[np.int32]:
        """Return all of them as one array, which is never empty, so that it has an address."""
        out = np.zeros(max(self._size, 1), np.int32)
        for offset, prompt in self._parts:
            out[offset : offset + len(prompt)] = prompt
        return out


class _Joined:
    """Concatenates arrays, each once."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._parts: list[npt.NDArray[Any]] = []
        self._spans: dict[Hashable, tuple[int, int]] = {}
        self._size = 0

    def offset(self, key: Hashable, make: Callable[..., Any], *arguments: Any) -> int:
        """Return the offset of the array with this key, which is made if it is new."""
        if key not in self._spans:
            part = np.asarray(make(*arguments), self._dtype)
            self._parts.append(part)
            self._spans[key] = self._size, len(part)
            self._size += len(part)
        return self._spans[key][0]

    def length(self, key: Hashable) -> int:
        """Return the length of the array with this key."""
        return self._spans[key][1]

    def array(self) -> npt.NDArray[Any]:
        """Return all arrays as one, which is never empty, so that it has an address."""
        return np.concatenate([*self._parts, np.zeros(1, self._dtype)])
