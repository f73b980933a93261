"""The forward pass of up to SPAN rows: the next positions of several sequences, or several positions of one."""

from __future__ import annotations

from knock_kernels.lang.layout import ROWS, WIDTH, Block, Model, State
from knock_kernels.lang.records import address_of, exists, floats_at
from knock_kernels.lang.units import f32p, i64, i64p, inlined, unit, void
from knock_kernels.lang.vector import load, store
from knock_kernels.ops.attention import attention, copy, remember
from knock_kernels.ops.code_attention import code_attention
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.project import normalize, project


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
            project_all(block, first, rows, model, state)
        attend(b, first, rows, model, state)
        x = state.x + first * model.C_padded
        normalize(x, rows - first, model, state)
        mlp(block, x, rows - first, model, state)


@inlined
def embed(token: int, position: int, x: f32p, model: Model):
    """Compute x, the embedding of a token, and in an absolute model of its position: -> [C_padded]."""
    width = model.C_padded
    copy(model.embed + token * width, x, width)
    if not model.is_relative:
        for c in range(0, width, WIDTH):
            store(load(x + c) + load(model.pos + position * width + c), x + c)


@inlined
def project_all(block: Block, first: int, rows: int, model: Model, state: State):
    """Normalise and project the residual stream: [q | k | v | r] from row `first` on, only k and v before it."""
    N = block.N
    normalize(state.x, rows, model, state)
    project(block.inputs, first, rows - first, 0, N, state.projected + first * N, model, state)
    if first > 0:
        project(block.inputs, 0, first, max(block.k, 0), block.r if block.R > 0 else N, state.projected, model, state)


@inlined
def attend(b: int, first: int, rows: int, model: Model, state: State):
    """Add the attention of one block to the residual stream from row `first` on, and store all keys and values."""
    block, r = model.blocks[b], 0
    T, N = block.T, block.N
    while r < rows:
        row, cache, position = state.projected + r * N, floats_at(state.caches[r]) + block.cache, state.positions[r]
        x, count = state.x + r * model.C_padded, 1
        if not model.has_codes:
            most = T - position % T if r < first else T - position  # rows that can be stored, or attended, together
            end = min(rows if r >= first else first, r + min(ROWS, most))
            while r + count < end and state.caches[r + count] == state.caches[r]:
                count += 1
        if b == 0 and exists(model.table):
            row = look_up(r, count, row, model, state)
        if model.has_codes:
            code_attention(row, cache, position, int(r >= first), x, block, model, state)
        elif r < first:
            remember(row, cache, position % T, count, block, model)
        else:
            attention(row, cache, position, count, x, block, model, state)
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
    normalize(state.x + first * model.C_padded, rows, model, state)
    project(model.output, 0, rows, 0, model.V_padded, state.logits, model, state)


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
    N = block.N
    for entry in range(model.V * slots):
        embed(entry // slots, entry % slots, state.x, model)
        normalize(state.x, 1, model, state)
        project(block.inputs, 0, 1, 0, N, model.table + entry * N, model, state)
