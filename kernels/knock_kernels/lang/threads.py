"""Atomic operations for state that threads share: a counter, a stop flag, and flags of what has been computed."""

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


@intrinsic
def publish(_context: Any, flag: Any) -> Any:
    """Set a flag. Whatever this thread wrote before is seen by every thread that finds the flag set."""

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.store_atomic(ir.Constant(ir.IntType(16), 1), arguments[0], "release", 2)
        return context.get_dummy_value()

    return types.void(flag), codegen


@intrinsic
def is_published(_context: Any, flag: Any) -> Any:
    """Return whether another thread, or this one, has set a flag."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value = builder.load_atomic(arguments[0], "acquire", 2)
        return builder.icmp_unsigned("!=", value, ir.Constant(ir.IntType(16), 0))

    return types.boolean(flag), codegen
