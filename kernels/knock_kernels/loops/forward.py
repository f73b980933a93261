"""The forward pass of up to SPAN rows: the next positions of several sequences, or several positions of one."""

from __future__ import annotations

from knock_kernels.lang.layout import ROWS, Block, Model, State
from knock_kernels.lang.records import address_of, exists, floats_at
from knock_kernels.lang.units import f32p, i64, i64p, inlined, unit, void
from knock_kernels.loops.table import embed, look_up
from knock_kernels.ops.attention import attention, copy, remember
from knock_kernels.ops.code_attention import code_attention
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.project import normalize, project


@unit
def forward(rows: i64, wanted: i64, model: Model, state: State) -> void:
    """Compute the residual stream of the last `wanted` rows after the last block, in `state.x`.

    The rows are in `state.tokens`, `state.previous`, `state.positions` (less than T in an absolute model) and
    `state.caches`. Rows that share a cache must be consecutive positions of its sequence, in order.

    Args:
        rows: number of rows, 1 to SPAN.
        wanted: number of rows to compute, the last ones; the others only store their keys and values.
        model: the model.
        state: the rows, and scratch.
    """
    start(rows, model, state)
    for b in range(model.first, model.L):
        block = model.blocks[b]
        first = rows - wanted if b == model.L - 1 else 0
        if b > model.first or not exists(model.table):
            project_all(block, first, rows, model, state)
        attend(b, first, rows, model, state)
        x = state.x + first * model.C_padded
        normalize(x, rows - first, model, state)
        mlp(block, x, rows - first, model, state)


@inlined
def start(rows: int, model: Model, state: State):
    """Compute the residual stream before the first block that is computed, from the table if there is one."""
    width = model.C_padded
    if not exists(model.table):
        for r in range(rows):
            embed(state.tokens[r], state.positions[r], state.x + r * width, model)
        return
    for r in range(rows):
        state.entries[r] = look_up(state.previous[r], state.tokens[r], state.positions[r], model, state)
    for r in range(rows):
        copy(model.table + state.entries[r], state.x + r * width, width)


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
        if b == model.first and exists(model.table):
            row = from_table(r, count, row, model, state)
        if model.has_codes:
            code_attention(row, cache, position, int(r >= first), x, block, model, state)
        elif r < first:
            remember(row, cache, position % T, count, block, model)
        else:
            attention(row, cache, position, count, x, block, model, state)
        r += count


@inlined
def from_table(first: int, count: int, out: f32p, model: Model, state: State):
    """Return rows of the projection in the table: a pointer to a single row, or several rows copied to `out`."""
    N = model.blocks[model.first].N
    for r in range(count):
        row = model.table + state.entries[first + r] + model.C_padded
        if count == 1:
            return row
        copy(row, out + r * N, N)
    return out


@inlined
def head(first: int, rows: int, model: Model, state: State):
    """Compute the logits of up to ROWS rows of the residual stream, starting at row `first`, into rows 0, 1, ..."""
    normalize(state.x + first * model.C_padded, rows, model, state)
    project(model.output, 0, rows, 0, model.V_padded, state.logits, model, state)


@inlined
def load_rows(tokens: i64p, previous: int, position: int, count: int, cache: f32p, state: State):
    """Describe consecutive tokens of one sequence, and the token before them, as the rows of a forward pass.

    Return the last token.
    """
    for r in range(count):
        state.tokens[r] = tokens[r]
        state.previous[r] = previous
        state.positions[r] = position + r
        state.caches[r] = address_of(cache)
        previous = tokens[r]
    return previous
