"""Entry points: generate for 1 to ROWS lanes without returning to Python in between, read a prompt, score."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import ROWS, SPAN, Control, FinishReason, Lane, Part, Stat
from knock_kernels.lang.simd import at
from knock_kernels.lang.units import f32p, f64p, i32p, i64, i64p, inlined, unit, void
from knock_kernels.loops.forward import forward, head
from knock_kernels.ops.constraints import follow
from knock_kernels.ops.elementary import all_finite
from knock_kernels.ops.rng import uniform
from knock_kernels.ops.sampler import log_probability, sample

_TOKEN, _POSITION, _CACHE, _SEED, _INDEX, _STEP, _BIAS, _AUTOMATON, _STATE, _LEFT, _MASKED, _FINISH_REASON = (
    int(part) for part in list(Lane)[:12]
)
_CUT, _CONTEXT, _CONTEXT_SIZE = int(Lane.cut), int(Lane.context), int(Lane.context_size)
_NOT_FINITE = int(FinishReason.not_finite)
_LANE, _CONTROLS, _STATS = len(Lane), len(Control), len(Stat)
_V, _T, _RELATIVE, _V_PADDED = (int(part) for part in (Part.V, Part.T, Part.relative, Part.V_padded))
_LOGITS, _WORK = int(Part.logits), int(Part.work)
_TOKENS, _POSITIONS, _CACHES = 0, SPAN, 2 * SPAN  # in inputs


@unit(i64(i64p, i64, i64, f64p, f32p, i32p, i32p, i64p, i64p, f32p, f32p, i64p, i64p, f64p))
def decode(
    lanes, count, length, controls, biases, automata, contexts, history, inputs, weights, scratch, plan, tokens, stats
):
    """Generate `length` tokens for each lane; return the number of steps, fewer if the text of a lane ended.

    The finish reason of that lane tells why. A step whose logits are not finite is not counted.

    Args:
        lanes: [count, Lane], int64, updated.
        count: number of lanes, 1 to ROWS.
        length: number of tokens to generate for each lane.
        controls: [count, Control], float64; mirostat's mu is updated.
        biases: [N, V], float32; see `Lane.bias`.
        automata: tables [states, V + StateField], int32, one after the other; see `Lane.automaton`.
        contexts: int32; see `Lane.context`.
        history: [count, T], int64: in an absolute model, the token in each slot, without the last token.
        inputs: scratch [3 * SPAN], int64.
        weights: as laid out by `plan`.
        scratch: as laid out by `plan`, followed by the lanes' caches.
        plan: sizes and offsets.
        tokens: [count, length], int64, written.
        stats: [count, length, Stat], float64, written.
    """
    T, ended = plan[_T], False
    for t in range(length):
        advance_all(lanes, count, inputs, weights, scratch, plan)
        for i in range(count):
            lane = at(lanes, i * _LANE)
            token = draw(i, lane, at(controls, i * _CONTROLS), biases, automata, contexts, at(history, i * T), inputs,
                         weights, scratch, plan, at(stats, (i * length + t) * _STATS))  # fmt: skip
            if token < 0:
                lane[_FINISH_REASON] = _NOT_FINITE
                return t
            tokens[i * length + t] = token
            ended |= advance_automaton(lane, token, automata, plan) != 0
        if ended:
            return t + 1
    return length


@inlined
def advance_automaton(lane, token, automata, plan):
    """Follow a token in the lane's automaton; return why its text ends, 0 if it continues."""
    lane[_LEFT] -= 1
    if lane[_AUTOMATON] < 0:
        return 0
    state, reason, cut = follow(at(automata, lane[_AUTOMATON]), lane[_STATE], token, lane[_LEFT], plan[_V])
    lane[_STATE], lane[_FINISH_REASON], lane[_CUT] = state, reason, cut
    return reason


@inlined
def advance_all(lanes, count, inputs, weights, scratch, plan):
    """Compute the logits after each lane's last token in a relative model. In an absolute one, `draw` does so."""
    if plan[_RELATIVE]:
        for i in range(count):
            lane = at(lanes, i * _LANE)
            inputs[_TOKENS + i] = lane[_TOKEN]
            inputs[_POSITIONS + i] = lane[_POSITION]
            inputs[_CACHES + i] = lane[_CACHE]
        forward(at(inputs, _TOKENS), at(inputs, _POSITIONS), at(inputs, _CACHES), count, count, weights, scratch, plan)
        head(0, count, weights, scratch, plan)


@inlined
def draw(i, lane, controls, biases, automata, contexts, history, inputs, weights, scratch, plan, stats):
    """Draw the next token of the lane whose logits are in row i; return it, or -1 if they are not finite."""
    V = plan[_V]
    if not plan[_RELATIVE]:
        i = 0
        slide(lane, history, inputs, weights, scratch, plan)
    bias = max(lane[_BIAS], 0)
    u = uniform(np.uint64(lane[_SEED]), np.uint64(lane[_INDEX]), np.uint64(lane[_STEP]))
    state = lane[_STATE] if lane[_MASKED] else -1
    token = sample(at(scratch, plan[_LOGITS] + i * plan[_V_PADDED]), at(biases, bias), lane[_BIAS] >= 0,
                   at(automata, max(lane[_AUTOMATON], 0)), state, lane[_LEFT],
                   at(contexts, max(lane[_CONTEXT], 0)), lane[_CONTEXT_SIZE], V, controls, u,
                   at(scratch, plan[_WORK]), stats)  # fmt: skip
    if token >= 0:
        if lane[_CONTEXT] >= 0:
            contexts[lane[_CONTEXT] + lane[_CONTEXT_SIZE]] = token
            lane[_CONTEXT_SIZE] += 1
        lane[_TOKEN] = token
        lane[_POSITION] += 1
        lane[_STEP] += 1
    return token


