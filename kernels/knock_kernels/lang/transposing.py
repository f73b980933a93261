"""Transpose a square of WIDTH by WIDTH numbers, in LLVM IR."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from knock_kernels.lang.cpu import REGISTER
from knock_kernels.lang.layout import WIDTH
from knock_kernels.lang.units import f32p, i64p

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLOATS = ir.VectorType(ir.FloatType(), REGISTER)
_INDICES = ir.VectorType(_I32, REGISTER)
# Elements of two registers, taken in turn: a0, b0, a1, b1, ...
_IN_TURN = [i // 2 + REGISTER * (i % 2) for i in range(2 * REGISTER)]


@intrinsic
def transpose(_context: Any, source: Any, offsets: Any, out: Any, ldout: Any) -> Any:
    """Compute out[c, r] = source[offsets[r] + c]: WIDTH rows of WIDTH numbers -> [WIDTH, ldout]."""

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        source, offsets, out, ldout = arguments
        starts = [builder.load(builder.gep(offsets, [ir.Constant(_I64, r)])) for r in range(WIDTH)]
        for column in range(0, WIDTH, REGISTER):
            for first in range(0, WIDTH, REGISTER):
                places = [
                    builder.gep(source, [builder.add(start, ir.Constant(_I64, column))])
                    for start in starts[first : first + REGISTER]
                ]
                rows = [builder.load(builder.bitcast(place, _FLOATS.as_pointer()), align=4) for place in places]
                for c, row in enumerate(_transposed(builder, rows)):
                    place = builder.add(builder.mul(ldout, ir.Constant(_I64, column + c)), ir.Constant(_I64, first))
                    builder.store(row, builder.bitcast(builder.gep(out, [place]), _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature(types.void, f32p, i64p, f32p, types.intp), codegen


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the transpose of a square of registers: each round takes the elements of rows i and i + n / 2 in turn."""
    half, count = REGISTER // 2, REGISTER
    while count > 1:
        rows = [
            builder.shuffle_vector(rows[i], rows[i + half], ir.Constant(_INDICES, part))
            for i in range(half)
            for part in (_IN_TURN[:REGISTER], _IN_TURN[REGISTER:])
        ]
        count //= 2
    return rows
