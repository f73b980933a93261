"""How kernels are compiled.

A *unit* is compiled once, to a function that others call by its symbol, as a linker would have it. Everything else is
compiled into each unit that uses it, and optimised there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial
from inspect import Parameter, Signature
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic

f32p = types.CPointer(types.float32)
f64p = types.CPointer(types.float64)
i64p = types.CPointer(types.int64)
i64 = types.int64
f64 = types.float64
void = types.void

# Division as IEEE 754 has it: an error path for a zero divisor would keep loops from becoming vector code.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}

kernel = njit(**_OPTIONS)
inlined = njit(**_OPTIONS, inline="always")

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


@cache
def compiled(symbol: str) -> Any:
    """Compile a unit in this process, after those it calls; a function to be called from Python.

    It takes pointers as addresses, and lets other threads run.
    """
    _, function, signature = next(each for each in UNITS if each.symbol == symbol)
    compilation: Any = cfunc(signature, **_OPTIONS)(function)
    # Beside the function there is a wrapper for C, which is not used.
    address = compilation._library.get_pointer_to_function(compilation.native_name.removeprefix("cfunc."))
    llvm.add_symbol(symbol, address)
    _KEPT.append(compilation)
    return partial(_call, _prototype(signature)(address), _C_TYPES[signature.return_type])


def link() -> dict[str, Any]:
    """Every unit that has been imported, compiled, by the name of its function."""
    return {function.__name__: compiled(symbol) for symbol, function, _ in UNITS}


_KEPT: list[Any] = []  # what owns the code
_C_TYPES = {void: ctypes.c_void_p, i64: ctypes.c_int64, f64: ctypes.c_double}


def _prototype(signature: Any) -> Any:
    numbers = [_C_TYPES.get(each, ctypes.c_void_p) for each in signature.args]
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *numbers)


def _call(function: Any, result_type: Any, *arguments: Any) -> Any:
    result, error = result_type(), ctypes.c_void_p()
    function(ctypes.addressof(result), ctypes.addressof(error), *arguments)
    return result.value
