"""Tiles of matrix products, written in LLVM IR.

A matrix product is cut into tiles of R rows by v registers, whose R * v accumulators stay in registers while k runs
innermost. By default, every output element is one chain of fused multiply-adds over k = 0, 1, ..., K-1, in that order.
The order does not depend on the tile, so a row's result is bitwise the same alone and in a batch.

Tiles are generated, not written with `vector.py`, because their number of accumulators follows the registers of the
CPU: code for each size, from a tile of one register to one that fills the register file, would be the same loop many
times over.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from knock_kernels.lang.cpu import REGISTER
from knock_kernels.lang.units import f32p

# Width in vectors of a tile of each height: enough chains to hide the latency of a multiply-add, and few enough for the
# 32 registers of AVX-512 and NEON or the 16 of AVX2.
TILE_REGISTERS = {8: 3, 4: 6, 2: 6, 1: 12} if REGISTER != 8 else {8: 1, 4: 3, 2: 6, 1: 12}

_f32 = ir.FloatType()
_i32 = ir.IntType(32)
_i64 = ir.IntType(64)
_vec = ir.VectorType(_f32, REGISTER)


def make_linear(rows: int, largest: int, chains: int = 1) -> Any:
    """Return an intrinsic that computes out[r, :] = init[r, :] + x[r, :] @ w for `rows` rows.

    Args:
        rows: rows of a tile.
        largest: maximum width of a tile, in vectors.
        chains: partial sums of an output, strided over k and added pairwise at the end. A narrow product has few
            outputs, and with a single chain each it would be bound by the latency of a multiply-add.
    """

    @intrinsic
    def linear_rows(
        _context: Any, x: Any, ldx: Any, w: Any, ldw: Any, init: Any, ldinit: Any, out: Any, ldout: Any, K: Any,
        vectors: Any,
    ) -> Any:  # fmt: skip
        n = types.intp

        def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            x, ldx, w, ldw, init, ldinit, out, ldout, K, vectors = arguments
            first = builder.block
            head = builder.append_basic_block("columns")
            body = builder.append_basic_block("whole_tile")
            rest = builder.append_basic_block("rest")
            done = builder.append_basic_block("done")
            builder.branch(head)
            builder.position_at_end(head)
            column = builder.phi(_i64)
            column.add_incoming(ir.Constant(_i64, 0), first)
            left = builder.sub(vectors, column)
            builder.cbranch(builder.icmp_signed(">=", left, ir.Constant(_i64, largest)), body, rest)

            def tile(count: int) -> None:
                start = builder.mul(column, ir.Constant(_i64, REGISTER))
                _tile(builder, rows, count, x, ldx, builder.gep(w, [start]), ldw, builder.gep(init, [start]), ldinit,
                      builder.gep(out, [start]), ldout, K, chains)  # fmt: skip

            builder.position_at_end(body)
            tile(largest)
            column.add_incoming(builder.add(column, ir.Constant(_i64, largest)), builder.block)
            builder.branch(head)
            builder.position_at_end(rest)
            cases = [(count, builder.append_basic_block(f"rest{count}")) for count in range(1, largest)]
            switch = builder.switch(left, done)
            for count, block in cases:
                switch.add_case(ir.Constant(_i64, count), block)
                builder.position_at_end(block)
                tile(count)
                builder.branch(done)
            builder.position_at_end(done)
            return _context.get_dummy_value()

        return signature(types.void, f32p, n, f32p, n, f32p, n, f32p, n, n, n), codegen

    return linear_rows


def _tile(
    builder: Any, rows: int, vectors: int, x: Any, ldx: Any, w: Any, ldw: Any, init: Any, ldinit: Any, out: Any,
    ldout: Any, K: Any, chains: int,
) -> None:  # fmt: skip
    """Emit one tile, with `rows` by `vectors` accumulators for each chain and k innermost."""
    fma = _declare(builder.module, f"llvm.fma.v{REGISTER}f32", ir.FunctionType(_vec, [_vec] * 3))

    def place(base: Any, ld: Any, row: int, vector: int) -> Any:
        index = builder.add(builder.mul(ld, ir.Constant(_i64, row)), ir.Constant(_i64, vector * REGISTER))
        return builder.gep(base, [index])

    def multiply_add(k: Any, sums: list[Any]) -> list[Any]:
        row_of_w = builder.gep(w, [builder.mul(k, ldw)])
        ws = [_load(builder, builder.gep(row_of_w, [ir.Constant(_i64, v * REGISTER)])) for v in range(vectors)]
        added = []
        for r in range(rows):
            index = builder.add(builder.mul(ldx, ir.Constant(_i64, r)), k)
            spread = _broadcast(builder, builder.load(builder.gep(x, [index])))
            added += [builder.call(fma, [spread, ws[v], sums[r * vectors + v]]) for v in range(vectors)]
        return added

    def sum_over(first: Any, end: Any, step: int, sums: list[Any]) -> list[Any]:
        """Emit a loop over k from `first` in whole steps of `step` up to `end`; return the final k and the sums."""
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("k", "k_body", "k_done"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_i64)
        k.add_incoming(first, before)
        carried = [builder.phi(_vec) for _ in sums]
        following = builder.add(k, ir.Constant(_i64, step))
        builder.cbranch(builder.icmp_signed("<=", following, end), body, after)
        builder.position_at_end(body)
        size, added = rows * vectors, []
        for chain in range(step):
            part = carried[chain * size : (chain + 1) * size]
            added += multiply_add(builder.add(k, ir.Constant(_i64, chain)), part)
        k.add_incoming(following, builder.block)
        for phi, start, end_ in zip(carried, sums, added, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(end_, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return [k, *carried]

    zero = ir.Constant(_vec, [0.0] * REGISTER)
    sums = [_load(builder, place(init, ldinit, r, v)) for r in range(rows) for v in range(vectors)]
    k: Any = ir.Constant(_i64, 0)
    if chains > 1:
        k, *parts = sum_over(k, K, chains, sums + [zero] * (len(sums) * (chains - 1)))
        while len(parts) > len(sums):
            half = len(parts) // 2
            parts = [builder.fadd(a, b) for a, b in zip(parts[:half], parts[half:], strict=True)]
        sums = parts
    _, *sums = sum_over(k, K, 1, sums)
    for r in range(rows):
        for v in range(vectors):
            place_of_sum = builder.bitcast(place(out, ldout, r, v), _vec.as_pointer())
            builder.store(sums[r * vectors + v], place_of_sum, align=4)


def _broadcast(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_vec, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(_i32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_i32, REGISTER), [0] * REGISTER))


def _load(builder: Any, place: Any) -> Any:
    return builder.load(builder.bitcast(place, _vec.as_pointer()), align=4)


def _declare(module: Any, name: str, function_type: Any) -> Any:
    # llvmlite's declare_intrinsic rejects vector types, so the name is spelt out.
    return module.globals.get(name) or ir.Function(module, function_type, name)
