"""Loops over kernels inside compiled code, since a call from Python takes longer than most kernels."""

from __future__ import annotations

import numpy as np

from bench.compiled import Compiled
from knock_kernels.lang.layout import Block, Lane, Linear, Model, State, Stats
from knock_kernels.lang.records import words
from knock_kernels.lang.units import f32p, f64p, i64, unit, void
from knock_kernels.loops.forward import forward
from knock_kernels.ops.attention import attention
from knock_kernels.ops.code_attention import code_attention
from knock_kernels.ops.linear import code_linear, linear
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.project import normalize
from knock_kernels.ops.rng import uniform
from knock_kernels.ops.sampler import sample


@unit
def loop_linear(layer: Linear, x: f32p, out: f32p, rows: i64, times: i64) -> void:
    """Repeat `knock_kernels.ops.linear`."""
    for _ in range(times):
        linear(layer, x, layer.K, out, layer.N, rows, 0, layer.N)


@unit
def loop_code_linear(layer: Linear, x: f32p, out: f32p, rows: i64, times: i64) -> void:
    """Repeat `knock_kernels.ops.linear.code_linear`."""
    for _ in range(times):
        code_linear(layer, words(x), layer.K, x, out, layer.N, rows, 0, layer.N)


@unit
def loop_code_attention(
    projected: f32p, cache: f32p, position: i64, rows: i64, x: f32p, block: Block, model: Model, state: State,
    times: i64,
) -> void:  # fmt: skip
    """Repeat `knock_kernels.ops.code_attention`."""
    for _ in range(times):
        for r in range(rows):
            code_attention(projected + r * block.N, cache, position + r, 1, x + r * model.C_padded, block, model, state)


@unit
def loop_mlp(block: Block, rows: i64, model: Model, state: State, times: i64) -> void:
    """Repeat `knock_kernels.ops.mlp`."""
    for _ in range(times):
        normalize(state.x, rows, model, state)
        mlp(block, state.x, rows, model, state)


@unit
def loop_normalize(rows: i64, model: Model, state: State, times: i64) -> void:
    """Repeat `knock_kernels.ops.project.normalize`."""
    for _ in range(times):
        normalize(state.x, rows, model, state)


@unit
def loop_attention(
    projected: f32p, cache: f32p, position: i64, rows: i64, x: f32p, block: Block, model: Model, state: State,
    times: i64,
) -> void:  # fmt: skip
    """Repeat `knock_kernels.ops.attention`."""
    for _ in range(times):
        attention(projected, cache, position, rows, x, block, model, state)


@unit
def loop_forward(rows: i64, model: Model, state: State, times: i64) -> void:
    """Repeat `knock_kernels.loops.forward`."""
    for _ in range(times):
        forward(rows, rows, model, state)


@unit
def loop_sample(logits: f32p, lane: Lane, model: Model, state: State, stats: Stats, times: i64) -> void:
    """Repeat `knock_kernels.ops.sampler` without constraints, with a new random number each time."""
    for i in range(times):
        u = uniform(np.uint64(7), np.uint64(0), np.uint64(i))
        sample(logits, lane, u, model, state, stats)


@unit
def loop_uniform(out: f64p, times: i64) -> void:
    """Repeat `knock_kernels.ops.rng`."""
    for i in range(times):
        out[0] = uniform(np.uint64(7), np.uint64(0), np.uint64(i))


run = Compiled("loop_").call
