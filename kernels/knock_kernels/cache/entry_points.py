"""The compiled functions as Python methods that check what they are given.

A wrong type, a short array or a missing argument would corrupt memory, since compiled code sees addresses alone.
Records hold addresses, too: whoever fills in a record keeps the arrays behind it alive, and answers for their sizes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from knock_kernels.lang.layout import ROWS, WIDTH, Job, Lane, Model, Record, RecordArray, State, Stats, Wide
from knock_kernels.lang.memory import address

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_I64, _F32, _F64 = (np.dtype(kind) for kind in (np.int64, np.float32, np.float64))


class EntryPoints:
    """The functions of one engine. They let other Python threads run, and write into the arrays they are given.

    Every method takes contiguous arrays with at least the elements that it reads and writes. `model` and `state` are
    records, [1].

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
            for name, arity in (("decode", 7), ("read", 6), ("run", 8), ("score", 9), ("tabulate", 2))
        )

    def decoder(self, lanes: RecordArray, count: int, model: RecordArray, state: RecordArray) -> Decoder:
        """Return a function that generates tokens for lanes that advance together. See `loops.decode.decode`.

        The records are checked here, once, and kept: a stream calls the function every few tokens.

        Args:
            lanes: [count], `Lane` records, updated by each call.
            count: number of lanes, 1 to ROWS.
            model: the model.
            state: scratch.
        """
        _check_count(count)
        arguments = (_records("lanes", lanes, Lane, count), count, *_model(model, state))
        return Decoder(self._decode, arguments, (self, lanes, model, state))

    def read(
        self,
        tokens: Int64Array,
        position: int,
        length: int,
        cache: Float32Array,
        model: RecordArray,
        state: RecordArray,
    ) -> None:
        """Read consecutive tokens of one sequence into its cache. See `loops.decode.read`.

        Args:
            tokens: [length].
            position: of the first token.
            length: number of tokens.
            cache: of the sequence, [cache_size].
            model: the model.
            state: scratch.
        """
        _call(self._read, _array("tokens", tokens, _I64, length), position, length, _cache(cache, model),
              *_model(model, state))  # fmt: skip

    def run(
        self,
        job: RecordArray,
        most: int,
        lanes: RecordArray,
        shared_prompt: Float32Array,
        model: RecordArray,
        state: RecordArray,
        wide: RecordArray | None = None,
    ) -> None:
        """Generate rows to their ends. See `loops.batch.run`.

        Args:
            job: a `Job` record, [1].
            most: lanes at once, 1 to ROWS, or WIDTH if there are buffers for lanes side by side.
            lanes: [WIDTH], `Lane` records, each with a cache, controls and history.
            shared_prompt: scratch, [cache_size].
            model: the model.
            state: scratch.
            wide: a `Wide` record, [1], or None.
        """
        _check_count(most, ROWS if wide is None else WIDTH)
        unused = Stats.array()
        buffers = 0 if wide is None else _records("wide", wide, Wide, 1)
        _call(self._run, _records("job", job, Job, 1), most, _records("lanes", lanes, Lane, WIDTH),
              _cache(shared_prompt, model), address(unused), buffers, *_model(model, state))  # fmt: skip

    def score(
        self,
        tokens: Int64Array,
        targets: Int64Array,
        length: int,
        position: int,
        cache: Float32Array,
        model: RecordArray,
        state: RecordArray,
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
            cache: of the sequence, [cache_size].
            model: the model.
            state: scratch.
            out: [length, V] if `every_logit`, otherwise [length]; written.
            every_logit: whether to write logits, and not log-probabilities.
        """
        addresses = _model(model, state)  # first, since the sizes of the others are in it
        return _call(
            self._score,
            _array("tokens", tokens, _I64, length),
            _array("targets", targets, _I64, length),
            length,
            position,
            _cache(cache, model),
            *addresses,
            _array("out", out, _F64, length * int(model["V"][0]) if every_logit else length),
            int(every_logit),
        )

    def tabulate(self, model: RecordArray, state: RecordArray) -> None:
        """Fill the table of the first block's projections. See `loops.forward.tabulate`.

        Args:
            model: the model, with a table; it is written.
            state: scratch.
        """
        _call(self._tabulate, *_model(model, state))


class Decoder:
    """Lanes that advance together. Made by `EntryPoints.decoder`."""

    def __init__(self, function: Any, arguments: tuple[int, ...], owners: tuple[Any, ...]) -> None:
        self._function = function
        self._lanes, self._count, *self._model = arguments
        self._owners = owners  # of the memory behind the addresses

    def __call__(self, length: int, tokens: Int64Array, stats: Float64Array) -> int:
        """Generate `length` tokens for each lane; return the number of steps, fewer if a lane's text ended.

        Args:
            length: tokens for each lane.
            tokens: [count, length], written.
            stats: [count, length, fields of Stats], written.
        """
        size = self._count * length
        return _call(
            self._function,
            self._lanes,
            self._count,
            length,
            *self._model,
            _array("tokens", tokens, _I64, size),
            _array("stats", stats, _F64, size * len(Stats.fields)),
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


def _model(model: RecordArray, state: RecordArray) -> tuple[int, int]:
    """Return the addresses of the records that every function needs."""
    return _records("model", model, Model, 1), _records("state", state, State, 1)


def _cache(cache: Float32Array, model: RecordArray) -> int:
    _records("model", model, Model, 1)  # first, since the size is in it
    return _array("cache", cache, _F32, int(model["cache_size"][0]))


def _records(name: str, array: RecordArray, kind: type[Record], size: int) -> int:
    return _array(name, array, kind.dtype, size)


def _array(name: str, array: npt.NDArray[Any], dtype: np.dtype[Any], size: int) -> int:
    """Return the address of an array's first element."""
    if array.dtype is not dtype and array.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {array.dtype}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} must be contiguous")
    if array.size < size:
        raise ValueError(f"{name} needs {size} elements, got {array.size}")
    return address(array)


def _check_count(count: int, most: int = ROWS) -> None:
    if not 1 <= count <= most:
        raise ValueError(f"lanes must be 1 to {most}, got {count}")
