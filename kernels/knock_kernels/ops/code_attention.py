"""Hybrid attention on int16 codes of queries, keys, values and weights, over a ring of the last T keys and values.

All sums are of integers and exact, so their order does not matter. Two codes share an int32 word: adjacent elements of
a query or key, and the same element of the values in adjacent slots.
"""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Block, Model, State
from knock_kernels.lang.records import words
from knock_kernels.lang.units import f32p, i16p, i32p, i64, inlined, unit, void
from knock_kernels.lang.vector import (
    dot_pairs,
    indices,
    load,
    max_of,
    maximum,
    splat,
    store,
    sum_of,
    to_f32,
    to_f64,
    to_i16,
    where,
)
from knock_kernels.ops.attention import turn, turned
from knock_kernels.ops.elementary import exp, inside, rounded
from knock_kernels.ops.quantize import to_codes

WEIGHT_CODES = 2**13 - 1  # attention weights are codes from 0 to this
STRETCH = 32  # words of attention weights whose products with values fit in 32 bits together
HIDDEN = np.float32(-3.0e38)  # a logit whose weight is 0
_LOW, _HALF = np.int32(0xFFFF), np.int32(16)
_NONE = np.int32(0)


@unit
def code_attention(
    projected: f32p, cache: f32p, position: i64, is_wanted: i64, x: f32p, block: Block, model: Model, state: State
) -> void:
    """Add the attention of one position to x if it is wanted, and store its key and value in the ring.

    The newest key is read from its codes and stored last: loading from the ring right after a narrower store to the
    same bytes would stall.

    Args:
        projected: [N], [q | k | v | r] with gates and 1/sqrt(D) folded in, and the steps of codes. The reweight logits
            of a relative model run from the farthest distance to the nearest.
        cache: this block's codes of keys, then of values.
        position: number of tokens before this one.
        is_wanted: whether to compute the attention.
        x: [C_padded], the residual stream.
        block: the block.
        model: the model.
        state: scratch.
    """
    T, H, columns, width = block.T, model.H, block.T_padded, model.D_padded
    slot, seen = position % T, min(position + 1, T)
    pairs, slots = (model.D + 1) // 2, (T + 1) // 2  # words of a key, and of an element of the values
    keys, values = words(cache), words(cache) + block.values
    query = state.query
    key = query + model.head_codes
    if block.q >= 0:
        to_codes(projected + block.q, query, 2 * pairs * H)
        to_codes(projected + block.k, key, 2 * pairs * H)
    remember_value(projected + block.v, values, slot, block, model)
    if is_wanted:
        # One loop over the heads for each step: steps of a head wait for each other, but not for other heads.
        for h in range(H):
            turn(projected, h, h, block, model, state)
        if block.q >= 0:
            for h in range(H):
                state.newest[h] = dot(words(query) + h * pairs, words(key) + h * pairs, pairs)
        for h in range(H):
            logits, scores = turned(projected, h, h, slot, block, model, state), state.scores + h * columns
            state.totals[h] = mixed_logits(
                words(query) + h * pairs, state.newest[h], keys + h * pairs * columns, pairs if block.q >= 0 else 0,
                columns, slot, seen, block.logit_factor[h], logits, scores,
            )  # fmt: skip
        for h in range(H):
            total = code_weights(state.scores + h * columns, columns, state.totals[h], state.weights + h * columns)
            state.totals[h] = block.value_factor[h] / np.float32(total)
        for h in range(H):
            add_values(words(state.weights + h * columns), values + h * slots * width, slots, width, state.totals[h],
                       x + h * model.D)  # fmt: skip
    if block.q >= 0:
        for i in range(pairs * H):
            keys[i * columns + slot] = words(key)[i]


@inlined
def remember_value(value: f32p, values: i32p, slot: int, block: Block, model: Model):
    """Store the codes of a value in the ring: [H, D_padded]."""
    width, pair, is_odd = model.D_padded, slot // 2, slot % 2 == 1
    for h in range(model.H):
        place = values + (h * ((block.T + 1) // 2) + pair) * width
        for d in range(0, width, WIDTH):
            code, before = rounded(load(value + h * width + d)), load(place + d)
            odd = (before & _LOW) | (code << _HALF)
            even = ((before >> _HALF) << _HALF) | (code & _LOW)
            store(odd if is_odd else even, place + d)


@inlined
def dot(query: i32p, key: i32p, pairs: int):
    """Return the sum of the products of the codes of a query and a key: [pairs], [pairs] -> []."""
    total = splat(_NONE)
    for i in range(0, pairs, WIDTH):
        total = dot_pairs(total, where(inside(i, pairs), load(query + i), _NONE), load(key + i))
    return sum_of(total)


@inlined
def mixed_logits(
    query: i32p, newest: int, keys: i32p, pairs: int, columns: int, slot: int, seen: int, factor, reweight: f32p,
    out: f32p,
):  # fmt: skip
    """Compute out = factor * (query @ keys) + reweight in the first `seen` columns; return the largest.

    Column `slot` has the product with the `newest` key.
    """
    top = splat(HIDDEN)
    for c in range(0, columns, WIDTH):
        total = splat(_NONE)
        for i in range(pairs):
            total = dot_pairs(total, splat(query[i]), load(keys + i * columns + c))
        total = where(indices() == np.int32(slot - c), newest, total)
        z = where(inside(c, seen), to_f32(total) * factor + load(reweight + c), HIDDEN)
        store(z, out + c)
        top = maximum(z, top)
    return max_of(top)


@inlined
def code_weights(logits: f32p, columns: int, largest, weights: i16p):
    """Compute codes of exp(logits - largest); return their sum: [columns] -> [columns], []."""
    total = splat(_NONE)
    for c in range(0, columns, WIDTH):
        some = rounded(exp(load(logits + c) - largest) * np.float32(WEIGHT_CODES))
        store(to_i16(some), weights + c)
        total += some
    return sum_of(total)


@inlined
def add_values(weights: i32p, values: i32p, pairs: int, width: int, factor, x: f32p):
    """Compute x += factor * (weights @ values): [pairs], [pairs, width] -> [width]."""
    for d in range(0, width, WIDTH):
        if pairs <= STRETCH:
            some = to_f32(weighted_values(weights, values + d, 0, pairs, width))
        else:
            exact = splat(0.0)
            for start in range(0, pairs, STRETCH):
                exact += to_f64(weighted_values(weights, values + d, start, min(start + STRETCH, pairs), width))
            some = to_f32(exact)
        # Whole vectors: the padding of a narrow head adds zeros to the columns after it.
        store(load(x + d) + some * factor, x + d)


@inlined
def weighted_values(weights: i32p, values: i32p, first: int, last: int, width: int):
    """Return the sum of weights @ values over some pairs of slots, for one vector of elements."""
    even, odd = splat(_NONE), splat(_NONE)  # two sums, since each addition waits for the one before
    i = first
    while i + 2 <= last:
        even = dot_pairs(even, splat(weights[i]), load(values + i * width))
        odd = dot_pairs(odd, splat(weights[i + 1]), load(values + (i + 1) * width))
        i += 2
    if i < last:
        even = dot_pairs(even, splat(weights[i]), load(values + i * width))
    return even + odd
