"""The forward pass of up to SPAN rows: the next positions of several sequences, or several positions of one."""

from __future__ import annotations

from knock_kernels.lang.layout import ROWS, WIDTH, Block, Model, State
from knock_kernels.lang.records import address_of, exists, floats_at
from knock_kernels.lang.units import f32p, i64, i64p, inlined, unit, void
from knock_kernels.lang.vector import load, store
from knock_kernels.ops.attention import attention, copy, remember
from knock_kernels.ops.linear import linear
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.norm import layer_norm


@unit
def forward(rows: i64, wanted: i64, model: Model, state: State) -> void:
    """Compute the residual stream of the last `wanted` rows after the last block, in `state.x`.

    The rows are in `state.tokens`, `state.positions` (less than T in an absolute model) and `state.caches`. Rows that
    share a cache must be consecutive positions of its sequence, in order.

    Args:
        rows: number of rows, 1 to SPAN.
        wanted: number of rows to compute, the last ones; the others only store their keys and values.
        model: the model.
        state: the rows, and scratch.
    """
    for r in range(rows):
        embed(state.tokens[r], state.positions[r], state.x + r * model.C_padded, model)
    for b in range(model.L):
        block = model.blocks[b]
        first = rows - wanted if b == model.L - 1 else 0
        if b > 0 or not exists(model.table):
            project(block, first, rows, model, state)
        attend(b, first, rows, model, state)
        for r in range(first, rows):
            layer_norm(state.x + r * model.C_padded, state.n + r * model.C_padded, model.C)
        start = first * model.C_padded
        mlp(block.w0, block.w1, state.n + start, state.hidden, state.x + start, rows - first)


@inlined
def embed(token: int, position: int, x: f32p, model: Model):
    """Compute x, the embedding of a token, and in an absolute model of its position: -> [C_padded]."""
    width = model.C_padded
    copy(model.embed + token * width, x, width)
    if not model.is_relative:
        for c in range(0, width, WIDTH):
            store(load(x + c) + load(model.pos + position * width + c), x + c)


@inlined
def project(block: Block, first: int, rows: int, model: Model, state: State):
    """Normalise and project the residual stream: [q | k | v | r] from row `first` on, only k and v before it."""
    Cp, N = model.C_padded, block.N
    for r in range(rows):
        layer_norm(state.x + r * Cp, state.n + r * Cp, model.C)
    linear(block.inputs, state.n + first * Cp, Cp, state.projected + first * N, N, rows - first, 0, N)
    if first > 0:
        linear(block.inputs, state.n, Cp, state.projected, N, first, max(block.k, 0), block.r if block.R > 0 else N)


@inlined
def attend(b: int, first: int, rows: int, model: Model, state: State):
    """Add the attention of one block to the residual stream from row `first` on, and store all keys and values."""
    block, r = model.blocks[b], 0
    T, N = block.T, block.N
    while r < rows:
        row, cache, position = state.projected + r * N, floats_at(state.caches[r]) + block.cache, state.positions[r]
        slot, count = position % T, 1
        most = T - slot if r < first else T - position  # rows that can be stored, or attended, together
        end = min(rows if r >= first else first, r + min(ROWS, most))
        while r + count < end and state.caches[r + count] == state.caches[r]:
            count += 1
        if b == 0 and exists(model.table):
            row = look_up(r, count, row, model, state)
        if r < first:
            remember(row, cache, slot, count, block, model)
        else:
            attention(row, cache, position, count, state.x + r * model.C_padded, block, model, state)
        r += count


@inlined
def look_up(first: int, count: int, out: f32p, model: Model, state: State):
    """Return rows of the first block's table: a pointer to a single row, or several rows copied to `out`."""
    N = model.blocks[0].N
    for r in range(count):
        token = state.tokens[first + r]
        entry = token if model.is_relative else token * model.T + state.positions[first + r]
        if count == 1:
            return model.table + entry * N
        copy(model.table + entry * N, out + r * N, N)
    return out


@inlined
def head(first: int, rows: int, model: Model, state: State):
    """Compute the logits of up to ROWS rows of the residual stream, starting at row `first`, into rows 0, 1, ..."""
    Cp, Vp = model.C_padded, model.V_padded
    for r in range(rows):
        layer_norm(state.x + (first + r) * Cp, state.n + r * Cp, model.C)
    linear(model.output, state.n, Cp, state.logits, Vp, rows, 0, Vp)


@inlined
def load_rows(tokens: i64p, position: int, count: int, cache: f32p, state: State):
    """Describe consecutive tokens of one sequence as the rows of a forward pass."""
    for r in range(count):
        state.tokens[r] = tokens[r]
        state.positions[r] = position + r
        state.caches[r] = address_of(cache)


@unit
def tabulate(model: Model, state: State) -> void:
    """Fill the table: the first block's projection of every token, or of every (token, slot) in an absolute model."""
    block, slots = model.blocks[0], 1 if model.is_relative else model.T
    N, Cp = block.N, model.C_padded
    for entry in range(model.V * slots):
        embed(entry // slots, entry % slots, state.x, model)
        layer_norm(state.x, state.n, model.C)
        linear(block.inputs, state.n, Cp, model.table + entry * N, N, 1, 0, N)
