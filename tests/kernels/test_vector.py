"""Each primitive of the vector language against NumPy, for vectors of 16, 8 and 4 elements."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from knock_kernels.lang import vector
from knock_kernels.lang.vector import store
from tests.kernels.pointers import address

WIDTHS = [16, 8, 4]
F32 = np.array([0, -0.0, 1, -1, 1.5, np.nan, np.inf, -np.inf, 3e38, 1e-45, -7.25, 2**24 + 2, 0.1, -0.1, 5, 1e-30])
OTHER = np.array([1, 0, 3, -1, np.nan, 2, np.inf, 1, 3e38, 1e-45, 0.5, 1, 0.1, 0.2, -5, 1e30])
I32 = np.array([0, 1, -1, 2**31 - 1, -(2**31), 7, -7, 123456789, 1 << 30, -8, 31, 5, 6, 1000, -1000, 2])
OTHER_I32 = np.array([1, 1, 5, 1, -1, 3, 3, 9, 4, 2, 1, 0, 6, 12, 7, 2])


def numbers(dtype: type, width: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = (I32, OTHER_I32) if dtype == np.int32 else (F32, OTHER)
    return pairs[0][:width].astype(dtype), pairs[1][:width].astype(dtype)


def apply(width: int, function: Any, *arrays: np.ndarray, result: type) -> np.ndarray:
    """Apply a function of vectors to arrays of one vector each."""
    load = vector.primitives(width).load
    out = np.zeros(width, result)
    if len(arrays) == 1:

        @njit(error_model="numpy")
        def run(x: Any, out: Any) -> None:
            store(function(load(address(x))), address(out))

    else:

        @njit(error_model="numpy")
        def run(x: Any, y: Any, out: Any) -> None:
            store(function(load(address(x)), load(address(y))), address(out))

    run(*arrays, out)
    return out


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare bits, except that one NaN is as good as another."""
    nan = np.isnan(expected) if expected.dtype.kind == "f" else np.zeros(len(expected), bool)
    assert found.dtype == expected.dtype
    assert np.array_equal(found[~nan].view(np.uint8), expected[~nan].view(np.uint8))
    assert np.isnan(found[nan]).all()


ARITHMETIC = [operator.add, operator.sub, operator.mul]
BITWISE = [operator.and_, operator.or_, operator.xor]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(each.__name__, np.float32) for each in [*ARITHMETIC, operator.truediv]]
    + [(each.__name__, np.float64) for each in [*ARITHMETIC, operator.truediv]]
    + [(each.__name__, np.int32) for each in [*ARITHMETIC, *BITWISE]],
)
def test_arithmetic(name: str, dtype: type, width: int) -> None:
    function: Callable[..., Any] = getattr(operator, name)
    x, y = numbers(dtype, width)
    with np.errstate(all="ignore"):
        expected = function(x, y)
    assert_same_bits(apply(width, function, x, y, result=dtype), expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["lshift", "rshift"])
def test_shifts(name: str, width: int) -> None:
    function: Callable[..., Any] = getattr(operator, name)
    x, _ = numbers(np.int32, width)
    by = np.arange(width, dtype=np.int32)
    assert_same_bits(apply(width, function, x, by, result=np.int32), function(x, by))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float64])
@pytest.mark.parametrize("name", [each.__name__ for each in COMPARISONS])
def test_comparisons_and_where(name: str, dtype: type, width: int) -> None:
    function: Callable[..., Any] = getattr(operator, name)
    where = vector.where
    x, y = numbers(dtype, width)
    found = apply(width, njit(lambda a, b: where(function(a, b), a, b)), x, y, result=dtype)
    assert_same_bits(found, np.where(function(x, y), x, y))


@pytest.mark.parametrize("width", WIDTHS)
def test_masks(width: int) -> None:
    where, splat = vector.where, vector.primitives(width).splat
    x, y = numbers(np.float32, width)
    function = njit(lambda a, b: where(((a > 0) & ~(b > 0)) | ((a < 0) ^ (b < 0)), splat(np.float32(1)), 0))
    expected = ((x > 0) & ~(y > 0)) | ((x < 0) ^ (y < 0))
    assert_same_bits(apply(width, function, x, y, result=np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_are_spread(width: int) -> None:
    x, _ = numbers(np.float32, width)
    with np.errstate(all="ignore"):
        expected = (2 - x) * np.float32(0.1) / 3
    assert_same_bits(apply(width, njit(lambda a: (2 - a) * 0.1 / 3), x, result=np.float32), expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_in_place_operators(width: int) -> None:
    @njit
    def function(a: Any, b: Any) -> Any:
        a += b
        a -= 2
        a *= b
        a /= 3
        return a

    x, y = numbers(np.float32, width)
    with np.errstate(all="ignore"):
        expected = (x + y - np.float32(2)) * y / np.float32(3)
    assert_same_bits(apply(width, function, x, y, result=np.float32), expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_multiply_and_add_are_not_contracted_but_fma_is(width: int) -> None:
    fma = vector.fma
    x = np.linspace(1, 2, width).astype(np.float32)
    y = np.linspace(2, 3, width).astype(np.float32) + np.float32(1e-6)
    wide = x.astype(np.float64) * y.astype(np.float64)
    rounded, exact = x * y - np.float32(3), (wide - 3).astype(np.float32)
    assert not np.array_equal(rounded, exact)
    assert_same_bits(apply(width, njit(lambda a, b: a * b - 3), x, y, result=np.float32), rounded)
    assert_same_bits(apply(width, njit(lambda a, b: fma(a, b, -3)), x, y, result=np.float32), exact)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "symbol"), [("maximum", ">"), ("minimum", "<")])
def test_extremes(name: str, symbol: str, width: int) -> None:
    function = getattr(vector, name)
    x, y = numbers(np.float32, width)
    comparison = {">": operator.gt, "<": operator.lt}[symbol](x, y)
    assert_same_bits(apply(width, function, x, y, result=np.float32), np.where(comparison, x, y))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "expected"), [("sqrt", np.sqrt), ("absolute", np.abs), ("negative", np.negative)])
