"""Loops over kernels inside compiled code, since a call from Python takes longer than most kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from knock_kernels.cache import store
from knock_kernels.lang import codegen as build
from knock_kernels.lang import units as jit
from knock_kernels.lang.cpu import WIDTH
from knock_kernels.lang.layout import PANEL
from knock_kernels.lang.simd import TILE_VECTORS
from knock_kernels.lang.units import f32p, f64p, i32p, i64, i64p, unit, void
from knock_kernels.loops.forward import forward
from knock_kernels.ops.attention import attention
from knock_kernels.ops.linear import linear, tiles
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.norm import layer_norm
from knock_kernels.ops.rng import uniform
from knock_kernels.ops.sampler import sample

TILE_ROWS, TILE_COLUMNS = 8, TILE_VECTORS[8] * WIDTH
PANEL_COLUMNS = PANEL * WIDTH


@unit(void(f32p, f32p, f32p, i64, i64))
def loop_tile(x, w, out, K, times):
    """Repeat the largest tile on operands in the first-level cache, which is limited by multiply-adds."""
    for _ in range(times):
        tiles(x, K, w, TILE_COLUMNS, out, 0, out, 0, TILE_ROWS, K, TILE_COLUMNS // WIDTH)


@unit(void(f32p, f32p, f32p, i64, i64))
def loop_stream(x, w, out, K, times):
    """Multiply one row by a panel of weights [K, PANEL_COLUMNS], which is limited by reading them."""
    for _ in range(times):
        tiles(x, 0, w, PANEL_COLUMNS, out, 0, out, 0, 1, K, PANEL)


@unit(void(f32p, f32p, f32p, i64, i64, i64, i64))
def loop_linear(x, w, out, rows, K, vectors, times):
    """Repeat `knock_kernels.ops.linear`."""
    for _ in range(times):
        linear(x, K, w, out, 0, out, vectors * WIDTH, rows, K, vectors, 0, vectors)


@unit(void(f32p, f32p, i64, i64))
def loop_layer_norm(x, out, C, times):
    """Repeat `knock_kernels.ops.norm`."""
    for _ in range(times):
        layer_norm(x, out, C)


@unit(void(f32p, f32p, f32p, f32p, i64, i64, i64))
def loop_mlp(n, w, hidden, x, rows, C, times):
    """Repeat `knock_kernels.ops.mlp` with F = C, a multiple of the vector width."""
    for _ in range(times):
        mlp(n, w, hidden, w, hidden, x, rows, C, C, C, C)


@unit(void(f32p, f32p, i64, i64, f32p, f32p, f32p, i64p, i64))
def loop_attention(projected, ring, position, rows, zeros, scratch, x, plan, times):
    """Repeat `knock_kernels.ops.attention`."""
    for _ in range(times):
        attention(projected, ring, position, rows, zeros, scratch, x, plan)


@unit(void(i64p, i64p, i64p, i64, f32p, f32p, i64p, i64))
def loop_forward(tokens, positions, caches, rows, weights, scratch, plan, times):
    """Repeat `knock_kernels.loops.forward`."""
    for _ in range(times):
        forward(tokens, positions, caches, rows, rows, weights, scratch, plan)


@unit(void(f32p, i32p, i64, f64p, f32p, f64p, i64))
def loop_sample(logits, nothing, V, controls, work, stats, times):
    """Repeat `knock_kernels.ops.sampler` without constraints, with a new random number each time."""
    for i in range(times):
        u = uniform(np.uint64(7), np.uint64(0), np.uint64(i))
        sample(logits, logits, 0, nothing, -1, 0, nothing, 0, V, controls, u, work, stats)


@unit(void(f64p, i64))
def loop_uniform(out, times):
    """Repeat `knock_kernels.ops.rng`."""
    for i in range(times):
        out[0] = uniform(np.uint64(7), np.uint64(0), np.uint64(i))


@cache
def _loops() -> Any:
    for each in jit.UNITS:
        if each not in LOOPS:
            llvm.add_symbol(each.symbol, store.loaded().get_function_address(each.symbol))
    return store.load(build.compile_units(LOOPS))


LOOPS = [each for each in jit.UNITS if each.symbol.startswith("knock_loop_")]


def run(loop: str, *arguments: np.ndarray[Any, Any] | int) -> Callable[[], None]:
    """Return a function without arguments that runs one of these loops over arrays and numbers."""
    function = store.function(_loops(), f"loop_{loop}")
    numbers = [each.ctypes.data if isinstance(each, np.ndarray) else each for each in arguments]

    def call() -> None:
        function(*numbers)
        assert arguments  # keeps the arrays, and with them the memory, alive

    return call
