"""Tiles of matrix products, written in LLVM IR.

A matrix product is cut into tiles of R rows by v registers, whose R * v accumulators stay in registers while k runs
innermost. By default, every output element is one chain of fused multiply-adds over k = 0, 1, ..., K-1, in that order.
The order does not depend on the tile, so a row's result is bitwise the same alone and in a batch.

Tiles are generated, not written with `vector.py`, because their number of accumulators follows the registers of the
CPU: code for each size, from a tile of one register to one that fills the register file, would be the same loop many
times over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from knock_kernels.lang.cpu import REGISTER
from knock_kernels.lang.layout import WIDTH
from knock_kernels.lang.units import f32p, i32p
from knock_kernels.lang.vector import add_quads, multiply_pairs

# Width in vectors of a tile of each height, the fastest by `python -m bench.tiles`: enough chains to hide the latency
# of a multiply-add, and few enough for the 32 registers of AVX-512 and NEON or the 16 of AVX2.
TILE_REGISTERS = {8: 3, 4: 6, 2: 6, 1: 12} if REGISTER != 8 else {8: 1, 4: 2, 2: 4, 1: 12}

# Columns of a tile of WIDTH rows that lie side by side: a divisor of WIDTH, for as many accumulators as above.
WIDE_COLUMNS = {16: 16, 8: 4, 4: 4}[REGISTER]

_f32 = ir.FloatType()
_i32 = ir.IntType(32)
_i64 = ir.IntType(64)
_floats = ir.VectorType(_f32, REGISTER)
_words = ir.VectorType(_i32, REGISTER)


def make_linear(rows: int, largest: int, chains: int = 1) -> Any:
    """Return an intrinsic that computes out[r, :] = init[r, :] + x[r, :] @ w for `rows` rows of float32 numbers.

    Args:
        rows: rows of a tile.
        largest: maximum width of a tile, in registers.
        chains: partial sums of an output, strided over k and added pairwise at the end. A narrow product has few
            outputs, and with a single chain each it would be bound by the latency of a multiply-add.
    """

    @intrinsic
    def linear_rows(
        _context: Any, x: Any, ldx: Any, w: Any, ldw: Any, init: Any, ldinit: Any, out: Any, ldout: Any, K: Any,
        registers: Any,
    ) -> Any:  # fmt: skip
        n = types.intp

        def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            x, ldx, w, ldw, init, ldinit, out, ldout, K, registers = arguments
            fma = _declare(builder.module, f"llvm.fma.v{REGISTER}f32", ir.FunctionType(_floats, [_floats] * 3))

            def tile(count: int, column: Any) -> None:
                sums = [
                    _load(builder, _place(builder, init, ldinit, r, column, v), _floats)
                    for r, v in _outputs(rows, count)
                ]
                sums = _sums(
                    builder, rows, count, x, ldx, builder.gep(w, [column]), ldw, K, chains, sums, _floats,
                    lambda a, b, total: builder.call(fma, [a, b, total]),
                )  # fmt: skip
                for (r, v), total in zip(_outputs(rows, count), sums, strict=True):
                    _store(builder, total, _place(builder, out, ldout, r, column, v))

            _each_tile(builder, largest, registers, tile)
            return _context.get_dummy_value()

        return signature(types.void, f32p, n, f32p, n, f32p, n, f32p, n, n, n), codegen

    return linear_rows


class CodeProducts(NamedTuple):
    """Products of codes that share int32 words.

    Attributes:
        add: emits the sum of a total and the products of the codes in two words: add(builder, total, a, b).
        is_corrected: whether sums start from a correction of each column, rather than from 0.
    """

    add: Callable[..., Any]
    is_corrected: bool


PAIRS = CodeProducts(lambda builder, total, a, b: builder.add(total, multiply_pairs(builder, a, b)), False)
QUADS = CodeProducts(add_quads, True)


def make_code_linear(rows: int, largest: int, products: CodeProducts) -> Any:
    """Return an intrinsic that computes out[r, :] = init[r, :] + float32(correction + x[r, :] @ w) * factor * scale[r].

    x and w are words of codes, and their products are added as integers.

    Args:
        rows: rows of a tile.
        largest: maximum width of a tile, in registers.
        products: of two words.
    """

    @intrinsic
    def linear_rows(
        _context: Any, x: Any, ldx: Any, w: Any, ldw: Any, correction: Any, factor: Any, scale: Any, init: Any,
        ldinit: Any, out: Any, ldout: Any, K: Any, registers: Any,
    ) -> Any:  # fmt: skip
        n = types.intp

        def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            x, ldx, w, ldw, correction, factor, scale, init, ldinit, out, ldout, K, registers = arguments
            zero = ir.Constant(_i64, 0)

            def tile(count: int, column: Any) -> None:
                def of_columns(values: Any, kind: Any) -> list[Any]:
                    return [_load(builder, _place(builder, values, zero, 0, column, v), kind) for v in range(count)]

                starts = [ir.Constant(_words, [0] * REGISTER)] * count
                if products.is_corrected:
                    starts = of_columns(correction, _words)
                sums = _sums(
                    builder, rows, count, x, ldx, builder.gep(w, [column]), ldw, K, 1, starts * rows, _words,
                    lambda a, b, total: products.add(builder, total, a, b),
                )  # fmt: skip
                factors = of_columns(factor, _floats)
                scales = [
                    _broadcast(builder, builder.load(builder.gep(scale, [ir.Constant(_i64, r)])), _floats)
                    for r in range(rows)
                ]
                for (r, v), total in zip(_outputs(rows, count), sums, strict=True):
                    product = builder.fmul(builder.sitofp(total, _floats), factors[v])
                    start = _load(builder, _place(builder, init, ldinit, r, column, v), _floats)
                    result = builder.fadd(start, builder.fmul(product, scales[r]))
                    _store(builder, result, _place(builder, out, ldout, r, column, v))

            _each_tile(builder, largest, registers, tile)
            return _context.get_dummy_value()

        return signature(types.void, i32p, n, i32p, n, i32p, f32p, f32p, f32p, n, f32p, n, n, n), codegen

    return linear_rows


def make_wide_linear(products: CodeProducts, *, is_added: bool, columns: int = WIDE_COLUMNS) -> Any:
    """Return an intrinsic that computes out[n, :] = init + float32(correction[n] + w[:, n] @ x) * factor[n] * scale.

    x are words of codes of WIDTH rows side by side, [K, WIDTH]. A tile has several columns n of weights.

    Args:
        products: of two words.
        is_added: whether the outputs are added to `out`; otherwise they start from the bias of their column.
        columns: of the tile.
    """

    @intrinsic
    def wide_linear_tile(
        _context: Any, x: Any, w: Any, ldw: Any, correction: Any, factor: Any, scale: Any, bias: Any, out: Any, K: Any
    ) -> Any:
        n = types.intp

        def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            x, w, ldw, correction, factor, scale, bias, out, K = arguments
            count, zero, one, width = WIDTH // REGISTER, *(ir.Constant(_i64, size) for size in (0, 1, WIDTH))

            def of_column(numbers: Any, column: int, kind: Any) -> Any:
                return _broadcast(builder, builder.load(builder.gep(numbers, [ir.Constant(_i64, column)])), kind)

            starts = [ir.Constant(_words, [0] * REGISTER)] * (columns * count)
            if products.is_corrected:
                starts = [of_column(correction, column, _words) for column, _ in _outputs(columns, count)]
            sums = _sums(
                builder, columns, count, w, one, x, width, K, 1, starts, _words,
                lambda weights, codes, total: products.add(builder, total, codes, weights), k_step=ldw,
            )  # fmt: skip
            scales = [_load(builder, _place(builder, scale, zero, 0, zero, v), _floats) for v in range(count)]
            for (column, v), total in zip(_outputs(columns, count), sums, strict=True):
                place = _place(builder, out, width, column, zero, v)
                start = _load(builder, place, _floats) if is_added else of_column(bias, column, _floats)
                product = builder.fmul(builder.sitofp(total, _floats), of_column(factor, column, _floats))
                _store(builder, builder.fadd(start, builder.fmul(product, scales[v])), place)
            return _context.get_dummy_value()

        return signature(types.void, i32p, i32p, n, i32p, f32p, f32p, f32p, f32p, n), codegen

    return wide_linear_tile


def _outputs(rows: int, count: int) -> list[tuple[int, int]]:
    """Return the row and register of each accumulator of a tile."""
    return [(r, v) for r in range(rows) for v in range(count)]


def _each_tile(builder: Any, largest: int, registers: Any, tile: Callable[[int, Any], None]) -> None:
    """Emit a loop over whole tiles of the largest width, and a narrower tile for the rest.

    Args:
        builder: where to emit.
        largest: width of a whole tile, in registers.
        registers: width of all columns, in registers.
        tile: emits a tile: tile(width, first column).
    """
    before = builder.block
    head, body, rest, done = (builder.append_basic_block(name) for name in ("columns", "whole_tile", "rest", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    first = builder.phi(_i64)
    first.add_incoming(ir.Constant(_i64, 0), before)
    left = builder.sub(registers, first)
    column = builder.mul(first, ir.Constant(_i64, REGISTER))
    builder.cbranch(builder.icmp_signed(">=", left, ir.Constant(_i64, largest)), body, rest)
    builder.position_at_end(body)
    tile(largest, column)
    first.add_incoming(builder.add(first, ir.Constant(_i64, largest)), builder.block)
    builder.branch(head)
    builder.position_at_end(rest)
    cases = [(count, builder.append_basic_block(f"rest{count}")) for count in range(1, largest)]
    switch = builder.switch(left, done)
    for count, block in cases:
        switch.add_case(ir.Constant(_i64, count), block)
        builder.position_at_end(block)
        tile(count, column)
        builder.branch(done)
    builder.position_at_end(done)


def _sums(
    builder: Any, rows: int, registers: int, x: Any, ldx: Any, w: Any, ldw: Any, K: Any, chains: int, start: list[Any],
    kind: Any, multiply_add: Callable[[Any, Any, Any], Any], k_step: Any = None,
) -> list[Any]:  # fmt: skip
    """Emit the sums of one tile, with `rows` by `registers` accumulators for each chain and k innermost.

    Args:
        builder: where to emit.
        rows: rows of the tile.
        registers: width of the tile.
        x: [rows, K].
        ldx: elements from a row to the next.
        w: [K, registers].
        ldw: elements from a row to the next.
        K: number of terms.
        chains: as in `make_linear`.
        start: what the accumulators start from.
        kind: type of a register of w.
        multiply_add: emits total + a * b: multiply_add(a, b, total).
        k_step: elements of x from a k to the next; by default they are adjacent.
    """

    def step(k: Any, sums: list[Any]) -> list[Any]:
        row_of_w = builder.gep(w, [builder.mul(k, ldw)])
        ws = [_load(builder, builder.gep(row_of_w, [ir.Constant(_i64, v * REGISTER)]), kind) for v in range(registers)]
        added = []
        for r in range(rows):
            column = k if k_step is None else builder.mul(k, k_step)
            index = builder.add(builder.mul(ldx, ir.Constant(_i64, r)), column)
            spread = _broadcast(builder, builder.load(builder.gep(x, [index])), kind)
            added += [multiply_add(spread, ws[v], sums[r * registers + v]) for v in range(registers)]
        return added

    def sum_over(first: Any, end: Any, stride: int, sums: list[Any]) -> list[Any]:
        """Emit a loop over k from `first` in whole strides up to `end`; return the final k and the sums."""
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("k", "k_body", "k_done"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_i64)
        k.add_incoming(first, before)
        carried = [builder.phi(kind) for _ in sums]
        following = builder.add(k, ir.Constant(_i64, stride))
        builder.cbranch(builder.icmp_signed("<=", following, end), body, after)
        builder.position_at_end(body)
        size, added = rows * registers, []
        for chain in range(stride):
            added += step(builder.add(k, ir.Constant(_i64, chain)), carried[chain * size : (chain + 1) * size])
        k.add_incoming(following, builder.block)
        for phi, at_start, at_end in zip(carried, sums, added, strict=True):
            phi.add_incoming(at_start, before)
            phi.add_incoming(at_end, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return [k, *carried]

    sums, k = start, ir.Constant(_i64, 0)
    if chains > 1:
        zero = ir.Constant(kind, [0.0] * REGISTER)
        k, *parts = sum_over(k, K, chains, sums + [zero] * (len(sums) * (chains - 1)))
        while len(parts) > len(sums):
            half = len(parts) // 2
            parts = [builder.fadd(a, b) for a, b in zip(parts[:half], parts[half:], strict=True)]
        sums = parts
    _, *sums = sum_over(k, K, 1, sums)
    return sums


def _place(builder: Any, base: Any, ld: Any, row: int, column: Any, register: int) -> Any:
    """Return the address of a register of a row."""
    offset = builder.add(builder.mul(ld, ir.Constant(_i64, row)), ir.Constant(_i64, register * REGISTER))
    return builder.gep(base, [builder.add(column, offset)])


def _broadcast(builder: Any, scalar: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(_i32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_words, [0] * REGISTER))


def _load(builder: Any, place: Any, kind: Any) -> Any:
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=4)


def _store(builder: Any, value: Any, place: Any) -> None:
    builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=4)


def _declare(module: Any, name: str, function_type: Any) -> Any:
    # llvmlite's declare_intrinsic rejects vector types, so the name is spelt out.
    return module.globals.get(name) or ir.Function(module, function_type, name)
