"""Hybrid attention of all lanes, on codes.

The rings of all lanes turn together: the newest key and value of every lane are in the same slot, and column j of the
attention is j slots before it. Which columns a lane sees depends on its position.
"""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Block, Model, Wide
from knock_kernels.lang.records import words
from knock_kernels.lang.units import f32p, i32p, inlined, unit, void
from knock_kernels.lang.vector import dot_pairs, load, maximum, splat, store, to_f32, to_f64, where
from knock_kernels.ops.code_attention import HIDDEN, STRETCH, WEIGHT_CODES
from knock_kernels.ops.elementary import exp, rounded
from knock_kernels.ops.wide.packing import round_to_words, word

_LOW, _HALF = np.int32(0xFFFF), np.int32(16)
_NONE, _ZERO = np.int32(0), np.float32(0)


@unit
def wide_attention(block: Block, model: Model, wide: Wide) -> void:
    """Add the attention of the newest position of every lane to x, and store its key and value in the rings.

    Args:
        block: the block.
        model: the model.
        wide: the rows of the projection, [N, WIDTH], and scratch.
    """
    T, H, D, projected = block.T, model.H, model.D, wide.projected
    pairs, slots, slot = (D + 1) // 2, (T + 1) // 2, wide.clock[0] % T
    keys = wide.cache + block.cache * WIDTH
    values = keys + block.values * WIDTH
    for h in range(H):
        head_values, v = values + h * slots * D * WIDTH, projected + (block.v + h * model.D_padded) * WIDTH
        remember_value(v, head_values + (slot // 2) * D * WIDTH, D, slot % 2)
        if block.q >= 0:
            head_keys, width = keys + h * T * pairs * WIDTH, 2 * pairs * WIDTH
            round_to_words(projected + block.q * WIDTH + h * width, pairs, wide.query)
            round_to_words(projected + block.k * WIDTH + h * width, pairs, head_keys + slot * pairs * WIDTH)
            products(wide.query, head_keys, pairs, T, words(wide.scores))
        logits = projected + (block.r + h * block.R_padded) * WIDTH
        top = mixed_logits(logits, h, slot, block, wide)
        total = code_weights(wide.scores, T, top, wide.weights)
        factor = block.value_factor[h] / to_f32(total)
        add_values(wide.weights, head_values, slots, D, factor, wide.x + h * D * WIDTH)


@inlined
def remember_value(v: f32p, place: i32p, D: int, is_odd: int):
    """Store the codes of values beside those of the other slot of a pair: [D, WIDTH] -> [D, WIDTH]."""
    if is_odd:
        for d in range(D):
            store((load(place + d * WIDTH) & _LOW) | (rounded(load(v + d * WIDTH)) << _HALF), place + d * WIDTH)
    else:
        for d in range(D):
            store(word(rounded(load(v + d * WIDTH)), load(place + d * WIDTH) >> _HALF), place + d * WIDTH)


@inlined
def products(query: i32p, keys: i32p, pairs: int, T: int, out: i32p):
    """Compute the products of queries with all keys: [pairs, WIDTH], [T, pairs, WIDTH] -> [T, WIDTH]."""
    t, step = 0, pairs * WIDTH
    while t + 4 <= T:  # four at a time, to load an element of the query once for all
        a, b, c, d = splat(_NONE), splat(_NONE), splat(_NONE), splat(_NONE)
        key = keys + t * step
        for i in range(0, step, WIDTH):
            q = load(query + i)
            a, b = dot_pairs(a, q, load(key + i)), dot_pairs(b, q, load(key + (i + step)))
            c, d = dot_pairs(c, q, load(key + (i + 2 * step))), dot_pairs(d, q, load(key + (i + 3 * step)))
        store(a, out + t * WIDTH)
        store(b, out + (t + 1) * WIDTH)
        store(c, out + (t + 2) * WIDTH)
        store(d, out + (t + 3) * WIDTH)
        t += 4
    while t < T:
        total = splat(_NONE)
        for i in range(0, step, WIDTH):
            total = dot_pairs(total, load(query + i), load(keys + (t * step + i)))
        store(total, out + t * WIDTH)
        t += 1


@inlined
def mixed_logits(reweight: f32p, h: int, slot: int, block: Block, wide: Wide):
    """Compute factor * products + reweight in the columns that each lane sees, by slot; return the largest."""
    T, R, scores, seen = block.T, block.R, wide.scores, load(wide.seen)
    top = splat(HIDDEN)
    for t in range(T):
        j = slot - t if t <= slot else slot - t + T  # characters back
        z = splat(_ZERO)
        if block.q >= 0:
            z = to_f32(load(words(scores) + t * WIDTH)) * block.logit_factor[h]
        if j < R:
            z = z + load(reweight + (R - 1 - j) * WIDTH)  # from the farthest distance to the nearest
        z = where(seen > np.int32(j), z, HIDDEN)
        store(z, scores + t * WIDTH)
        top = maximum(z, top)
    return top


@inlined
def code_weights(logits: f32p, T: int, top, weights: i32p):
    """Compute words of codes of exp(logits - top); return the sum of the codes: [T, WIDTH] -> [ceil(T / 2), WIDTH]."""
    total = splat(_NONE)
    for t in range(0, T, 2):
        even, odd = rounded(exp(load(logits + t * WIDTH) - top) * np.float32(WEIGHT_CODES)), splat(_NONE)
        if t + 1 < T:
            odd = rounded(exp(load(logits + (t + 1) * WIDTH) - top) * np.float32(WEIGHT_CODES))
        store(word(even, odd), weights + (t // 2) * WIDTH)
        total += even + odd
    return total


@inlined
def add_values(weights: i32p, values: i32p, pairs: int, D: int, factor, x: f32p):
    """Compute x += factor * (weights @ values): [pairs, WIDTH], [pairs, D, WIDTH] -> [D, WIDTH]."""
    d = 0
    if pairs <= STRETCH:
        while d + 4 <= D:
            a, b, c, e = four_sums(weights, values + d * WIDTH, pairs, D * WIDTH)
            add_scaled(to_f32(a), factor, x + d * WIDTH)
            add_scaled(to_f32(b), factor, x + (d + 1) * WIDTH)
            add_scaled(to_f32(c), factor, x + (d + 2) * WIDTH)
            add_scaled(to_f32(e), factor, x + (d + 3) * WIDTH)
            d += 4
    while d < D:
        exact = splat(0.0)
        for first in range(0, pairs, STRETCH):
            exact += to_f64(one_sum(weights, values + d * WIDTH, first, min(first + STRETCH, pairs), D * WIDTH))
        add_scaled(to_f32(exact), factor, x + d * WIDTH)
        d += 1


@inlined
def four_sums(weights: i32p, values: i32p, pairs: int, step: int):
    """Return the sums of weights @ values for four elements: a weight is loaded once for all."""
    a, b, c, d = splat(_NONE), splat(_NONE), splat(_NONE), splat(_NONE)
    for i in range(pairs):
        w, place = load(weights + i * WIDTH), values + i * step
        a, b = dot_pairs(a, w, load(place)), dot_pairs(b, w, load(place + WIDTH))
        c, d = dot_pairs(c, w, load(place + 2 * WIDTH)), dot_pairs(d, w, load(place + 3 * WIDTH))
    return a, b, c, d


@inlined
def one_sum(weights: i32p, values: i32p, first: int, last: int, step: int):
    """Return the sum of weights @ values over some pairs of slots, for one element."""
    total = splat(_NONE)
    for i in range(first, last):
        total = dot_pairs(total, load(weights + i * WIDTH), load(values + i * step))
    return total


@inlined
def add_scaled(some, factor, x: f32p):
    """Compute x += factor * some: [WIDTH]."""
    store(load(x) + some * factor, x)
