"""Hybrid attention of one position over a ring of the last T keys and values."""

from __future__ import annotations

import numpy as np

from knock_kernels.cpu import WIDTH
from knock_kernels.jit import kernel
from knock_kernels.layout import At
from knock_kernels.simd import add_scaled, at, copy_vectors, dot, make_linear, softmax_weights

# Inlined, since these products are small and calls would cost as much; few outputs, so several chains.
_scores_of = make_linear(1, 4, chains=2)
_sum_of = make_linear(1, 2, chains=4)

_T, _C, _H, _D = (int(part) for part in (At.T, At.C, At.H, At.D))
_RELATIVE, _T_PADDED, _D_PADDED = int(At.relative), int(At.T_padded), int(At.D_padded)
_Q, _K, _VALUE, _R, _CACHE_VALUES = (int(part) for part in (At.q, At.k, At.v, At.r, At.cache_values))
_SCORES, _TURNED, _TURNED_STRIDE = int(At.scores), int(At.turned), int(At.turned_stride)
_TOTALS, _ATTENDED = int(At.totals), int(At.attended)
_ZERO, _ONE = np.float32(0), np.float32(1)


@kernel
def attention(projected, cache, position, zeros, scratch, x, plan):
    """x += attention of one position, whose key and value go into the ring.

    The newest key is used from where it was computed, and stored last: a load that follows a narrower store to the
    same bytes would wait for it.

    Args:
        projected: [q | k | v | r] of this position, gates and 1/sqrt(D) folded in; the reweight logits of a relative
            model from the farthest distance to the nearest.
        cache: of this block: keys (C, T_padded), values (H, T, D_padded). Position p is in slot p mod T.
        position: how many tokens came before.
        zeros: at least T_padded.
        scratch: scores (H, T_padded), turned reweight logits, totals (H), attended (H, D_padded).
        x: [C], the residual stream.
        plan: sizes.
    """
    T, H, D, Tp, Dp = plan[_T], plan[_H], plan[_D], plan[_T_PADDED], plan[_D_PADDED]
    keys, values = cache, at(cache, plan[_CACHE_VALUES])
    scores, turned = at(scratch, plan[_SCORES]), at(scratch, plan[_TURNED])
    totals, attended = at(scratch, plan[_TOTALS]), at(scratch, plan[_ATTENDED])
    slot = position % T
    seen = min(position + 1, T)
    turn = plan[_RELATIVE] and plan[_R] >= 0
    for h in range(H):
        copy_vectors(at(projected, plan[_VALUE] + h * Dp), at(values, (h * T + slot) * Dp), Dp // WIDTH)
    if turn:
        # Twice over, so that the logits in the ring's order are one stretch: the farthest is in the slot after the
        # newest. Padding of the first copy lies under the second.
        for h in range(H):
            reweight, copies = at(projected, plan[_R] + h * Tp), at(turned, h * plan[_TURNED_STRIDE])
            copy_vectors(reweight, copies, Tp // WIDTH)
            copy_vectors(reweight, at(copies, T), Tp // WIDTH)
    # Three rounds over the heads, not one: a head's next step waits for its last one, the other heads' do not.
    if plan[_Q] >= 0:
        for h in range(H):
            _scores_of(at(projected, plan[_Q] + h * D), D, at(keys, h * D * Tp), Tp, zeros, 0, at(scores, h * Tp), Tp,
                       D, Tp // WIDTH)  # fmt: skip
    for h in range(H):
        content, reweight, newest = zeros, zeros, _ZERO
        if plan[_Q] >= 0:
            content = at(scores, h * Tp)
            newest = dot(at(projected, plan[_Q] + h * D), at(projected, plan[_K] + h * D), D)
        if turn:
            reweight = at(turned, h * plan[_TURNED_STRIDE] + T - (slot + 1))
        elif plan[_R] >= 0:
            reweight = at(projected, plan[_R] + h * Tp)
        totals[h] = softmax_weights(content, reweight, Tp // WIDTH, seen, slot, newest, at(scores, h * Tp))
    for h in range(H):
        _sum_of(at(scores, h * Tp), Tp, at(values, h * T * Dp), Dp, zeros, 0, at(attended, h * Dp), Dp, seen,
                Dp // WIDTH)  # fmt: skip
    for h in range(H):
        # Whole vectors: what lies behind a narrower head gets its padding, zeros, added.
        add_scaled(at(attended, h * Dp), _ONE / totals[h], at(x, h * D), Dp // WIDTH)
    if plan[_Q] >= 0:
        for c in range(plan[_C]):
            keys[c * Tp + slot] = projected[plan[_K] + c]
