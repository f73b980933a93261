"""Memory for the arrays that records point to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from knock_kernels.lang.layout import Record, RecordArray

ALIGNMENT = 64  # bytes, a cache line
_MARGIN = ALIGNMENT  # bytes behind the last array, since kernels read whole vectors


def aligned(size: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return zeros, [size], at an address that is a multiple of the alignment, with a margin behind them."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(size * itemsize + ALIGNMENT + _MARGIN, np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size * itemsize].view(dtype)


def allocate(kind: type[Record], record: RecordArray, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return zeros for fields of a record, in one block of memory, and write their addresses into the record.

    The arrays keep the memory alive; the record does not.

    Args:
        kind: the kind of the record.
        record: one record, [1].
        shapes: shape of the array of each field.
    """
    sizes = {}
    for name, shape in shapes.items():
        dtype = kind.fields[name].target
        nbytes = int(np.prod(shape)) * dtype.itemsize
        sizes[name] = (dtype, -(-nbytes // ALIGNMENT) * ALIGNMENT, shape)
    memory = aligned(sum(nbytes for _, nbytes, _ in sizes.values()), np.uint8)
    arrays, start = {}, 0
    for name, (dtype, nbytes, shape) in sizes.items():
        count = int(np.prod(shape))
        arrays[name] = memory[start : start + count * dtype.itemsize].view(dtype).reshape(shape)
        record[name] = address(memory) + start
        start += nbytes
    return arrays


def point(kind: type[Record], record: RecordArray, **arrays: npt.NDArray[Any] | None) -> None:
    """Write the addresses of arrays into fields of a record; None is the address of nothing.

    Whoever calls this keeps the arrays alive.

    Args:
        kind: the kind of the record.
        record: one record, [1].
        arrays: the array of each field.

    Raises:
        TypeError: if an array has another dtype than its field.
        ValueError: if an array is not contiguous.
    """
    for name, array in arrays.items():
        dtype = kind.fields[name].target
        if array is None:
            record[name] = 0
            continue
        if array.dtype != dtype:
            raise TypeError(f"{name} must be {dtype}, got {array.dtype}")
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} must be contiguous")
        record[name] = address(array)


def address(array: npt.NDArray[Any]) -> int:
    """Return the address of an array's first element."""
    number: int = array.__array_interface__["data"][0]  # unlike `ctypes`, this makes no garbage
    return number
