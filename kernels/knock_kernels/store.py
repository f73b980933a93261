"""The compiled entry points, and the layout of what they work on: all that the engine sees of this package."""

from __future__ import annotations

import ctypes
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm

from knock_kernels.cpu import WIDTH, target_machine
from knock_kernels.layout import PANEL, ROWS, SPAN, At, Control, Lane, Plan, Stat, make_plan

__all__ = [
    "PANEL", "ROWS", "SPAN", "WIDTH", "At", "Control", "Lane", "Plan", "Stat", "entry_points", "make_plan",
]  # fmt: skip

_ENTRY_POINTS = ("decode", "read", "score", "tabulate")


@cache
def entry_points() -> SimpleNamespace:
    """The compiled functions by name. They take numbers, and arrays as addresses, and let other threads run."""
    return SimpleNamespace(**{name: function(loaded(), name) for name in _ENTRY_POINTS})


@cache
def loaded() -> Any:
    """The kernels, made by Numba in this process, as an engine that knows their addresses."""
    from knock_kernels import build, decode, jit  # noqa: F401  the second brings the third all its units

    return load(build.compile_units(jit.UNITS))


def load(object_code: bytes) -> Any:
    """An engine with the functions of an object file."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
    engine.finalize_object()
    return engine


def function(engine: Any, name: str) -> Any:
    """A unit of an engine, to be called from Python with whole numbers."""
    pointer = ctypes.CFUNCTYPE(ctypes.c_int32)(engine.get_function_address(f"knock_{name}"))
    return partial(_call, pointer)


def _call(pointer: Any, *arguments: int) -> int:
    # As Numba's functions call each other: `int status(result *, error **, ...)`. Kernels do not raise.
    result, error = ctypes.c_int64(), ctypes.c_void_p()
    pointer(ctypes.byref(result), ctypes.byref(error), *map(ctypes.c_int64, arguments))
    return result.value
