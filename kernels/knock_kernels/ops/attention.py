"""Hybrid attention over a ring of the last T keys and values: position p is in slot p mod T."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.cpu import REGISTER
from knock_kernels.lang.layout import CHAINS, WIDTH, Block, Model, State
from knock_kernels.lang.tiles import make_linear
from knock_kernels.lang.units import f32p, i64, inlined, kernel, unit, void
from knock_kernels.lang.vector import fma, indices, load, max_of, maximum, splat, store, sum_of, where
from knock_kernels.ops.elementary import exp, inside

# Few outputs, so several chains for each. Inlined, because a call would cost as much as such a small product.
_scores_4, _scores_1 = make_linear(4, 2, chains=2), make_linear(1, 4, chains=2)
_sums_4, _sums_1 = make_linear(4, 1, chains=CHAINS), make_linear(1, 2, chains=CHAINS)
_HIDDEN = np.float32(-3.0e38)  # a logit whose weight is 0
_ZERO, _ONE = np.float32(0), np.float32(1)


@unit
def attention(
    projected: f32p, cache: f32p, position: i64, rows: i64, x: f32p, block: Block, model: Model, state: State
) -> void:
    """Add the attention of consecutive positions of one sequence to x, and store their keys and values in the ring.

    Args:
        projected: [rows, N], [q | k | v | r] of each row, with gates and 1/sqrt(D) folded in. The reweight logits of a
            relative model run from the farthest distance to the nearest.
        cache: this block's keys [C, T_padded], then values [H, T in whole chains, D_padded].
        position: number of tokens before the first row.
        rows: 1, or up to ROWS as long as position + rows <= T.
        x: [rows, C_padded], the residual stream.
        block: the block.
        model: the model.
        state: scratch.
    """
    if rows == 1:
        attend_alone(projected, cache, position, x, block, model, state)
        return
    remember(projected, cache, position % block.T, rows, block, model)
    for h in range(model.H):
        attend_together(projected, cache, position, rows, h, x, block, model, state)


@kernel
def remember(projected: f32p, cache: f32p, slot: int, rows: int, block: Block, model: Model):
    """Store the keys and values of consecutive positions in the ring, without wrapping around its end."""
    N, width = block.N, model.D_padded
    for r in range(rows):
        for h in range(model.H):
            values = cache + block.values + (h * whole_chains(block.T) + slot + r) * width
            copy(projected + r * N + block.v + h * width, values, width)
    if block.q >= 0:
        for c in range(model.C):
            for r in range(rows):
                cache[c * block.T_padded + slot + r] = projected[r * N + block.k + c]


@inlined
def attend_alone(projected: f32p, cache: f32p, position: int, x: f32p, block: Block, model: Model, state: State):
    """Add the attention of one position to x, and store its key and value in the ring.

    The newest key is read from `projected` and stored last: loading from the ring right after a narrower store to the
    same bytes would stall.
    """
    T, H, D, columns, width = block.T, model.H, model.D, block.T_padded, model.D_padded
    slot, seen, slots = position % T, min(position + 1, T), whole_chains(T)
    q, k, values = projected + block.q, projected + block.k, cache + block.values
    for h in range(H):
        copy(projected + block.v + h * width, values + (h * slots + slot) * width, width)
        turn(projected, h, h, block, model, state)
    # Three loops over the heads, not one: a head's steps depend on each other, but not on those of other heads.
    if block.q >= 0:
        for h in range(H):
            _scores_1(q + h * D, D, cache + h * D * columns, columns, model.zeros, 0, state.scores + h * columns,
                      columns, D, columns // REGISTER)  # fmt: skip
    for h in range(H):
        content, newest = model.zeros, _ZERO
        if block.q >= 0:
            content, newest = state.scores + h * columns, dot(q + h * D, k + h * D, D)
        reweight = turned(projected, h, h, slot, block, model, state)
        state.totals[h] = softmax_weights(content, reweight, columns, seen, slot, newest, state.scores + h * columns)
    for h in range(H):
        _sums_1(state.scores + h * columns, columns, values + h * slots * width, width, model.zeros, 0,
                state.attended + h * width, width, whole_chains(seen), width // REGISTER)  # fmt: skip
    for h in range(H):
        # Whole vectors: the padding of a narrow head adds zeros to the columns after it.
        add_scaled(state.attended + h * width, _ONE / state.totals[h], x + h * D, width)
    if block.q >= 0:
        for c in range(model.C):
            cache[c * columns + slot] = k[c]


@inlined
def attend_together(
    projected: f32p, cache: f32p, position: int, rows: int, h: int, x: f32p, block: Block, model: Model, state: State
):
    """Add the attention of one head at several positions of the first window to x.

    Their keys and values are in the ring already. Scores and weighted values are tiled products, summed in the same
    order as for a single position.
    """
    T, D, Tp, width, N = block.T, model.D, block.T_padded, model.D_padded, block.N
    q, k = projected + block.q + h * D, projected + block.k + h * D
    keys, values = cache + h * D * Tp, cache + block.values + h * whole_chains(T) * width
    seen = position + rows
    columns = -(-seen // WIDTH) * WIDTH
    if block.q >= 0:
        in_fours(_scores_4, _scores_1, q, N, keys, Tp, model.zeros, state.scores, Tp, rows, D, columns // REGISTER)
    for r in range(rows):
        turn(projected + r * N, h, r, block, model, state)
    for r in range(rows):
        content, newest = model.zeros, _ZERO
        if block.q >= 0:
            content, newest = state.scores + r * Tp, dot(q + r * N, k + r * N, D)
        slot = position + r
        reweight = turned(projected + r * N, h, r, slot, block, model, state)
        state.totals[r] = softmax_weights(content, reweight, columns, slot + 1, slot, newest, state.scores + r * Tp)
    in_fours(_sums_4, _sums_1, state.scores, Tp, values, width, model.zeros, state.attended, width, rows,
             whole_chains(seen), width // REGISTER)  # fmt: skip
    for r in range(rows):
        add_scaled(state.attended + r * width, _ONE / state.totals[r], x + r * model.C_padded + h * D, width)


@inlined
def softmax_weights(content: f32p, reweight: f32p, columns: int, seen: int, slot: int, newest, out: f32p):
    """Compute out = exp(logits - max) in the first `seen` columns and 0 in the others; return the sum.

    The logits are content + reweight, except that column `slot` has `newest` instead of content. `out` may be
    `content`.
    """
    top = splat(_HIDDEN)
    for c in range(0, columns, WIDTH):
        z = where(indices() == np.int32(slot - c), newest, load(content + c)) + load(reweight + c)
        z = where(inside(c, seen), z, _HIDDEN)
        store(z, out + c)
        top = maximum(z, top)
    largest, total = max_of(top), splat(_ZERO)
    for c in range(0, columns, WIDTH):
        weights = where(inside(c, seen), exp(load(out + c) - largest), _ZERO)
        store(weights, out + c)
        total += weights
    return sum_of(total)


@inlined
def turn(projected: f32p, h: int, place: int, block: Block, model: Model, state: State):
    """Copy a relative model's reweight logits to where `turned` reads them."""
    # Two copies in a row make the logits contiguous in ring order, where the farthest is in the slot after the newest.
    # Columns beyond the reach of the logits are 0 from the start. The second copy overwrites the padding of the first.
    if block.R > 0 and model.is_relative:
        logits, copies = projected + block.r + h * block.R_padded, copies_of(place, block, state)
        copy(logits, copies + (block.T - block.R), block.R_padded)
        copy(logits, copies + (2 * block.T - block.R), block.R_padded)


