"""Records and pointers in kernels: `lane.token`, `model.blocks[b]`, `x + r * C`.

A kernel names a record of `layout.py` as the type of an argument, and is given its address.
"""

from __future__ import annotations

import operator
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin, lower_getattr_generic, lower_setattr_generic
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import intrinsic, models, register_model

from knock_kernels.lang.layout import Field, Record

_I64 = ir.IntType(64)
_BYTE = ir.IntType(8)


class RecordPointer(types.Type):
    """The address of a record, or of the first of several."""

    def __init__(self, record: type[Record]) -> None:
        self.record = record
        super().__init__(name=f"{record.__name__}*")


@register_model(RecordPointer)
class _RecordPointerModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _BYTE.as_pointer())


def numba_type(field: Field) -> Any:
    """Return the type that a field has in a kernel."""
    if field.record is not None:
        return RecordPointer(field.record)
    number: Any = numba.from_dtype(field.target)
    return types.CPointer(number) if field.is_pointer else number


@infer_getattr
class _Fields(AttributeTemplate):
    key = RecordPointer

    def generic_resolve(self, pointer: Any, name: str) -> Any:  # type: ignore[override]  # a placeholder there
        """Return the type of a field, or None if there is none of that name."""
        field = pointer.record.fields.get(name)
        return None if field is None else numba_type(field)


def _place(context: Any, builder: Any, pointer: Any, address: Any, name: str) -> Any:
    """Return the address of a field."""
    offset = pointer.record.dtype.fields[name][1]
    kind = context.get_value_type(numba_type(pointer.record.fields[name]))
    return builder.bitcast(builder.gep(address, [ir.Constant(_I64, offset)]), kind.as_pointer())


@lower_getattr_generic(RecordPointer)
def _read(context: Any, builder: Any, pointer: Any, address: Any, name: str) -> Any:
    value = builder.load(_place(context, builder, pointer, address, name), align=8)
    if pointer.record.frozen:  # then a store to an array cannot change the field, and it is read once
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@lower_setattr_generic(RecordPointer)
def _write(context: Any, builder: Any, sig: Any, arguments: Any, name: str) -> None:
    pointer, kind = sig.args
    place = _place(context, builder, pointer, arguments[0], name)
    expected = numba_type(pointer.record.fields[name])
    builder.store(context.cast(builder, arguments[1], kind, expected), place, align=8)


@infer_global(operator.getitem)
class _RecordAt(AbstractTemplate):
    def generic(self, args: Any, _keywords: Any) -> Any:
        """Type `records[i]`."""
        pointer, index = args
        if isinstance(pointer, RecordPointer) and isinstance(index, types.Integer):
            return signature(pointer, pointer, types.intp)
        return None


@infer_global(operator.add)
class _Advanced(AbstractTemplate):
    def generic(self, args: Any, _keywords: Any) -> Any:
        """Type `pointer + i`."""
        pointer, count = args
        if isinstance(pointer, types.CPointer | RecordPointer) and isinstance(count, types.Integer):
            return signature(pointer, pointer, types.intp)
        return None


@lower_builtin(operator.add, types.CPointer, types.Integer)
def _add(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
    return builder.gep(arguments[0], [arguments[1]])


@lower_builtin(operator.getitem, RecordPointer, types.Integer)
@lower_builtin(operator.add, RecordPointer, types.Integer)
def _record(_context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    size = ir.Constant(_I64, sig.args[0].record.dtype.itemsize)
    return builder.gep(arguments[0], [builder.mul(arguments[1], size)])


@intrinsic
def exists(_context: Any, pointer: Any) -> Any:
    """Return whether a pointer is not the address of nothing."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = builder.ptrtoint(arguments[0], _I64)
        return builder.icmp_unsigned("!=", number, ir.Constant(_I64, 0))

    return types.boolean(pointer), codegen


@intrinsic
def address_of(_context: Any, pointer: Any) -> Any:
    """Return a pointer as a number, which an array of addresses can hold."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(arguments[0], _I64)

    return types.int64(pointer), codegen


@intrinsic
def floats_at(_context: Any, number: Any) -> Any:
    """Return the pointer to float32 numbers at an address."""
    kind = types.CPointer(types.float32)

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64), codegen


def _view(name: str, dtype: Any) -> Any:
    """Return the intrinsic that returns a pointer to numbers as a pointer to others."""
    kind = types.CPointer(dtype)

    def typed(_context: Any, pointer: Any) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(kind))

        return kind(pointer), codegen

    typed.__name__ = name
    return intrinsic(typed)


words = _view("words", types.int32)
shorts = _view("shorts", types.int16)


@intrinsic
def copy_record(_context: Any, source: Any, target: Any) -> Any:
    """Copy a record to another of its kind."""

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _put(builder, _words(builder, source.record, arguments[0]), arguments[1])
        return context.get_dummy_value()

    return (types.void(source, target), codegen) if source == target else None


@intrinsic
def swap_records(_context: Any, one: Any, other: Any) -> Any:
    """Exchange two records of a kind."""

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        first, second = (_words(builder, one.record, address) for address in arguments)
        _put(builder, first, arguments[1])
        _put(builder, second, arguments[0])
        return context.get_dummy_value()

    return (types.void(one, other), codegen) if one == other else None


def _words(builder: Any, record: type[Record], address: Any) -> Any:
    """Load a record as a vector of 64-bit words."""
    kind = ir.VectorType(_I64, record.dtype.itemsize // 8)
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=8)


def _put(builder: Any, words: Any, address: Any) -> None:
    builder.store(words, builder.bitcast(address, words.type.as_pointer()), align=8)
