"""What a core can do at most: multiply-adds of each precision, and sums over memory.

None of this is the engine's code. The peak of float32 is that of OpenBLAS, in `bench.blas`; integers have no library of
that kind, and are multiplied here in registers, by the instructions that the CPU has for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.compiled import Compiled
from knock_kernels.cache.store import aligned
from knock_kernels.lang.cpu import REGISTER
from knock_kernels.lang.units import f32p, i32p, i64, inlined, unit, void
from knock_kernels.lang.vector import dot_pairs, dot_quads, primitives, store

# The sum of products of small integers in a word of 32 bits, and how many they are.
INTEGERS = {"int16": (dot_pairs, 2), "int8": (dot_quads, 4)}

_load = primitives(REGISTER).load
_CHAINS = 12  # independent accumulators: enough to hide the latency of an instruction, and few enough for 16 registers


def _make_peak(precision: str, dot: Any) -> None:
    """Declare the unit that repeats one instruction on accumulators that stay in registers.

    An accumulator is also an operand: otherwise the compiler would compute the products once, before the loop.
    """

    @inlined
    def four(sums: Any, w: Any) -> Any:
        a, b, c, d = sums
        return dot(a, a, w), dot(b, b, w), dot(c, c, w), dot(d, d, w)

    def peak(x: i32p, w: i32p, out: i32p, times: i64) -> void:
        first, second, third = _four(x), _four(x + 4 * REGISTER), _four(x + 8 * REGISTER)
        factor = _load(w)
        for _ in range(times):
            first, second, third = four(first, factor), four(second, factor), four(third, factor)
        _store_four(first, out)
        _store_four(second, out + 4 * REGISTER)
        _store_four(third, out + 8 * REGISTER)

    peak.__name__ = f"peak_{precision}"
    unit(peak)


@inlined
def _four(x: Any) -> Any:
    return _load(x), _load(x + REGISTER), _load(x + 2 * REGISTER), _load(x + 3 * REGISTER)


@inlined
def _store_four(sums: Any, out: Any) -> None:
    a, b, c, d = sums
    store(a, out)
    store(b, out + REGISTER)
    store(c, out + 2 * REGISTER)
    store(d, out + 3 * REGISTER)


@inlined
def _add_four(sums: Any, x: Any) -> Any:
    a, b, c, d = sums
    e, f, g, h = _four(x)
    return a + e, b + f, c + g, d + h


for _precision, (_dot, _) in INTEGERS.items():
    _make_peak(_precision, _dot)


@unit
def peak_sum(x: f32p, out: f32p, size: i64, times: i64) -> void:
    """Add up numbers in memory, which is limited by reading them: [size]."""
    first, second, third = _four(out), _four(out), _four(out)
    for _ in range(times):
        for i in range(0, size, _CHAINS * REGISTER):
            first = _add_four(first, x + i)
            second = _add_four(second, x + i + 4 * REGISTER)
            third = _add_four(third, x + i + 8 * REGISTER)
    _store_four(first, out)
    _store_four(second, out + 4 * REGISTER)
    _store_four(third, out + 8 * REGISTER)


UNITS = Compiled("peak_")


def multiply_adds(precision: str, times: int) -> tuple[int, Callable[[], None]]:
    """Return a number of multiply-adds of integers, and a function that does them."""
    x, w, out = (aligned(_CHAINS * REGISTER, np.int32) for _ in range(3))
    rng = np.random.default_rng(0)
    x[:] = rng.integers(-(2**31), 2**31, x.size)
    w.view(np.int8)[:] = rng.integers(-64, 65, 4 * w.size)  # the range of int8 weights
    count = _CHAINS * REGISTER * INTEGERS[precision][1] * times
    return count, UNITS.call(precision, x, w, out, times)


def reads(nbytes: int, times: int) -> tuple[int, Callable[[], None]]:
    """Return a number of bytes, about `nbytes * times`, and a function that reads as many from an array of `nbytes`."""
    step = _CHAINS * REGISTER
    size = max(1, round(nbytes / 4 / step)) * step
    x = aligned(size)
    x[:] = np.float32(1e-3)  # written, so that each page has memory of its own
    return 4 * size * times, UNITS.call("sum", x, aligned(step), size, times)
