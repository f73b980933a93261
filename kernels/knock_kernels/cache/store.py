"""The compiled entry points, loaded from the cache by llvmlite, and the memory layout that they work on."""

from __future__ import annotations

import ctypes
import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from knock_kernels.cache.entry_points import Decoder, EntryPoints
from knock_kernels.cache.folder import RefusedError, is_requested, reason, user_folder, writable
from knock_kernels.cache.objects import find
from knock_kernels.cache.once import once
from knock_kernels.lang.cpu import target_machine
from knock_kernels.lang.layout import (
    PANEL,
    ROWS,
    SPAN,
    WIDTH,
    ZERO_BYTE,
    Block,
    Controls,
    Job,
    Lane,
    Linear,
    Model,
    RecordArray,
    Row,
    State,
    Stats,
    Wide,
    padded,
)
from knock_kernels.lang.memory import address, aligned, allocate, point
from knock_kernels.lang.object_code import ObjectCode

__all__ = [
    "PANEL",
    "ROWS",
    "SPAN",
    "WIDTH",
    "ZERO_BYTE",
    "Block",
    "Controls",
    "Decoder",
    "EntryPoints",
    "Job",
    "Lane",
    "Linear",
    "Model",
    "NotCompiledError",
    "RecordArray",
    "RefusedError",
    "Row",
    "State",
    "Stats",
    "Wide",
    "address",
    "aligned",
    "allocate",
    "entry_points",
    "kept",
    "padded",
    "point",
    "reason",
    "user_folder",
    "writable",
]


class NotCompiledError(LookupError):
    """The kernels have not been compiled for this machine."""


@once
def entry_points() -> EntryPoints:
    """Return the compiled functions of this machine.

    Raises:
        NotCompiledError: if there are none yet.
    """
    return EntryPoints(loaded())


def kept() -> Path | None:
    """Return the file of this machine's object, or None if there is none; in KNOCK_CACHE_DIR alone if that is set."""
    found = find(fallback=not is_requested())
    return None if found is None else found.path


@once
def loaded() -> Any:
    """Return an engine with this machine's object.

    Raises:
        NotCompiledError: if the kernels have not been compiled for this machine.
    """
    found = find()
    if found is None:
        raise NotCompiledError("the kernels have not been compiled for this machine")
    return load(found.content)


def load(content: ObjectCode) -> Any:
    """Return an engine that resolves the addresses of an object's functions."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    for symbol in content.calls:
        if llvm.address_of_symbol(symbol) is None:  # an engine exists, so the process's own symbols are known
            llvm.add_symbol(symbol, ctypes.cast(_aborting(symbol), ctypes.c_void_p).value)
    engine.add_object_file(llvm.ObjectFileRef.from_data(content.code))
    engine.finalize_object()
    return engine


def function(engine: Any, name: str) -> Any:
    """Return a unit of an engine as a Python function of integers. It keeps the engine, which owns the code, alive."""
    pointer = ctypes.CFUNCTYPE(ctypes.c_int32)(engine.get_function_address(f"knock_{name}"))
    return partial(_call, engine, pointer)


def _call(_owner: Any, pointer: Any, *arguments: int) -> int:
    # Numba's calling convention: `int status(result *, error **, ...)`. The status is 0: kernels do not raise.
    result, error = ctypes.c_int64(), ctypes.c_void_p()
    pointer(ctypes.byref(result), ctypes.byref(error), *map(ctypes.c_int64, arguments))
    return result.value


@cache  # keeps the function alive
def _aborting(symbol: str) -> Any:
    """Return a function that aborts, in place of one that is missing from this process."""

    def abort() -> None:
        os.write(2, f"knock: compiled code called {symbol}, which is missing from this process\n".encode())
        os.abort()

    return ctypes.CFUNCTYPE(None)(abort)
