"""Pass NumPy arrays and records to kernels that are called by a test."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from knock_kernels.lang.layout import Record
from knock_kernels.lang.records import RecordPointer


@intrinsic
def address(_context: Any, array: Any) -> Any:
    """Return the pointer to the first element of a contiguous array."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), codegen


def record_at(kind: type[Record]) -> Any:
    """Return the function that turns an address into a pointer to a record of a kind."""

    @intrinsic
    def at(_context: Any, number: Any) -> Any:
        """Return the pointer to the record at an address."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return RecordPointer(kind)(types.int64), codegen

    return at
