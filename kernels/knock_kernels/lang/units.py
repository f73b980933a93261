"""Decorators that define how kernels are compiled.

A *unit* is compiled once, to a function that other units call by its symbol. Everything else is compiled into each unit
that uses it, and optimised there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature, get_annotations, signature
from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from knock_kernels.lang.layout import Record
from knock_kernels.lang.records import RecordPointer
from knock_kernels.lang.translating import translate

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


def _kernel(function: Callable[..., Any], *, is_inlined: bool) -> Any:
    """Return the intrinsic that calls a function, which is translated for each set of types that it is called with."""

    def typed(_context: Any, *arguments: Any) -> Any:
        translated = translate(function, arguments, is_inlined=is_inlined)

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            context.active_code_library.add_linking_library(translated.library)
            return context.call_internal(builder, translated.fndesc, signature, arguments)

        return translated.signature, codegen

    return _intrinsic(typed, function, signature(function).parameters)


def kernel(function: Callable[..., Any]) -> Any:
    """Declare a function that is compiled into each unit that uses it."""
    return _kernel(function, is_inlined=False)


def inlined(function: Callable[..., Any]) -> Any:
    """Declare a function that is compiled into each place that calls it."""
    return _kernel(function, is_inlined=True)


def _intrinsic(typed: Any, function: Callable[..., Any], names: Iterable[str]) -> Any:
    # Numba reads the number of arguments from the signature.
    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("_context", *names)]
    typed.__signature__ = Signature(parameters)
    typed.__name__, typed.__doc__ = function.__name__, function.__doc__
    return intrinsic(typed)


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
    sig = result(*map(_argument_type, annotations.values()))
    symbol = f"knock_{function.__name__}"
    UNITS.append(Unit(symbol, function, sig))
    return _caller(symbol, function, sig)


def _argument_type(annotation: Any) -> Any:
    is_record = isinstance(annotation, type) and issubclass(annotation, Record)
    return RecordPointer(annotation) if is_record else annotation


def _caller(symbol: str, function: Callable[..., Any], sig: Any) -> Any:
    """Return an intrinsic that calls a unit by Numba's own calling convention, `int status(result *, error **, ...)`.

    A wrapper in between would cost more than a small matrix product. The status is always 0: kernels do not raise.
    """

    def codegen(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        result = context.get_value_type(sig.return_type)
        error = ir.IntType(8).as_pointer()
        function_type = ir.FunctionType(
            ir.IntType(32), [result.as_pointer(), error.as_pointer(), *(argument.type for argument in arguments)]
        )
        function = builder.module.globals.get(symbol) or ir.Function(builder.module, function_type, symbol)
        with builder.goto_entry_block():
            places = [builder.alloca(result), builder.alloca(error)]
        builder.call(function, [*places, *arguments])
        return builder.load(places[0]) if sig.return_type != void else context.get_dummy_value()

    def typed(_context: Any, *_arguments: Any) -> Any:
        return sig, codegen

    return _intrinsic(typed, function, signature(function).parameters)
