"""The table of what the first blocks compute, by token.

What a model computes before its first attention is a function of the token, or of (token, position) in an absolute
model: the embedding and the first block's projection. If the first block of a relative model has a window of at most
2, the whole block and the next one's projection are a function of (previous token, token), or of the token alone at
position 0. A row of the table holds the result, to the same bits, so none of it is computed twice.

A row is computed when it is first looked up. To compute all 4,290 rows of 65 characters up front takes as long as to
generate 3,000 characters; a short text needs some 150 of them, and a batch a third, in no measurable time. Threads may
compute the same row at the same time. They write the same bits, and set the row's flag afterwards.
"""

from __future__ import annotations

from knock_kernels.lang.layout import WIDTH, Block, Lane, Model, State
from knock_kernels.lang.threads import is_published, publish
from knock_kernels.lang.units import f32p, i64, inlined, unit, void
from knock_kernels.lang.vector import load, prefetch, store
from knock_kernels.ops.attention import attention, copy
from knock_kernels.ops.code_attention import code_attention
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.project import normalize, project


@inlined
def entry_of(previous: int, token: int, position: int, model: Model):
    """Return the number of a row of the table."""
    if model.first > 0:
        return (previous + 1) * model.V + token
    return token if model.is_relative else token * model.T + position


@inlined
def look_up(previous: int, token: int, position: int, model: Model, state: State):
    """Return where a row of the table begins in it. The buffers of `state` are used if the row is not there yet.

    Args:
        previous: the token before, -1 at position 0.
        token: the token.
        position: number of tokens before it.
        model: the model, with a table.
        state: scratch.
    """
    entry = entry_of(previous, token, position, model)
    start = entry * model.table_stride
    if not is_published(model.filled + entry):
        compute(previous, token, position, model.table + start, model, state)
        publish(model.filled + entry)
    return start


@inlined
def fetch(lane: Lane, model: Model):
    """Start to load the row of a lane's last pair of tokens: the rows of a text do not all fit in the L2 cache."""
    if model.first > 0:
        row = model.table + entry_of(lane.previous, lane.token, lane.position, model) * model.table_stride
        for i in range(0, model.table_stride, WIDTH):
            prefetch(row + i)


@unit
def compute(previous: i64, token: i64, position: i64, row: f32p, model: Model, state: State) -> void:
    """Compute a row of the table. See `look_up`."""
    x, width = state.x, model.C_padded
    if model.first == 0:
        embed(token, position, x, model)
    else:
        # At position 0 the other slot has weight 0. It must hold a number nevertheless, so it holds the token, too.
        before, slot = (token, 0) if previous < 0 else (previous, 1)
        block = model.blocks[0]
        attend(before, 1 - slot, x, block, model, state)
        attend(token, slot, x, block, model, state)
        normalize(x, 1, model, state)
        mlp(block, x, 1, model, state)
    copy(x, row, width)
    if model.first < model.L:
        block = model.blocks[model.first]
        normalize(x, 1, model, state)
        project(block.inputs, 0, 1, 0, block.N, row + width, model, state)


@inlined
def embed(token: int, position: int, x: f32p, model: Model):
    """Compute x, the embedding of a token, and in an absolute model of its position: -> [C_padded]."""
    width = model.C_padded
    copy(model.embed + token * width, x, width)
    if not model.is_relative:
        for c in range(0, width, WIDTH):
            store(load(x + c) + load(model.pos + position * width + c), x + c)


@inlined
def attend(token: int, position: int, x: f32p, block: Block, model: Model, state: State):
    """Compute x, the residual stream of a token after the attention of the first block: -> [C_padded]."""
    embed(token, position, x, model)
    normalize(x, 1, model, state)
    project(block.inputs, 0, 1, 0, block.N, state.projected, model, state)
    if model.has_codes:
        code_attention(state.projected, state.first_cache, position, 1, x, block, model, state)
    else:
        attention(state.projected, state.first_cache, position, 1, x, block, model, state)
