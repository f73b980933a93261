"""Decorators that define how kernels are compiled.

A *unit* is compiled once, to a function that other units call by its symbol. Everything else is compiled into each unit
that uses it, and optimised there.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, get_annotations
from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from knock_kernels.lang.layout import Record
from knock_kernels.lang.records import RecordPointer

if TYPE_CHECKING:
    f32p = f64p = i16p = i32p = i64p = i64 = f64 = void = Any
else:
    f32p = types.CPointer(types.float32)
    f64p = types.CPointer(types.float64)
    i16p = types.CPointer(types.int16)
    i32p = types.CPointer(types.int32)
    i64p = types.CPointer(types.int64)
    i64 = types.int64
    f64 = types.float64
    void = types.void

# Division follows IEEE 754: an error path for a zero divisor would prevent loops from being vectorised. Nothing is
# contracted or reordered, so that results have the same bits on every CPU.
OPTIONS: dict[str, Any] = {"error_model": "numpy"}

kernel = njit(**OPTIONS)
inlined = njit(**OPTIONS, forceinline=True)  # by LLVM: Numba's own `inline="always"` takes twice as long to compile


class Unit(NamedTuple):
    """A function to compile, and the symbol by which others call it."""

    symbol: str
    function: Callable[..., Any]
    signature: Any


UNITS: list[Unit] = []  # callees before callers


def unit(function: Callable[..., Any]) -> Any:
    """Declare a function as a unit, with the types of its annotations: Numba's, or a record for the address of one.

    The function's name becomes an intrinsic, through which other kernels call it.
    """
    annotations = get_annotations(function, eval_str=True)
    result = annotations.pop("return")
    signature = result(*map(_argument_type, annotations.values()))
    symbol = f"knock_{function.__name__}"
    UNITS.append(Unit(symbol, function, signature))
    return _caller(symbol, signature)


def _argument_type(annotation: Any) -> Any:
    is_record = isinstance(annotation, type) and issubclass(annotation, Record)
    return RecordPointer(annotation) if is_record else annotation


def _caller(symbol: str, signature: Any) -> Any:
    """Return an intrinsic that calls a unit by Numba's own calling convention, `int status(result *, error **, ...)`.

    A wrapper in between would cost more than a small matrix product. The status is always 0: kernels do not raise.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = context.get_value_type(signature.return_type)
        error = ir.IntType(8).as_pointer()
        function_type = ir.FunctionType(
            ir.IntType(32), [result.as_pointer(), error.as_pointer(), *(argument.type for argument in arguments)]
        )
        function = builder.module.globals.get(symbol) or ir.Function(builder.module, function_type, symbol)
        with builder.goto_entry_block():
            places = [builder.alloca(result), builder.alloca(error)]
        builder.call(function, [*places, *arguments])
        return builder.load(places[0]) if signature.return_type != void else context.get_dummy_value()

    def call(_context: Any, *_arguments: Any) -> Any:
        return signature, codegen

    # Numba reads the number of arguments from the signature.
    names = ["_context", *(f"argument{i}" for i in range(len(signature.args)))]
    call.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in names])  # type: ignore[attr-defined]
    return intrinsic(call)
