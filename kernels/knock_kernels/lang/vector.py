"""Vectors: the type `Vec` and its primitives, with the names and meaning of NumPy's.

    for i in range(0, n, WIDTH):
        store(maximum(load(x + i) * scale, 0), out + i)

Operators work element by element, each as a single IEEE operation: nothing is contracted or reordered, so the results
have the same bits on every CPU. A number beside a vector is spread over it. A vector has WIDTH elements unless it is
made by the primitives of another width, `primitives(width)`; LLVM splits it into registers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from knock_kernels.lang.cpu import BYTE_PRODUCTS, PAIR_PRODUCTS, QUAD_SUMS
from knock_kernels.lang.layout import WIDTH

_I32 = ir.IntType(32)


class VecType(types.Type):
    """A vector of `width` numbers or booleans."""

    def __init__(self, dtype: Any, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Vec({dtype}, {width})")

    def of(self, dtype: Any) -> VecType:
        """Return the type of a vector of the same width and another dtype."""
        return VecType(dtype, self.width)

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return isinstance(self.dtype, types.Float)


@register_model(VecType)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), fe_type.width))


if TYPE_CHECKING:
    Vec = Any
else:
    Vec = VecType  # as an annotation

# ---- Operators


def _operator(function: Callable[..., Any], emit: Callable[..., Any], result: Any = None) -> None:
    """Define an operator on two vectors of one type, or on a vector and a number.

    Args:
        function: of the module `operator`.
        emit: the instruction: emit(builder, is_float, a, b).
        result: dtype of the result if it is not that of the operands.
    """

    @infer_global(function)
    class _Typed(AbstractTemplate):
        def generic(self, args: Any, _keywords: Any) -> Any:
            """Type the operator."""
            a, b = args
            vec = a if isinstance(a, VecType) else b
            if not isinstance(vec, VecType):
                return None
            a, b = (each if each == vec else vec.dtype if isinstance(each, types.Number) else None for each in args)
            if a is None or b is None:
                return None
            return signature(vec if result is None else vec.of(result), a, b)

    def codegen(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        vec = sig.args[0] if isinstance(sig.args[0], VecType) else sig.args[1]
        kind = context.get_value_type(vec)
        a, b = (each if each.type == kind else _spread(builder, each, kind) for each in arguments)
        return emit(builder, vec.is_float, a, b)

    for kinds in ((VecType, VecType), (VecType, types.Number), (types.Number, VecType)):
        lower_builtin(function, *kinds)(codegen)


def _spread(builder: Any, number: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _arithmetic(name: str) -> Callable[..., Any]:
    return lambda builder, is_float, a, b: getattr(builder, f"f{name}" if is_float else name)(a, b)


def _bitwise(name: str) -> Callable[..., Any]:
    return lambda builder, _, a, b: getattr(builder, name)(a, b)


def _comparison(symbol: str) -> Callable[..., Any]:
    # False if an operand is NaN, except for !=, as in NumPy
    def emit(builder: Any, is_float: bool, a: Any, b: Any) -> Any:
        if not is_float:
            return builder.icmp_signed(symbol, a, b)
        return (builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered)(symbol, a, b)

    return emit


for _functions, _emit in (
    ((operator.add, operator.iadd), _arithmetic("add")),
    ((operator.sub, operator.isub), _arithmetic("sub")),
    ((operator.mul, operator.imul), _arithmetic("mul")),
    ((operator.truediv, operator.itruediv), _bitwise("fdiv")),
    ((operator.and_, operator.iand), _bitwise("and_")),
    ((operator.or_, operator.ior), _bitwise("or_")),
    ((operator.xor, operator.ixor), _bitwise("xor")),
    ((operator.lshift, operator.ilshift), _bitwise("shl")),
    ((operator.rshift, operator.irshift), _bitwise("ashr")),
):
    for _function in _functions:
        _operator(_function, _emit)
for _function, _name in (
    (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "=="),
    (operator.ne, "!="),
):  # fmt: skip
    _operator(_function, _comparison(_name), types.boolean)


@infer_global(operator.neg)
@infer_global(operator.invert)
class _Unary(AbstractTemplate):
    def generic(self, args: Any, _keywords: Any) -> Any:
        """Type `-x` and `~x`."""
        return signature(args[0], args[0]) if isinstance(args[0], VecType) else None


@lower_builtin(operator.neg, VecType)
def _negative(_context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    return builder.fneg(arguments[0]) if sig.args[0].is_float else builder.neg(arguments[0])


@lower_builtin(operator.invert, VecType)
def _inverted(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
    return builder.not_(arguments[0])


# ---- Functions of vectors


@intrinsic
def store(_context: Any, vector: Any, pointer: Any) -> Any:
    """Store a vector at an address, aligned to its elements."""

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value, place = arguments
        size = context.get_abi_sizeof(context.get_value_type(vector.dtype))
        builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=size)
        return context.get_dummy_value()

    return types.void(vector, pointer), codegen


@intrinsic
def fma(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c with one rounding."""
    vec = c if isinstance(c, VecType) else b
    sig = vec(*(each if isinstance(each, VecType) else vec.dtype for each in (a, b, c)))

    def codegen(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        kind = context.get_value_type(sig.return_type)
        operands = [each if each.type == kind else _spread(builder, each, kind) for each in arguments]
        return _call(builder, "fma", kind, operands)

    return sig, codegen


@intrinsic
def where(_context: Any, mask: Any, a: Any, b: Any) -> Any:
    """Return a where the mask is true, and b elsewhere. One of them may be a number."""
    vec = a if isinstance(a, VecType) else b
    sig = vec(mask, *(each if isinstance(each, VecType) else vec.dtype for each in (a, b)))

    def codegen(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        kind = context.get_value_type(sig.return_type)
        chosen, *operands = arguments
        return builder.select(
            chosen, *(each if each.type == kind else _spread(builder, each, kind) for each in operands)
        )

    return sig, codegen


def _extreme(name: str, symbol: str) -> Any:
    """Return the intrinsic of an element-wise extreme: a if it compares so with b, else b. NaN in a gives b."""

    def typed(_context: Any, a: Any, b: Any) -> Any:
        vec = a if isinstance(a, VecType) else b
        sig = vec(*(each if isinstance(each, VecType) else vec.dtype for each in (a, b)))

        def codegen(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            kind = context.get_value_type(sig.return_type)
            a, b = (each if each.type == kind else _spread(builder, each, kind) for each in arguments)
            return builder.select(_comparison(symbol)(builder, sig.return_type.is_float, a, b), a, b)

        return sig, codegen

    typed.__name__ = name
    return intrinsic(typed)


maximum = _extreme("maximum", ">")
minimum = _extreme("minimum", "<")


def _function_of_floats(name: str) -> Any:
    """Return the intrinsic of a function of vectors and numbers that LLVM computes as one IEEE operation."""

    def typed(_context: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            return _call(builder, name, context.get_value_type(sig.return_type), arguments)

        return x(x), codegen

    typed.__name__ = name
    return intrinsic(typed)


sqrt = _function_of_floats("sqrt")
absolute = _function_of_floats("fabs")


def _call(builder: Any, name: str, kind: Any, operands: Any) -> Any:
    # llvmlite's declare_intrinsic rejects vector types, so the name is spelt out.
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    suffix = "f32" if element == ir.FloatType() else "f64"
    symbol = f"llvm.{name}.v{kind.count}{suffix}" if isinstance(kind, ir.VectorType) else f"llvm.{name}.{suffix}"
    function_type = ir.FunctionType(kind, [kind] * len(operands))
    function = builder.module.globals.get(symbol) or ir.Function(builder.module, function_type, symbol)
    return builder.call(function, operands)


def _conversion(name: str, results: dict[Any, tuple[Any, str]]) -> Any:
    """Return the intrinsic that converts the elements of a vector, or a number.

    Args:
        name: of the intrinsic.
        results: the resulting dtype, and the instruction, for each dtype of the operand.
    """

    def typed(_context: Any, x: Any) -> Any:
        given = x.dtype if isinstance(x, VecType) else x
        if given not in results:
            return None
        dtype, instruction = results[given]

        def codegen(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(arguments[0], context.get_value_type(sig.return_type))

        return (x.of(dtype) if isinstance(x, VecType) else dtype)(x), codegen

    typed.__name__ = name
    return intrinsic(typed)


_i16, _i32, _i64, _f32, _f64 = types.int16, types.int32, types.int64, types.float32, types.float64
to_f32 = _conversion("to_f32", {_i32: (_f32, "sitofp"), _f64: (_f32, "fptrunc")})
to_f64 = _conversion("to_f64", {_f32: (_f64, "fpext"), _i32: (_f64, "sitofp"), _i64: (_f64, "sitofp")})
to_i32 = _conversion("to_i32", {_f32: (_i32, "fptosi"), _i16: (_i32, "sext"), types.boolean: (_i32, "zext")})
to_i16 = _conversion("to_i16", {_i32: (_i16, "trunc")})
to_i8 = _conversion("to_i8", {_i32: (types.int8, "trunc")})
to_bits = _conversion("to_bits", {_f32: (_i32, "bitcast"), _f64: (_i64, "bitcast")})
from_bits = _conversion("from_bits", {_i32: (_f32, "bitcast"), _i64: (_f64, "bitcast")})


def _reduction(name: str, emit: Callable[..., Any]) -> Any:
    """Return the intrinsic that combines the elements of a vector by halves: i with i + width / 2, and so on."""

    def typed(_context: Any, x: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            vector, width = arguments[0], x.width
            while width > 1:
                width //= 2
                numbers = ir.VectorType(_I32, width)
                low, high = (
                    builder.shuffle_vector(vector, vector, ir.Constant(numbers, list(range(start, start + width))))
                    for start in (0, width)
                )
                vector = emit(builder, x.is_float, low, high)
            return builder.extract_element(vector, ir.Constant(_I32, 0))

        return x.dtype(x), codegen

    typed.__name__ = name
    return intrinsic(typed)


def _larger(builder: Any, is_float: bool, a: Any, b: Any) -> Any:
    return builder.select(_comparison(">")(builder, is_float, a, b), a, b)


def _smaller(builder: Any, is_float: bool, a: Any, b: Any) -> Any:
    return builder.select(_comparison("<")(builder, is_float, a, b), a, b)


sum_of = _reduction("sum_of", _arithmetic("add"))
max_of = _reduction("max_of", _larger)
min_of = _reduction("min_of", _smaller)


@intrinsic
def any_of(_context: Any, mask: Any) -> Any:
    """Return whether any element is true."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(mask.width))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), codegen


@intrinsic
def count_of(_context: Any, mask: Any) -> Any:
    """Return the number of true elements."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(mask.width))
        return builder.zext(builder.ctpop(bits), ir.IntType(64))

    return types.int64(mask), codegen


# ---- Sums of products of small integers


@intrinsic
def dot_pairs(_context: Any, total: Any, a: Any, b: Any) -> Any:
    """Return total + a0 * b0 + a1 * b1, where each int32 element of a and b holds two int16 numbers."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total, a, b = arguments
        return builder.add(total, multiply_pairs(builder, a, b))

    return total(total, a, b), codegen


def multiply_pairs(builder: Any, a: Any, b: Any) -> Any:
    """Return a0 * b0 + a1 * b1 for the int16 halves of int32 elements."""
    count = a.type.count
    if count in PAIR_PRODUCTS:
        halves = ir.VectorType(ir.IntType(16), 2 * count)
        return _native(builder, PAIR_PRODUCTS[count], a.type, [builder.bitcast(each, halves) for each in (a, b)])
    if PAIR_PRODUCTS and count > max(PAIR_PRODUCTS):
        return _in_halves(builder, multiply_pairs, a, b)
    half = ir.Constant(a.type, [16] * count)
    lows = [builder.ashr(builder.shl(each, half), half) for each in (a, b)]
    highs = [builder.ashr(each, half) for each in (a, b)]
    return builder.add(builder.mul(*lows), builder.mul(*highs))


@intrinsic
def dot_quads(_context: Any, total: Any, a: Any, b: Any) -> Any:
    """Return total + a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3, where each int32 element of a and b holds four bytes.

    Those of a are unsigned. Those of b are signed, from -64 to 64: sums of two products then fit in 16 bits, in which
    some CPUs compute them.
    """

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return add_quads(builder, *arguments)

    return total(total, a, b), codegen


def add_quads(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """Return total + a0 * b0 + ... + a3 * b3 for the bytes of int32 elements, as in `dot_quads`."""
    count = a.type.count
    if count in QUAD_SUMS:
        return _native(builder, QUAD_SUMS[count], a.type, [total, a, b])
    if count in BYTE_PRODUCTS:
        numbers, pairs = (ir.VectorType(ir.IntType(bits), 32 // bits * count) for bits in (8, 16))
        products = [builder.bitcast(each, numbers) for each in (a, b)]
        sums = builder.bitcast(_native(builder, BYTE_PRODUCTS[count], pairs, products), a.type)
        return builder.add(total, multiply_pairs(builder, sums, ir.Constant(a.type, [0x10001] * count)))
    if BYTE_PRODUCTS and count > max(BYTE_PRODUCTS):
        return _in_halves(builder, add_quads, total, a, b)
    for shift in (24, 16, 8, 0):
        up, down = (ir.Constant(a.type, [bits] * count) for bits in (shift, 24))
        unsigned, signed = (
            extend(builder.shl(each, up), down) for extend, each in ((builder.lshr, a), (builder.ashr, b))
        )
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


def _native(builder: Any, name: str, result: Any, operands: list[Any]) -> Any:
    """Call an LLVM intrinsic of this CPU."""
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
    return builder.call(function, operands)


def _in_halves(builder: Any, emit: Callable[..., Any], *vectors: Any) -> Any:
    """Apply a function of vectors to their lower and upper halves."""
    count = vectors[0].type.count
    low, high = (
        emit(builder, *(_part(builder, each, start, count // 2) for each in vectors)) for start in (0, count // 2)
    )
    return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(_I32, count), list(range(count))))


def _part(builder: Any, vector: Any, start: int, width: int) -> Any:
    numbers = ir.VectorType(_I32, width)
    return builder.shuffle_vector(vector, vector, ir.Constant(numbers, list(range(start, start + width))))


# ---- Primitives that make vectors, for one width


class Primitives(NamedTuple):
    """The primitives that make vectors of one width.

    Attributes:
        load: load a vector from an address, aligned to its elements.
        splat: spread a number over a vector.
        indices: the int32 numbers 0, 1, ..., width - 1.
    """

    load: Any
    splat: Any
    indices: Any


def primitives(width: int) -> Primitives:
    """Return the primitives that make vectors of a width."""

    @intrinsic
    def load(_context: Any, pointer: Any) -> Any:
        """Return the vector at an address, aligned to its elements."""
        vec = VecType(pointer.dtype, width)

        def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            place = builder.bitcast(arguments[0], context.get_value_type(vec).as_pointer())
            return builder.load(place, align=context.get_abi_sizeof(context.get_value_type(pointer.dtype)))

        return vec(pointer), codegen

    @intrinsic
    def splat(_context: Any, number: Any) -> Any:
        """Return a vector with a number in every element."""
        vec = VecType(number, width)

        def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return _spread(builder, arguments[0], context.get_value_type(vec))

        return vec(number), codegen

    @intrinsic
    def indices(_context: Any) -> Any:
        """Return the numbers 0, 1, ..., width - 1."""
        vec = VecType(types.int32, width)

        def codegen(context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
            return ir.Constant(context.get_value_type(vec), list(range(width)))

        return vec(), codegen

    return Primitives(load, splat, indices)


load, splat, indices = primitives(WIDTH)