@inlined
def turned(projected: f32p, h: int, place: int, slot: int, block: Block, model: Model, state: State):
    """Return a head's reweight logits by slot, or zeros if the block has none."""
    if block.R == 0:
        return model.zeros
    if model.is_relative:
        return copies_of(place, block, state) + (block.T - (slot + 1))
    return projected + block.r + h * block.R_padded


@inlined
def copies_of(place: int, block: Block, state: State):
    """Return where the two copies of the reweight logits of a head, or a row, lie."""
    return state.turned + block.turned + place * block.turned_stride


@inlined
def whole_chains(slots: int):
    """Return a number of slots rounded up to whole chains, so that the same chain adds a slot whatever the number.

    Slots beyond those seen have weight 0.
    """
    return -(-slots // CHAINS) * CHAINS


@inlined
def in_fours(
    four, one, x: f32p, ldx: int, w: f32p, ldw: int, zeros: f32p, out: f32p, ldout: int, rows: int, K: int,
    registers: int,
):  # fmt: skip
    """Compute out = x @ w, four rows at a time: [rows, K], [K, columns] -> [rows, columns]."""
    r = 0
    while r + 4 <= rows:
        four(x + r * ldx, ldx, w, ldw, zeros, 0, out + r * ldout, ldout, K, registers)
        r += 4
    while r < rows:
        one(x + r * ldx, ldx, w, ldw, zeros, 0, out + r * ldout, ldout, K, registers)
        r += 1


@inlined
def dot(x: f32p, y: f32p, n: int):
    """Return the dot product of n numbers. Whole vectors are read."""
    total = splat(_ZERO)
    for i in range(0, n, WIDTH):
        total = fma(where(inside(i, n), load(x + i), _ZERO), where(inside(i, n), load(y + i), _ZERO), total)
    return sum_of(total)


@inlined
def add_scaled(x: f32p, scale, out: f32p, n: int):
    """Compute out += scale * x over n numbers, in whole vectors."""
    for i in range(0, n, WIDTH):
        store(fma(load(x + i), scale, load(out + i)), out + i)


@inlined
def copy(source: f32p, target: f32p, n: int):
    """Copy n numbers, in whole vectors."""
    for i in range(0, n, WIDTH):
        store(load(source + i), target + i)
