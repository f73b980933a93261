"""The generation loop over 1 to ROWS lanes: forward pass, sampling, next token, with no return to Python in between."""

from __future__ import annotations

import numpy as np

from knock_kernels.forward import forward, head
from knock_kernels.jit import inlined
from knock_kernels.layout import ROWS, At, Control, Lane, Stat
from knock_kernels.math import all_finite
from knock_kernels.rng import uniform
from knock_kernels.sampler import log_probability, sample
from knock_kernels.simd import at

_TOKEN, _POSITION, _CACHE, _SEED, _STREAM, _STEP, _BIAS = (int(part) for part in Lane)
_LANE, _CONTROLS, _STATS = len(Lane), len(Control), len(Stat)
_V, _T, _RELATIVE, _C_PADDED, _V_PADDED = (int(p) for p in (At.V, At.T, At.relative, At.C_padded, At.V_padded))
_X, _LOGITS, _WORK = (int(part) for part in (At.x, At.logits, At.work))
_TOKENS, _POSITIONS, _CACHES = 0, ROWS, 2 * ROWS  # in rows


@inlined
def decode(lanes, count, length, controls, biases, history, rows, weights, scratch, plan, tokens, stats):
    """Generate `length` tokens for each lane; return the steps done, fewer if a lane's logits were not finite.

    Args:
        lanes: [count, Lane], int64, moved on.
        count: lanes, 1 to ROWS.
        length: tokens for each lane.
        controls: [count, Control], float64; mirostat's mu is moved on.
        biases: rows of [V], float32.
        history: [count, T], int64: in an absolute model the token in each slot, the last one not yet among them.
        rows: scratch, 3 * ROWS, int64.
        weights: packed.
        scratch: packed, with the lanes' caches.
        plan: sizes and offsets.
        tokens: [count, length], int64, written.
        stats: [count, length, Stat], float64, written.
    """
    V, T, Vp = plan[_V], plan[_T], plan[_V_PADDED]
    logits, work = at(scratch, plan[_LOGITS]), at(scratch, plan[_WORK])
    for t in range(length):
        if plan[_RELATIVE]:
            for i in range(count):
                lane = at(lanes, i * _LANE)
                rows[_TOKENS + i] = lane[_TOKEN]
                rows[_POSITIONS + i] = lane[_POSITION]
                rows[_CACHES + i] = lane[_CACHE]
            forward(at(rows, _TOKENS), at(rows, _POSITIONS), at(rows, _CACHES), count, weights, scratch, plan)
            head(count, weights, scratch, plan)
        for i in range(count):
            lane = at(lanes, i * _LANE)
            row = at(logits, i * Vp)
            if not plan[_RELATIVE]:
                slide(lane, at(history, i * T), rows, weights, scratch, plan)
                row = logits
            bias = max(lane[_BIAS], 0)
            u = uniform(np.uint64(lane[_SEED]), np.uint64(lane[_STREAM]), np.uint64(lane[_STEP]))
            token = sample(row, at(biases, bias), lane[_BIAS] >= 0, V, at(controls, i * _CONTROLS), u, work,
                           at(stats, (i * length + t) * _STATS))  # fmt: skip
            if token < 0:
                return t
            tokens[i * length + t] = token
            lane[_TOKEN] = token
            lane[_POSITION] += 1
            lane[_STEP] += 1
    return length


@inlined
def slide(lane, history, rows, weights, scratch, plan):
    """Logits after a lane's last token in an absolute model, as the first row of logits.

    Until the window is full the token goes into the next slot. Then all tokens move down by one and are read anew.
    """
    T, position = plan[_T], lane[_POSITION]
    if position < T:
        history[position] = lane[_TOKEN]
        read(at(history, position), position, 1, lane[_CACHE], rows, weights, scratch, plan)
    else:
        for slot in range(T - 1):
            history[slot] = history[slot + 1]
        history[T - 1] = lane[_TOKEN]
        read(history, 0, T, lane[_CACHE], rows, weights, scratch, plan)
    head(1, weights, scratch, plan)


@inlined
def read(tokens, position, length, cache, rows, weights, scratch, plan):
    """Read consecutive tokens of one sequence, ROWS at a time; the residual stream after the last is the first row.

    Args:
        tokens: [length], int64, at least one.
        position: of the first.
        length: how many.
        cache: offset from scratch.
        rows: scratch, 3 * ROWS, int64.
        weights: packed.
        scratch: packed.
        plan: sizes and offsets.
    """
    Cp, x, last = plan[_C_PADDED], at(scratch, plan[_X]), 0
    for start in range(0, length, ROWS):
        count = min(ROWS, length - start)
        load_rows(at(tokens, start), position + start, count, cache, rows)
        forward(at(rows, _TOKENS), at(rows, _POSITIONS), at(rows, _CACHES), count, weights, scratch, plan)
        last = count - 1
    for c in range(Cp):
        x[c] = x[last * Cp + c]


@inlined
def load_rows(tokens, position, count, cache, rows):
    """Describe consecutive tokens of one sequence as the rows of a forward pass."""
    for r in range(count):
        rows[_TOKENS + r] = tokens[r]
        rows[_POSITIONS + r] = position + r
        rows[_CACHES + r] = cache


@inlined
def score(tokens, targets, length, position, cache, rows, weights, scratch, plan, out, every_logit):
    """Logits, or log-probabilities of targets, at consecutive positions of one sequence.

    Returns the positions done, fewer if logits were not finite.

    Args:
        tokens: [length], int64.
        targets: [length], int64; not read where `every_logit`.
        length: how many.
        position: of the first; 0 in an absolute model whose window slides.
        cache: offset from scratch.
        rows: scratch, 3 * ROWS, int64.
        weights: packed.
        scratch: packed.
        plan: sizes and offsets.
        out: [length, V] where `every_logit`, else [length]; float64, written.
        every_logit: which of the two.
    """
    V, T, Vp = plan[_V], plan[_T], plan[_V_PADDED]
    start = 0
    while start < length:
        if plan[_RELATIVE] or position + start < T:
            count = min(ROWS, length - start)
            if not plan[_RELATIVE]:
                count = min(count, T - position - start)
            load_rows(at(tokens, start), position + start, count, cache, rows)
            forward(at(rows, _TOKENS), at(rows, _POSITIONS), at(rows, _CACHES), count, weights, scratch, plan)
        else:
            count = 1
            read(at(tokens, start - T + 1), 0, T, cache, rows, weights, scratch, plan)
        head(count, weights, scratch, plan)
        for r in range(count):
            logits = at(scratch, plan[_LOGITS] + r * Vp)
            if every_logit:
                for v in range(V):
                    out[(start + r) * V + v] = logits[v]
            else:
                if not all_finite(logits, V):
                    return start + r
                out[start + r] = log_probability(logits, targets[start + r], V, at(scratch, plan[_WORK]))
        start += count
    return length
