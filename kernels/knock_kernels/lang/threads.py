"""What threads that run kernels share: numbers that each takes the next of, and a flag that stops them all."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def take_next(_context: Any, counter: Any) -> Any:
    """The number at an address, which is one more for whoever comes next."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", arguments[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen


@intrinsic
def look(_context: Any, number: Any) -> Any:
    """The number at an address, as another thread may just have written it."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(arguments[0], "monotonic", 8)

    return types.int64(number), codegen
