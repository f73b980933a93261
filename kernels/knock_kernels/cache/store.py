"""The compiled entry points, loaded by llvmlite from where they are kept, and the layout of what they work on."""

from __future__ import annotations

import ctypes
import os
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm

from knock_kernels.cache.folder import Refused, reason, user_folder, writable
from knock_kernels.cache.objects import find
from knock_kernels.cache.once import once
from knock_kernels.lang.cpu import WIDTH, target_machine
from knock_kernels.lang.layout import (
    PANEL,
    ROWS,
    SPAN,
    At,
    Control,
    Lane,
    Plan,
    Row,
    Shared,
    Stat,
    make_plan,
)
from knock_kernels.lang.object_code import ObjectCode

__all__ = [
    "PANEL", "ROWS", "SPAN", "WIDTH", "At", "Control", "Lane", "NotCompiled", "Plan", "Refused", "Row",
    "Shared", "Stat", "entry_points", "kept", "make_plan", "reason", "user_folder", "writable",
]  # fmt: skip

_ENTRY_POINTS = ("decode", "read", "run", "score", "tabulate")


class NotCompiled(LookupError):
    """There is no object for these kernels on this machine yet."""


@once
def entry_points() -> SimpleNamespace:
    """The compiled functions by name. They take numbers, and arrays as addresses, and let other threads run.

    Raises:
        NotCompiled: if there are none for this machine yet.
    """
    return named(loaded())


def named(engine: Any) -> SimpleNamespace:
    """An engine's entry points by name."""
    return SimpleNamespace(**{name: function(engine, name) for name in _ENTRY_POINTS})


def kept() -> Path | None:
    """The file of this machine's object, if there is one."""
    found = find()
    return None if found is None else found.path


@once
def loaded() -> Any:
    """This machine's object, as an engine that knows the addresses of its functions.

    Raises:
        NotCompiled: if there is none yet.
    """
    found = find()
    if found is None:
        raise NotCompiled("the kernels have not been compiled for this machine")
    return load(found.content)


def load(content: ObjectCode) -> Any:
    """An engine with the functions of an object."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    for symbol in content.calls:
        if llvm.address_of_symbol(symbol) is None:  # once there is an engine, the process's own functions are known
            llvm.add_symbol(symbol, ctypes.cast(_aborting(symbol), ctypes.c_void_p).value)
    engine.add_object_file(llvm.ObjectFileRef.from_data(content.code))
    engine.finalize_object()
    return engine


def function(engine: Any, name: str) -> Any:
    """A unit of an engine, to be called from Python with whole numbers. It keeps the engine, which owns its code."""
    pointer = ctypes.CFUNCTYPE(ctypes.c_int32)(engine.get_function_address(f"knock_{name}"))
    return partial(_call, engine, pointer)


def _call(_owner: Any, pointer: Any, *arguments: int) -> int:
    # As Numba's functions call each other: `int status(result *, error **, ...)`. Kernels do not raise.
    result, error = ctypes.c_int64(), ctypes.c_void_p()
    pointer(ctypes.byref(result), ctypes.byref(error), *map(ctypes.c_int64, arguments))
    return result.value


@cache  # which keeps it alive
def _aborting(symbol: str) -> Any:
    """A function to stand in for one that this process does not have."""

    def abort() -> None:
        os.write(2, f"knock: compiled code called {symbol}, which this process does not have\n".encode())
        os.abort()

    return ctypes.CFUNCTYPE(None)(abort)
