"""Measure tiles of matrix products of every size, to check the choice of `TILE_REGISTERS` in `lang/tiles.py`.

    python -m bench.tiles
    KNOCK_CPU_FEATURES=avx512* python -m bench.tiles

Each tile computes the fused projection of the example shape, [rows, 64] by [64, 384], with its weights in panels. The
table has the billions of multiply-adds a second of the fastest of many runs, all tiles in turns. An asterisk marks the
tiles in use.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.extras import needed

with needed(__name__):
    from bench.compiled import Compiled
    from bench.turns import seconds
    from knock.engine.backends import compile_now
    from knock_kernels.cache.store import PANEL, aligned
    from knock_kernels.lang.cpu import REGISTER
    from knock_kernels.lang.tiles import TILE_REGISTERS, make_code_linear, make_linear
    from knock_kernels.lang.units import f32p, i32p, i64, unit, void

K, N = 64, 384
WIDTHS = (1, 2, 3, 4, 6, 8, 12)  # registers
MOST = 32 if REGISTER == 16 else 16  # accumulators: as many as there are registers, which leaves none for operands
PACKED = {"float32": 1, "int16": 2}  # numbers in a word of 32 bits
TIMES, RUNS = 10, 300

Shape = tuple[str, int, int]  # precision, rows, registers
Integers = npt.NDArray[np.int64]


def shapes() -> Iterator[Shape]:
    """The tiles that are measured."""
    for precision in PACKED:
        for rows in TILE_REGISTERS:
            yield from ((precision, rows, width) for width in WIDTHS if rows * width <= MOST)


def _declare(precision: str, rows: int, width: int) -> None:
    """Declare the unit that repeats the product in one tile's size."""
    if precision == "float32":
        multiply = make_linear(rows, width)

        def tile(x: f32p, w: f32p, factor: f32p, scale: f32p, zero: f32p, out: f32p, K: i64, times: i64) -> void:
            for _ in range(times):
                for start in range(0, N, PANEL):
                    panel = min(PANEL, N - start)
                    multiply(x, K, w + start * K, panel, zero, 0, out + start, N, K, panel // REGISTER)
    else:
        multiply_codes = make_code_linear(rows, width)

        def tile(x: i32p, w: i32p, factor: f32p, scale: f32p, zero: f32p, out: f32p, K: i64, times: i64) -> void:
            for _ in range(times):
                for start in range(0, N, PANEL):
                    panel = min(PANEL, N - start)
                    multiply_codes(x, K, w + start * K, panel, factor + start, scale, zero, 0, out + start, N, K,
                                   panel // REGISTER)  # fmt: skip

    tile.__name__ = _name(precision, rows, width)
    unit(tile)


def _name(precision: str, rows: int, width: int) -> str:
    return f"tile_{rows}x{width}_{precision}"


for _shape in shapes():
    _declare(*_shape)


def product(
    shape: Shape, x: np.ndarray[Any, Any], w: np.ndarray[Any, Any], times: int
) -> tuple[Any, Callable[[], None]]:
    """Return an output, [rows, N], and a function that computes x @ w there, in tiles of one size.

    Args:
        shape: of the tile.
        x: [rows, K], small integers.
        w: [K, N], small integers.
        times: how many times to compute the product.
    """
    precision, rows, _ = shape
    number = np.float32 if precision == "float32" else np.int16
    packed = PACKED[precision]
    codes = w.astype(number).reshape(K // packed, packed, N)
    panels = [codes[:, :, start : start + PANEL].transpose(0, 2, 1).ravel() for start in range(0, N, PANEL)]
    weights, inputs = aligned(K * N, number), aligned(rows * K, number)
    weights[:], inputs[:] = np.concatenate(panels), x.astype(number).ravel()
    factor, scale, out = aligned(N), aligned(rows), aligned(rows * N)
    factor[:] = scale[:] = 1
    call = Compiled(_name(*shape)).call("", inputs, weights, factor, scale, aligned(N), out, K // packed, times)
    return out.reshape(rows, N), call


def measure() -> dict[Shape, float]:
    """Return the multiply-adds a second of each tile."""
    rng = np.random.default_rng(0)
    w = rng.integers(-100, 100, (K, N))
    calls = {shape: product(shape, rng.integers(-100, 100, (shape[1], K)), w, TIMES)[1] for shape in shapes()}
    best: dict[Shape, float] = defaultdict(lambda: np.inf)
    for _ in range(RUNS):
        for shape, call in calls.items():
            best[shape] = min(best[shape], seconds(call))
    return {shape: shape[1] * K * N * TIMES / taken for shape, taken in best.items()}


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m bench.tiles", description=(__doc__ or "").split("\n")[0]).parse_args()
    compile_now()
    speeds = measure()
    print(f"registers of {REGISTER} numbers; billions of multiply-adds a second")
    print(f"{'':16}" + "".join(f"{f'x {width}':>9}" for width in WIDTHS))
    for precision in PACKED:
        for rows, used in TILE_REGISTERS.items():
            cells = [
                f"{speeds[precision, rows, width] / 1e9:.1f}{'*' if width == used else ' '}"
                if (precision, rows, width) in speeds
                else ""
                for width in WIDTHS
            ]
            print(f"{precision:8} {rows} row{'s' if rows > 1 else ' '} " + "".join(f"{cell:>9}" for cell in cells))


if __name__ == "__main__":
    main()
