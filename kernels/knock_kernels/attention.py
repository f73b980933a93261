"""Hybrid attention of one position over a ring of the last T keys and values."""

from __future__ import annotations

import numpy as np

from knock_kernels.cpu import WIDTH
from knock_kernels.jit import kernel
from knock_kernels.layout import At
from knock_kernels.math import dot
from knock_kernels.simd import at, make_linear, softmax_weights

_narrow = make_linear(1, 4)  # inlined: the products are small, and calls would cost as much

_T, _C, _H, _D = (int(part) for part in (At.T, At.C, At.H, At.D))
_RELATIVE, _T_PADDED, _D_PADDED = int(At.relative), int(At.T_padded), int(At.D_padded)
_Q, _K, _VALUE, _R, _CACHE_VALUES = (int(part) for part in (At.q, At.k, At.v, At.r, At.cache_values))
_SCORES, _TURNED, _TURNED_STRIDE, _ATTENDED = (
    int(part) for part in (At.scores, At.turned, At.turned_stride, At.attended)
)
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
        scratch: scores (H, T_padded), turned reweight logits, attended (D_padded).
        x: [C], the residual stream.
        plan: sizes.
    """
    T, H, D, Tp, Dp = plan[_T], plan[_H], plan[_D], plan[_T_PADDED], plan[_D_PADDED]
    keys, values = cache, at(cache, plan[_CACHE_VALUES])
    scores, turned, attended = (
        at(scratch, plan[_SCORES]), at(scratch, plan[_TURNED]), at(scratch, plan[_ATTENDED])
    )  # fmt: skip
    slot = position % T
    seen = min(position + 1, T)
    turn = plan[_RELATIVE] and plan[_R] >= 0
    for h in range(H):
        for d in range(Dp):
            values[(h * T + slot) * Dp + d] = projected[plan[_VALUE] + h * Dp + d]
    if turn:
        # Twice over, so that the logits in the ring's order are one stretch: the farthest is in the slot after the
        # newest. Padding of the first copy lies under the second.
        for h in range(H):
            for i in range(Tp):
                turned[h * plan[_TURNED_STRIDE] + i] = projected[plan[_R] + h * Tp + i]
            for i in range(T):
                turned[h * plan[_TURNED_STRIDE] + T + i] = projected[plan[_R] + h * Tp + i]
    if plan[_Q] >= 0:
        for h in range(H):
            _narrow(at(projected, plan[_Q] + h * D), D, at(keys, h * D * Tp), Tp, zeros, 0, at(scores, h * Tp), Tp, D,
                    Tp // WIDTH)  # fmt: skip
    for h in range(H):
        content, reweight, newest = zeros, zeros, _ZERO
        if plan[_Q] >= 0:
            content = at(scores, h * Tp)
            newest = dot(at(projected, plan[_Q] + h * D), at(projected, plan[_K] + h * D), D)
        if turn:
            reweight = at(turned, h * plan[_TURNED_STRIDE] + T - (slot + 1))
        elif plan[_R] >= 0:
            reweight = at(projected, plan[_R] + h * Tp)
        weights = at(scores, h * Tp)
        total = softmax_weights(content, reweight, Tp // WIDTH, seen, slot, newest, weights)
        _narrow(weights, Tp, at(values, h * T * Dp), Dp, zeros, 0, attended, Dp, seen, Dp // WIDTH)
        scale = _ONE / total
        for d in range(D):
            x[h * D + d] += attended[d] * scale
    if plan[_Q] >= 0:
        for c in range(plan[_C]):
            keys[c * Tp + slot] = projected[plan[_K] + c]
