"""Atomic operations for state that threads share: a counter and a stop flag."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def take_next(_context: Any, counter: Any) -> Any:
    """Return the number at an address and increment it atomically."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", arguments[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen


@intrinsic
def look(_context: Any, number: Any) -> Any:
    """Return the number at an address, which another thread may write at any time."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(arguments[0], "monotonic", 8)

    return types.int64(number), codegen