def test_functions(name: str, expected: Callable[..., Any], dtype: type, width: int) -> None:
    function = operator.neg if name == "negative" else getattr(vector, name)
    x, _ = numbers(dtype, width)
    with np.errstate(all="ignore"):
        assert_same_bits(apply(width, function, x, result=dtype), expected(x))


@pytest.mark.parametrize("width", WIDTHS)
def test_conversions(width: int) -> None:
    to_f32, to_f64, to_i32, to_i16, to_i8, to_bits, from_bits = (
        getattr(vector, name) for name in ("to_f32", "to_f64", "to_i32", "to_i16", "to_i8", "to_bits", "from_bits")
    )
    whole, _ = numbers(np.int32, width)
    x = np.linspace(-9, 9, width).astype(np.float32)
    hard, _ = numbers(np.float32, width)
    wide = np.linspace(0.1, 3, width)
    for function, given, expected in (
        (to_f32, whole, whole.astype(np.float32)),
        (to_f64, whole, whole.astype(np.float64)),
        (to_f64, hard, hard.astype(np.float64)),
        (to_f32, wide, wide.astype(np.float32)),
        (to_i32, x, x.astype(np.int32)),  # both towards zero
        (njit(lambda a: to_i32(a > 0)), x, (x > 0).astype(np.int32)),
        (njit(lambda a: to_i32(to_i16(a))), whole, whole.astype(np.int16).astype(np.int32)),
        (to_i8, whole, whole.astype(np.int8)),
        (to_bits, x, x.view(np.int32)),
        (to_bits, wide, wide.view(np.int64)),
        (from_bits, wide.view(np.int64), wide),
        (from_bits, x.view(np.int32), x),
    ):
        assert_same_bits(apply(width, function, given, result=expected.dtype.type), expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reductions(dtype: type, width: int) -> None:
    load = vector.primitives(width).load
    sum_of, max_of, min_of, any_of, count_of = (
        getattr(vector, name) for name in ("sum_of", "max_of", "min_of", "any_of", "count_of")
    )

    @njit
    def run(x: Any) -> Any:
        v = load(address(x))
        return sum_of(v), max_of(v), min_of(v), any_of(v > 2), any_of(v > 1e9), count_of(v > 0)

    x = np.random.default_rng(width).standard_normal(width).astype(dtype) * np.array(
        10.0 ** np.arange(width) % 7, dtype
    )
    x[0] = 3
    halves = x
    while len(halves) > 1:  # the order of the additions is part of the definition
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert run(x) == (halves[0], x.max(), x.min(), True, False, np.count_nonzero(x > 0))


@pytest.mark.parametrize("width", WIDTHS)
def test_sums_of_pairs_of_products(width: int) -> None:
    """Of the int16 halves of words, up to the largest: nothing saturates."""
    load, splat, _ = vector.primitives(width)
    dot_pairs = vector.dot_pairs

    @njit
    def run(a: Any, b: Any, out: Any) -> None:
        store(dot_pairs(splat(np.int32(7)), load(address(a)), load(address(b))), address(out))

    rng, out = np.random.default_rng(width), np.zeros(width, np.int32)
    a, b = rng.integers(-32767, 32768, (2, 2 * width), np.int16)
    a[:2], b[:2] = 32767, 32767
    run(a.view(np.int32), b.view(np.int32), out)
    products = a.astype(np.int64) * b
    assert np.array_equal(out, products[::2] + products[1::2] + 7)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("without", [(), ("QUAD_SUMS",), ("QUAD_SUMS", "BYTE_PRODUCTS")])
def test_sums_of_quads_of_products(monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...], width: int) -> None:
    """Of the bytes of words, up to the largest: nothing saturates, with this CPU's instructions and without them."""
    for instructions in without:
        monkeypatch.setattr(vector, instructions, {})
    load, splat, _ = vector.primitives(width)
    dot_quads = vector.dot_quads

    @njit
    def run(a: Any, b: Any, out: Any) -> None:
        store(dot_quads(splat(np.int32(7)), load(address(a)), load(address(b))), address(out))

    rng, out = np.random.default_rng(width), np.zeros(width, np.int32)
    a, b = rng.integers(0, 256, 4 * width, np.uint8), rng.integers(-64, 65, 4 * width, np.int8)
    a[:8], b[:4], b[4:8] = 255, 64, -64
    run(a.view(np.int32), b.view(np.int32), out)
    assert np.array_equal(out, (a.astype(np.int64) * b).reshape(-1, 4).sum(1) + 7)


@pytest.mark.parametrize("width", WIDTHS)
def test_making_vectors(width: int) -> None:
    load, splat, indices = vector.primitives(width)

    @njit
    def run(x: Any, out: Any, numbers: Any) -> None:
        store(load(address(x) + 1), address(out))  # of any alignment
        store(splat(np.float32(2.5)), address(out) + width)
        store(indices(), address(numbers))

    x, out, numbers = np.arange(width + 1, dtype=np.float32), np.zeros(2 * width, np.float32), np.zeros(width, np.int32)
    run(x, out, numbers)
    assert np.array_equal(out, [*x[1:], *[2.5] * width])
    assert np.array_equal(numbers, np.arange(width))
