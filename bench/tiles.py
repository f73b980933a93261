"""Measure tiles of matrix products of every size, to check the choice of `TILE_REGISTERS` in `lang/tiles.py`.

    python -m bench.tiles
    KNOCK_CPU_FEATURES=avx512* python -m bench.tiles

Each tile computes the fused projection of the example shape, [rows, 64] by [64, 384], with its weights in panels. The
table has the billions of multiply-adds a second of the fastest of many runs, all tiles in turns. An asterisk marks the
tiles in use. Tiles of codes of 16 rows that lie side by side have columns of weights for width.
"""

from __future__ import annotations

import argparse
import itertools
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
    from knock_kernels.lang.layout import WIDTH
    from knock_kernels.lang.records import words
    from knock_kernels.lang.tiles import (
        PAIRS,
        QUADS,
        TILE_REGISTERS,
        WIDE_COLUMNS,
        make_code_linear,
        make_linear,
        make_wide_linear,
    )  # fmt: skip
    from knock_kernels.lang.units import f32p, i32p, i64, unit, void

K, N = 64, 384
WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24)  # registers, or columns of a tile of rows side by side
MOST = 32 if REGISTER == 16 else 16  # accumulators: as many as there are registers, which leaves none for operands
PRODUCTS = {"int16": PAIRS, "int8": QUADS}
PACKED = {"float32": 1, "int16": 2, "int8": 4}  # numbers in a word of 32 bits
USED = {**TILE_REGISTERS, WIDTH: WIDE_COLUMNS}  # by rows of a tile
TIMES, RUNS = 10, 300

Shape = tuple[str, int, int]  # precision, rows, and registers or columns
Integers = npt.NDArray[np.int64]


def shapes() -> Iterator[Shape]:
    """The tiles that are measured: of rows one after the other, and of codes of WIDTH rows side by side."""
    for precision, rows in itertools.product(PACKED, USED):
        if rows < WIDTH:
            yield from ((precision, rows, width) for width in WIDTHS if width <= 12 and rows * width <= MOST)
        elif precision in PRODUCTS:
            fitting = (width for width in WIDTHS if N % width == 0 and width * WIDTH // REGISTER <= MOST)
            yield from ((precision, rows, width) for width in fitting if width > 1)


def _declare(precision: str, rows: int, width: int) -> None:
    """Declare the unit that repeats the product in one tile's size."""
    multiply: Any
    if precision == "float32":
        multiply = make_linear(rows, width)

        def tile(x: f32p, w: f32p, zeros: f32p, ones: f32p, out: f32p, K: i64, times: i64) -> void:
            for _ in range(times):
                for start in range(0, N, PANEL):
                    panel = min(PANEL, N - start)
                    multiply(x, K, w + start * K, panel, zeros, 0, out + start, N, K, panel // REGISTER)
    elif rows < WIDTH:
        multiply = make_code_linear(rows, width, PRODUCTS[precision])

        def tile(x: i32p, w: i32p, zeros: f32p, ones: f32p, out: f32p, K: i64, times: i64) -> void:
            for _ in range(times):
                for start in range(0, N, PANEL):
                    panel = min(PANEL, N - start)
                    multiply(x, K, w + start * K, panel, words(zeros), ones, ones, zeros, 0, out + start, N, K,
                             panel // REGISTER)  # fmt: skip
    else:
        multiply = make_wide_linear(PRODUCTS[precision], is_added=False, columns=width)

        def tile(x: i32p, w: i32p, zeros: f32p, ones: f32p, out: f32p, K: i64, times: i64) -> void:
            for _ in range(times):
                for column in range(0, N, width):
                    start = column // PANEL * PANEL
                    panel, place = min(PANEL, N - start), start * K + column - start
                    multiply(x, w + place, panel, words(zeros), ones, ones, zeros, out + column * WIDTH, K)

    tile.__name__ = _name(precision, rows, width)
    unit(tile)


def _name(precision: str, rows: int, width: int) -> str:
    return f"tile_{rows}x{width}_{precision}"


for _shape in shapes():
    _declare(*_shape)


def product(shape: Shape, x: Integers, w: Integers, times: int) -> tuple[Any, Callable[[], None]]:
    """Return an output, [rows, N], and a function that computes x @ w there, in tiles of one size.

    Args:
        shape: of the tile.
        x: [rows, K], of 0 to 127.
        w: [K, N], of -64 to 64.
        times: how many times to compute the product.
    """
    precision, rows, _ = shape
    packed, is_wide = PACKED[precision], rows == WIDTH
    words_of_K = K // packed
    inputs, weights = aligned(rows * K, precision), aligned(K * N, precision)
    in_words = x.reshape(rows, words_of_K, packed)
    inputs[:] = (in_words.transpose(1, 0, 2) if is_wide else in_words).ravel()
    columns = w.reshape(words_of_K, packed, N).transpose(0, 2, 1)
    weights[:] = np.concatenate([columns[:, start : start + PANEL].ravel() for start in range(0, N, PANEL)])
    zeros, ones, out = aligned(N), aligned(N), aligned(rows * N)
    ones[:] = 1
    call = Compiled(_name(*shape)).call("", inputs, weights, zeros, ones, out, words_of_K, times)
    return (out.reshape(N, rows).T if is_wide else out.reshape(rows, N)), call


def measure() -> dict[Shape, float]:
    """Return the multiply-adds a second of each tile."""
    rng = np.random.default_rng(0)
    w = rng.integers(-64, 65, (K, N))
    calls = {shape: product(shape, rng.integers(0, 128, (shape[1], K)), w, TIMES)[1] for shape in shapes()}
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
    print(f"{'':15}" + "".join(f"{f'x {width}':>9}" for width in WIDTHS))
    for precision, (rows, used) in itertools.product(PACKED, USED.items()):
        cells = []
        for width in WIDTHS:
            speed = speeds.get((precision, rows, width))
            cells.append("" if speed is None else f"{speed / 1e9:.1f}{'*' if width == used else ' '}")
        if any(cells):
            print(f"{precision:8} {rows:2} row{'s' if rows > 1 else ' '}" + "".join(f"{cell:>9}" for cell in cells))


if __name__ == "__main__":
    main()
