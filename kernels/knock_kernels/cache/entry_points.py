"""The compiled functions as Python methods that check what they are given.

A wrong type, a short array or a missing argument would corrupt memory, since compiled code sees addresses alone.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from knock_kernels.lang.layout import ROWS, SPAN, Control, Lane, Part, RowField, Shared, Stat

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_I64, _I32, _F32, _F64 = (np.dtype(kind) for kind in (np.int64, np.int32, np.float32, np.float64))


class EntryPoints:
    """The functions of one engine. They let other Python threads run, and write into the arrays they are given.

    Every method takes contiguous arrays with at least the elements that it reads and writes.

    Args:
        engine: owns the machine code, and is kept as long as this object.

    Raises:
        TypeError: if an array has another type than the method documents.
        ValueError: if an array is not contiguous or too short.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._decode, self._read, self._run, self._score, self._tabulate = (
            _function(engine, name, arity)
            for name, arity in (("decode", 14), ("read", 8), ("run", 21), ("score", 11), ("tabulate", 3))
        )

    def decoder(
        self,
        lanes: Int64Array,
        count: int,
        controls: Float64Array,
        biases: Float32Array,
        automata: Int32Array,
        contexts: Int32Array,
        history: Int64Array,
        inputs: Int64Array,
        weights: Float32Array,
        scratch: Float32Array,
        plan: Int64Array,
    ) -> Decoder:
        """Return a function that generates tokens for lanes that advance together. See `loops.decode.decode`.

        The arrays are checked here, once, and kept: a stream calls the function every few tokens.

        Args:
            lanes: [count, Lane], updated by each call.
            count: number of lanes, 1 to ROWS.
            controls: [count, Control], updated by each call.
            biases: [count, V].
            automata: tables of [states, V + StateField]; any element where no lane has one.
            contexts: the texts so far, with room for what is drawn; any element where no control needs them. Updated
                by each call.
            history: [count, T], updated by each call.
            inputs: scratch, [3, SPAN].
            weights: packed.
            scratch: with room for `count` caches.
            plan: [Part].
        """
        _check_count(count)
        model = _model(inputs, weights, scratch, plan, count)
        first = (_address("lanes", lanes, _I64, count * len(Lane)), count)
        second = (
            _address("controls", controls, _F64, count * len(Control)),
            _address("biases", biases, _F32, count * int(plan[Part.V])),
            _address("automata", automata, _I32, 1),
            _address("contexts", contexts, _I32, 1),
            _address("history", history, _I64, count * int(plan[Part.T])),
            *model,
        )
        owners = (self, lanes, controls, biases, automata, contexts, history, inputs, weights, scratch, plan)
        return Decoder(self._decode, count, first, second, owners)

    def read(
        self,
        tokens: Int64Array,
        position: int,
        length: int,
        cache: int,
        inputs: Int64Array,
        weights: Float32Array,
        scratch: Float32Array,
        plan: Int64Array,
    ) -> None:
        """Read consecutive tokens of one sequence into its cache. See `loops.decode.read`.

        Args:
            tokens: [length].
            position: of the first token.
            length: number of tokens.
            cache: offset of the sequence's cache in `scratch`.
            inputs: scratch, [3, SPAN].
            weights: packed.
            scratch: with room for that cache.
            plan: [Part].
        """
        model = _model(inputs, weights, scratch, plan, 0)
        _check_cache(cache, scratch, plan)
        _call(self._read, _address("tokens", tokens, _I64, length), position, length, cache, *model)

    def run(
        self,
        order: Int64Array,
        count: int,
        most: int,
        table: Int64Array,
        shared: Int64Array,
        controls: Float64Array,
        biases: Float32Array,
        automata: Int32Array,
        contexts: Int32Array,
        prompts: Int64Array,
        lanes: Int64Array,
        lane_controls: Float64Array,
        history: Int64Array,
        caches: Int64Array,
        inputs: Int64Array,
        weights: Float32Array,
        scratch: Float32Array,
        plan: Int64Array,
        tokens: Int32Array,
        stats: Float64Array,
        stats_stride: int,
    ) -> None:
        """Generate rows to their ends. See `loops.batch.run`.

        Args:
            order: [count], the rows in the order in which they are taken.
            count: number of rows.
            most: lanes at once, 1 to ROWS.
            table: [rows, RowField], partly written.
            shared: [Shared], what threads share.
            controls: [any, Control].
            biases: [any, V].
            automata: tables of [states, V + StateField].
            contexts: prompts, each with room for its row; written.
            prompts: tokens of all prompts.
            lanes: scratch, [ROWS, Lane].
            lane_controls: scratch, [ROWS, Control].
            history: scratch, [ROWS, T].
            caches: [ROWS + 1], offsets in `scratch`.
            inputs: scratch, [3, SPAN].
            weights: packed.
            scratch: with room for ROWS + 1 caches.
            plan: [Part].
            tokens: [total], written.
            stats: [total, Stat], written; [Stat] where `stats_stride` is 0.
            stats_stride: `len(Stat)`, or 0 to keep no statistics.
        """
        _check_count(most)
        if stats_stride not in (0, len(Stat)):
            raise ValueError(f"stats_stride must be 0 or {len(Stat)}, got {stats_stride}")
        model = _model(inputs, weights, scratch, plan, ROWS + 1)
        total = int((table[:, RowField.out] + table[:, RowField.max_new_tokens]).max(initial=0))
        _call(
            self._run,
            _address("order", order, _I64, count),
            count,
            most,
            _address("table", table, _I64, (int(order.max(initial=-1)) + 1) * len(RowField)),
            _address("shared", shared, _I64, len(Shared)),
            _address("controls", controls, _F64, 0),
            _address("biases", biases, _F32, 0),
            _address("automata", automata, _I32, 1),
            _address("contexts", contexts, _I32, 1),
            _address("prompts", prompts, _I64, 0),
            _address("lanes", lanes, _I64, ROWS * len(Lane)),
            _address("lane_controls", lane_controls, _F64, ROWS * len(Control)),
            _address("history", history, _I64, ROWS * int(plan[Part.T])),
            _address("caches", caches, _I64, ROWS + 1),
            *model,
            _address("tokens", tokens, _I32, total),
            _address("stats", stats, _F64, total * stats_stride if stats_stride else len(Stat)),
            stats_stride,
        )

    def score(
        self,
        tokens: Int64Array,
        targets: Int64Array,
        length: int,
        position: int,
        cache: int,
        inputs: Int64Array,
        weights: Float32Array,
        scratch: Float32Array,
        plan: Int64Array,
        out: Float64Array,
        *,
        every_logit: bool,
    ) -> int:
        """Compute logits, or log-probabilities of targets; return the positions done. See `loops.decode.score`.

        Args:
            tokens: [length].
            targets: [length].
            length: number of tokens.
            position: of the first token.
            cache: offset of the sequence's cache in `scratch`.
            inputs: scratch, [3, SPAN].
            weights: packed.
            scratch: with room for that cache.
            plan: [Part].
            out: [length, V] if `every_logit`, otherwise [length]; written.
            every_logit: whether to write logits, and not log-probabilities.
        """
        model = _model(inputs, weights, scratch, plan, 0)
        _check_cache(cache, scratch, plan)
        return _call(
            self._score,
            _address("tokens", tokens, _I64, length),
            _address("targets", targets, _I64, length),
            length,
            position,
            cache,
            *model,
            _address("out", out, _F64, length * int(plan[Part.V]) if every_logit else length),
            int(every_logit),
        )

    def tabulate(self, weights: Float32Array, scratch: Float32Array, plan: Int64Array) -> None:
        """Fill the table of the first block's projections in `weights`. See `loops.forward.tabulate`.

        Args:
            weights: packed, with room for the table; written.
            scratch: any, without caches.
            plan: [Part].
        """
        _, *model = _model(np.zeros(3 * SPAN, np.int64), weights, scratch, plan, 0)
        _call(self._tabulate, *model)


