"""How kernels are compiled.

A *unit* is compiled once, to a function that others call by its symbol, as a linker would have it. Everything else is
compiled into each unit that uses it, and optimised there.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, NamedTuple

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

f32p = types.CPointer(types.float32)
f64p = types.CPointer(types.float64)
i32p = types.CPointer(types.int32)
i64p = types.CPointer(types.int64)
i64 = types.int64
f64 = types.float64
void = types.void

# Division as IEEE 754 has it: an error path for a zero divisor would keep loops from becoming vector code.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}

kernel = njit(**OPTIONS)
inlined = njit(**OPTIONS, inline="always")

# Sums may be split over the lanes of a vector: the split depends on a kernel's own sizes, never on the batch. Nothing
# that relies on the order of two additions, such as exp's rounding, may be in such a kernel.
reducing_kernel = njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


class Unit(NamedTuple):
    """A function to compile, and the symbol others know it by."""

    symbol: str
    function: Callable[..., Any]
    signature: Any


UNITS: list[Unit] = []  # callees before callers


def unit(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a unit; what takes its name calls the compiled one from other kernels."""

    def declare(function: Callable[..., Any]) -> Any:
        symbol = f"knock_{function.__name__}"
        UNITS.append(Unit(symbol, function, signature))
        return _caller(symbol, signature)

    return declare


def _caller(symbol: str, signature: Any) -> Any:
    """An intrinsic that calls a unit as Numba's own functions call each other.

    That is `int status(result *, error **, ...)`, with no wrapper in between, which would cost more than a small
    matrix product. The status is always 0: kernels do not raise.
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

    # From which Numba takes the number of arguments.
    names = ["_context", *(f"argument{i}" for i in range(len(signature.args)))]
    call.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in names])  # type: ignore[attr-defined]
    return intrinsic(call)