@inlined
def slide(lane, history, inputs, weights, scratch, plan):
    """Compute the logits after a lane's last token in an absolute model, in the first row of logits.

    Until the window is full, the token goes into the next slot. From then on, all tokens move down by one slot and are
    read again.
    """
    T, position = plan[_T], lane[_POSITION]
    if position < T:
        history[position] = lane[_TOKEN]
        last = read_rows(at(history, position), position, 1, lane[_CACHE], 1, inputs, weights, scratch, plan)
    else:
        for slot in range(T - 1):
            history[slot] = history[slot + 1]
        history[T - 1] = lane[_TOKEN]
        last = read_rows(history, 0, T, lane[_CACHE], 1, inputs, weights, scratch, plan)
    head(last, 1, weights, scratch, plan)


@unit(void(i64p, i64, i64, i64, i64p, f32p, f32p, i64p))
def read(tokens, position, length, cache, inputs, weights, scratch, plan):
    """Read consecutive tokens of one sequence into its cache.

    Args:
        tokens: [length], int64.
        position: position of the first token.
        length: number of tokens.
        cache: offset in `scratch`.
        inputs: scratch [3 * SPAN], int64.
        weights: as laid out by `plan`.
        scratch: as laid out by `plan`, followed by caches.
        plan: sizes and offsets.
    """
    read_rows(tokens, position, length, cache, 0, inputs, weights, scratch, plan)


@inlined
def read_rows(tokens, position, length, cache, wanted, inputs, weights, scratch, plan):
    """Read tokens; return the row of the residual stream after the last one, valid if `wanted` is 1 and not 0."""
    count = 0
    for start in range(0, length, SPAN):
        count = min(SPAN, length - start)
        load_rows(at(tokens, start), position + start, count, cache, inputs)
        forward(at(inputs, _TOKENS), at(inputs, _POSITIONS), at(inputs, _CACHES), count,
                wanted if start + count == length else 0, weights, scratch, plan)  # fmt: skip
    return count - 1


@inlined
def load_rows(tokens, position, count, cache, inputs):
    """Describe consecutive tokens of one sequence as the rows of a forward pass."""
    for r in range(count):
        inputs[_TOKENS + r] = tokens[r]
        inputs[_POSITIONS + r] = position + r
        inputs[_CACHES + r] = cache


@unit(i64(i64p, i64p, i64, i64, i64, i64p, f32p, f32p, i64p, f64p, i64))
def score(tokens, targets, length, position, cache, inputs, weights, scratch, plan, out, every_logit):
    """Compute logits, or log-probabilities of targets, at consecutive positions of one sequence.

    Return the number of positions done. With `every_logit` it is `length`; otherwise it is less if logits were not
    finite.

    Args:
        tokens: [length], int64.
        targets: [length], int64; not read if `every_logit`.
        length: number of tokens.
        position: position of the first token; 0 in an absolute model if the window slides.
        cache: offset in `scratch`.
        inputs: scratch [3 * SPAN], int64.
        weights: as laid out by `plan`.
        scratch: as laid out by `plan`, followed by caches.
        plan: sizes and offsets.
        out: [length, V] if `every_logit`, else [length]; float64, written.
        every_logit: whether to write all logits instead of log-probabilities.
    """
    V, T, start = plan[_V], plan[_T], 0
    while start < length:
        if plan[_RELATIVE] or position + start < T:
            count = min(SPAN, length - start)
            if not plan[_RELATIVE]:
                count = min(count, T - position - start)
            load_rows(at(tokens, start), position + start, count, cache, inputs)
            forward(
                at(inputs, _TOKENS), at(inputs, _POSITIONS), at(inputs, _CACHES), count, count, weights, scratch, plan
            )
            first = 0
        else:
            count = 1
            first = read_rows(at(tokens, start - T + 1), 0, T, cache, 1, inputs, weights, scratch, plan)
        for r in range(0, count, ROWS):
            some = min(ROWS, count - r)
            head(first + r, some, weights, scratch, plan)
            done = put(targets, start + r, some, V, scratch, plan, out, every_logit)
            if done < some:
                return start + r + done
        start += count
    return length


@inlined
def put(targets, start, count, V, scratch, plan, out, every_logit):
    """Write the results of `score` for `count` rows of logits; return how many were written."""
    for r in range(count):
        logits = at(scratch, plan[_LOGITS] + r * plan[_V_PADDED])
        if every_logit:
            for v in range(V):
                out[(start + r) * V + v] = logits[v]
        else:
            if not all_finite(logits, V):
                return r
            out[start + r] = log_probability(logits, targets[start + r], V, at(scratch, plan[_WORK]))
    return count