class Decoder:
    """Lanes that advance together, with their arrays. Made by `EntryPoints.decoder`."""

    def __init__(
        self, function: Any, count: int, first: tuple[int, ...], second: tuple[int, ...], owners: tuple[Any, ...]
    ) -> None:
        self._function = function
        self._count = count
        self._first, self._second = first, second
        self._owners = owners  # of the memory behind the addresses

    def __call__(self, length: int, tokens: Int64Array, stats: Float64Array) -> int:
        """Generate `length` tokens for each lane; return the number of steps, fewer if a lane's text ended.

        Args:
            length: tokens for each lane.
            tokens: [count, length], written.
            stats: [count, length, Stat], written.
        """
        size = self._count * length
        return _call(
            self._function,
            *self._first,
            length,
            *self._second,
            _address("tokens", tokens, _I64, size),
            _address("stats", stats, _F64, size * len(Stat)),
        )


def _function(engine: Any, name: str, arity: int) -> Any:
    """A compiled function, as Numba's functions call each other: `int status(result *, error **, ...)`."""
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_void_p), *[ctypes.c_int64] * arity
    )
    return prototype(engine.get_function_address(f"knock_{name}"))


def _call(function: Any, *arguments: int) -> int:
    result, error = ctypes.c_int64(), ctypes.c_void_p()
    function(ctypes.byref(result), ctypes.byref(error), *arguments)  # the status is always 0: kernels do not raise
    return result.value


def _model(
    inputs: Int64Array, weights: Float32Array, scratch: Float32Array, plan: Int64Array, caches: int
) -> tuple[int, int, int, int]:
    """Return the addresses of what every function needs of the model, with room for that many caches in the scratch."""
    plan_address = _address("plan", plan, _I64, len(Part))  # first, since the sizes of the others are in it
    return (
        _address("inputs", inputs, _I64, 3 * SPAN),
        _address("weights", weights, _F32, int(plan[Part.weights_size])),
        _address("scratch", scratch, _F32, int(plan[Part.scratch_size]) + caches * int(plan[Part.cache_size])),
        plan_address,
    )


def _address(name: str, array: npt.NDArray[Any], dtype: np.dtype[Any], size: int) -> int:
    """Return the address of an array's first element."""
    if array.dtype is not dtype and array.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {array.dtype}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} must be contiguous")
    if array.size < size:
        raise ValueError(f"{name} needs {size} elements, got {array.size}")
    address: int = array.__array_interface__["data"][0]  # unlike `ctypes`, this makes no garbage
    return address


def _check_count(count: int) -> None:
    if not 1 <= count <= ROWS:
        raise ValueError(f"lanes must be 1 to {ROWS}, got {count}")


def _check_cache(cache: int, scratch: Float32Array, plan: Int64Array) -> None:
    if not int(plan[Part.scratch_size]) <= cache <= scratch.size - int(plan[Part.cache_size]):
        raise ValueError(f"no cache lies at {cache} of {scratch.size} elements")
