"""Hybrid attention over a ring buffer of the last T keys and values: position p is in slot p mod T."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.cpu import WIDTH
from knock_kernels.lang.layout import Part
from knock_kernels.lang.simd import add_scaled, at, copy_vectors, dot, make_linear, softmax_weights
from knock_kernels.lang.units import f32p, i64, i64p, inlined, kernel, unit, void

# Few outputs, so several chains for each. Inlined, because a call would cost as much as such a small product.
_scores_4, _scores_1 = make_linear(4, 2, chains=2), make_linear(1, 4, chains=2)
_sums_4, _sums_1 = make_linear(4, 1, chains=4), make_linear(1, 2, chains=4)
_CHAINS = 4

_T, _C, _H, _D, _N_IN = (int(part) for part in (Part.T, Part.C, Part.H, Part.D, Part.N_in))
_RELATIVE, _C_PADDED, _T_PADDED, _D_PADDED = (
    int(p) for p in (Part.relative, Part.C_padded, Part.T_padded, Part.D_padded)
)
_Q, _K, _VALUE, _R, _CACHE_VALUES = (int(part) for part in (Part.q, Part.k, Part.v, Part.r, Part.cache_values))
_SCORES = int(Part.scores)
_TURNED, _TURNED_STRIDE = int(Part.turned), int(Part.turned_stride)
_TOTALS, _ATTENDED = int(Part.totals), int(Part.attended)
_ZERO, _ONE = np.float32(0), np.float32(1)


@unit(void(f32p, f32p, i64, i64, f32p, f32p, f32p, i64p))
def attention(projected, cache, position, rows, zeros, scratch, x, plan):
    """Add the attention of consecutive positions of one sequence to x, and store their keys and values in the ring.

    Args:
        projected: [rows, N_in], [q | k | v | r] of each row, with gates and 1/sqrt(D) folded in. The reweight logits of
            a relative model run from the farthest distance to the nearest.
        cache: this block's keys [C, T_padded], then values [H, T, D_padded].
        position: number of tokens before the first row.
        rows: 1, or up to ROWS as long as position + rows <= T.
        zeros: [max(T_padded, D_padded)], zeros.
        scratch: as laid out by `plan`.
        x: [rows, C_padded], the residual stream.
        plan: sizes and offsets.
    """
    if rows == 1:
        attend_alone(projected, cache, position, zeros, scratch, x, plan)
        return
    remember(projected, cache, position % plan[_T], rows, plan)
    for h in range(plan[_H]):
        attend_together(projected, cache, position, rows, h, zeros, scratch, x, plan)


@kernel
def remember(projected, cache, slot, rows, plan):
    """Store the keys and values of consecutive positions in the ring, without wrapping around its end."""
    T, Tp, Dp, N_in = plan[_T], plan[_T_PADDED], plan[_D_PADDED], plan[_N_IN]
    values = at(cache, plan[_CACHE_VALUES])
    for r in range(rows):
        value = at(projected, r * N_in + plan[_VALUE])
        for h in range(plan[_H]):
            copy_vectors(at(value, h * Dp), at(values, (h * T + slot + r) * Dp), Dp // WIDTH)
    if plan[_Q] >= 0:
        for c in range(plan[_C]):
            for r in range(rows):
                cache[c * Tp + slot + r] = projected[r * N_in + plan[_K] + c]


@inlined
def attend_alone(projected, cache, position, zeros, scratch, x, plan):
    """Add the attention of one position to x, and store its key and value in the ring.

    The newest key is read from `projected` and stored last: loading from the ring right after a narrower store to the
    same bytes would stall.
    """
    T, H, D, Tp, Dp = plan[_T], plan[_H], plan[_D], plan[_T_PADDED], plan[_D_PADDED]
    values = at(cache, plan[_CACHE_VALUES])
    scores, totals, attended = at(scratch, plan[_SCORES]), at(scratch, plan[_TOTALS]), at(scratch, plan[_ATTENDED])
    slot, seen = position % T, min(position + 1, T)
    for h in range(H):
        copy_vectors(at(projected, plan[_VALUE] + h * Dp), at(values, (h * T + slot) * Dp), Dp // WIDTH)
        turn(projected, h, h, scratch, plan)
    # Three loops over the heads, not one: a head's steps depend on each other, but not on those of other heads.
    if plan[_Q] >= 0:
        for h in range(H):
            _scores_1(at(projected, plan[_Q] + h * D), D, at(cache, h * D * Tp), Tp, zeros, 0, at(scores, h * Tp), Tp,
                      D, Tp // WIDTH)  # fmt: skip
    for h in range(H):
        content, newest = zeros, _ZERO
        if plan[_Q] >= 0:
            content = at(scores, h * Tp)
            newest = dot(at(projected, plan[_Q] + h * D), at(projected, plan[_K] + h * D), D)
        reweight = turned(projected, h, h, slot, zeros, scratch, plan)
        totals[h] = softmax_weights(content, reweight, Tp // WIDTH, seen, slot, newest, at(scores, h * Tp))
    for h in range(H):
        _sums_1(at(scores, h * Tp), Tp, at(values, h * T * Dp), Dp, zeros, 0, at(attended, h * Dp), Dp,
                whole_chains(seen, T), Dp // WIDTH)  # fmt: skip
    for h in range(H):
        # Whole vectors: the padding of a narrow head adds zeros to the columns after it.
        add_scaled(at(attended, h * Dp), _ONE / totals[h], at(x, h * D), Dp // WIDTH)
    if plan[_Q] >= 0:
        for c in range(plan[_C]):
            cache[c * Tp + slot] = projected[plan[_K] + c]


@inlined
def attend_together(projected, cache, position, rows, h, zeros, scratch, x, plan):
    """Add the attention of one head at several positions of the first window to x.

    Their keys and values are in the ring already. Scores and weighted values are tiled products, summed in the same
    order as for a single position.
    """
    T, D, Tp, Dp, N_in = plan[_T], plan[_D], plan[_T_PADDED], plan[_D_PADDED], plan[_N_IN]
    keys, values = at(cache, h * D * Tp), at(cache, plan[_CACHE_VALUES] + h * T * Dp)
    scores, totals, attended = at(scratch, plan[_SCORES]), at(scratch, plan[_TOTALS]), at(scratch, plan[_ATTENDED])
    q, k = at(projected, plan[_Q] + h * D), at(projected, plan[_K] + h * D)
    columns = position + rows
    vectors = -(-columns // WIDTH)
    if plan[_Q] >= 0:
        in_fours(_scores_4, _scores_1, q, N_in, keys, Tp, zeros, scores, Tp, rows, D, vectors)
    for r in range(rows):
        turn(at(projected, r * N_in), h, r, scratch, plan)
    for r in range(rows):
        content, newest = zeros, _ZERO
        if plan[_Q] >= 0:
            content, newest = at(scores, r * Tp), dot(at(q, r * N_in), at(k, r * N_in), D)
        slot = position + r
        reweight = turned(at(projected, r * N_in), h, r, slot, zeros, scratch, plan)
        totals[r] = softmax_weights(content, reweight, vectors, slot + 1, slot, newest, at(scores, r * Tp))
    in_fours(_sums_4, _sums_1, scores, Tp, values, Dp, zeros, attended, Dp, rows, whole_chains(columns, T),
             Dp // WIDTH)  # fmt: skip
    for r in range(rows):
        add_scaled(at(attended, r * Dp), _ONE / totals[r], at(x, r * plan[_C_PADDED] + h * D), Dp // WIDTH)


@inlined
def in_fours(four, one, x, ldx, w, ldw, zeros, out, ldout, rows, K, vectors):
    """Compute out = x @ w, four rows at a time: [rows, K], [K, vectors * WIDTH] -> [rows, vectors * WIDTH]."""
    r = 0
    while r + 4 <= rows:
        four(at(x, r * ldx), ldx, w, ldw, zeros, 0, at(out, r * ldout), ldout, K, vectors)
        r += 4
    while r < rows:
        one(at(x, r * ldx), ldx, w, ldw, zeros, 0, at(out, r * ldout), ldout, K, vectors)
        r += 1


@inlined
def whole_chains(seen, T):
    """Return the number of terms of a weighted sum: `seen` rounded up to whole chains, at most T.

    The chain that adds a term then does not depend on the position. Terms beyond `seen` have weight 0.
    """
    return min(T, -(-seen // _CHAINS) * _CHAINS)


@inlined
def turn(projected, h, place, scratch, plan):
    """Copy a relative model's reweight logits to where `turned` reads them."""
    # Two copies in a row make the logits contiguous in ring order, where the farthest is in the slot after the newest.
    # The second copy overwrites the padding of the first.
    if plan[_R] >= 0 and plan[_RELATIVE]:
        logits, copies = at(projected, plan[_R] + h * plan[_T_PADDED]), _copies(place, scratch, plan)
        copy_vectors(logits, copies, plan[_T_PADDED] // WIDTH)
        copy_vectors(logits, at(copies, plan[_T]), plan[_T_PADDED] // WIDTH)


@inlined
def turned(projected, h, place, slot, zeros, scratch, plan):
    """Return a head's reweight logits by slot, or zeros if the model has none."""
    if plan[_R] < 0:
        return zeros
    if plan[_RELATIVE]:
        return at(_copies(place, scratch, plan), plan[_T] - (slot + 1))
    return at(projected, plan[_R] + h * plan[_T_PADDED])


@inlined
def _copies(place, scratch, plan):
    return at(scratch, plan[_TURNED] + place * plan[_TURNED_STRIDE])
