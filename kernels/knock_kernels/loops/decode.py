"""Entry points: generate for one lane without returning to Python in between, read a prompt, score."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import ROWS, SPAN, FinishReason, Lane, Model, State, Stats
from knock_kernels.lang.records import address_of, exists
from knock_kernels.lang.units import f32p, f64p, i64, i64p, inlined, unit, void
from knock_kernels.loops.forward import forward, head, load_rows
from knock_kernels.ops.constraints import follow
from knock_kernels.ops.elementary import all_finite
from knock_kernels.ops.rng import uniform
from knock_kernels.ops.sampler import log_probability, sample

_NOT_FINITE = int(FinishReason.not_finite)


@unit
def decode(lanes: Lane, count: i64, length: i64, model: Model, state: State, tokens: i64p, stats: Stats) -> i64:
    """Generate `length` tokens for each lane; return the number of steps, fewer if the text of a lane ended.

    The finish reason of that lane tells why. A step whose logits are not finite is not counted.

    Args:
        lanes: [count], updated.
        count: number of lanes, 1 to ROWS.
        length: number of tokens to generate for each lane.
        model: the model.
        state: scratch.
        tokens: [count, length], written.
        stats: [count, length], written.
    """
    ended = False
    for t in range(length):
        advance_all(lanes, count, model, state)
        for i in range(count):
            lane = lanes[i]
            token = draw(i, lane, model, state, stats + (i * length + t))
            if token < 0:
                lane.finish_reason = _NOT_FINITE
                return t
            tokens[i * length + t] = token
            ended |= advance_automaton(lane, token, model) != 0
        if ended:
            return t + 1
    return length


@inlined
def advance_automaton(lane: Lane, token: int, model: Model):
    """Follow a token in the lane's automaton; return why its text ends, 0 if it continues."""
    lane.left -= 1
    if not exists(lane.automaton):
        return 0
    lane.state, lane.finish_reason, lane.cut = follow(lane.automaton, lane.state, token, lane.left, model.V)
    return lane.finish_reason


@inlined
def advance_all(lanes: Lane, count: int, model: Model, state: State):
    """Compute the logits after each lane's last token in a relative model. In an absolute one, `draw` does so."""
    if model.is_relative:
        for i in range(count):
            lane = lanes[i]
            state.tokens[i] = lane.token
            state.positions[i] = lane.position
            state.caches[i] = address_of(lane.cache)
        forward(count, count, model, state)
        head(0, count, model, state)


@inlined
def draw(i: int, lane: Lane, model: Model, state: State, stats: Stats):
    """Draw the next token of the lane whose logits are in row i; return it, or -1 if they are not finite."""
    if not model.is_relative:
        i = 0
        slide(lane, model, state)
    token = sample(state.logits + i * model.V_padded, lane, number(lane), model, state, stats)
    if token >= 0:
        accept(lane, token)
    return token


@inlined
def number(lane: Lane):
    """Return the uniform number that selects a lane's next token."""
    return uniform(np.uint64(lane.seed), np.uint64(lane.index), np.uint64(lane.step))


@inlined
def accept(lane: Lane, token: int):
    """Add a token to a lane's text."""
    if exists(lane.context):
        lane.context[lane.context_size] = token
        lane.context_size += 1
    lane.token = token
    lane.position += 1
    lane.step += 1


@inlined
def slide(lane: Lane, model: Model, state: State):
    """Compute the logits after a lane's last token in an absolute model, in the first row of logits.

    Until the window is full, the token goes into the next slot. From then on, all tokens move down by one slot and are
    read again.
    """
    T, position, history = model.T, lane.position, lane.history
    if position < T:
        history[position] = lane.token
        last = read_rows(history + position, position, 1, lane.cache, 1, model, state)
    else:
        for slot in range(T - 1):
            history[slot] = history[slot + 1]
        history[T - 1] = lane.token
        last = read_rows(history, 0, T, lane.cache, 1, model, state)
    head(last, 1, model, state)


@unit
def read(tokens: i64p, position: i64, length: i64, cache: f32p, model: Model, state: State) -> void:
    """Read consecutive tokens of one sequence into its cache.

    Args:
        tokens: [length].
        position: position of the first token.
        length: number of tokens.
        cache: of the sequence.
        model: the model.
        state: scratch.
    """
    read_rows(tokens, position, length, cache, 0, model, state)


@inlined
def read_rows(tokens: i64p, position: int, length: int, cache: f32p, wanted: int, model: Model, state: State):
    """Read tokens; return the row of the residual stream after the last one, valid if `wanted` is 1 and not 0."""
    count = 0
    for start in range(0, length, SPAN):
        count = min(SPAN, length - start)
        load_rows(tokens + start, position + start, count, cache, state)
        forward(count, wanted if start + count == length else 0, model, state)
    return count - 1


@unit
def score(
    tokens: i64p, targets: i64p, length: i64, position: i64, cache: f32p, model: Model, state: State, out: f64p,
    every_logit: i64,
) -> i64:  # fmt: skip
    """Compute logits, or log-probabilities of targets, at consecutive positions of one sequence.

    Return the number of positions done. With `every_logit` it is `length`; otherwise it is less if logits were not
    finite.

    Args:
        tokens: [length].
        targets: [length]; not read if `every_logit`.
        length: number of tokens.
        position: position of the first token; 0 in an absolute model if the window slides.
        cache: of the sequence.
        model: the model.
        state: scratch.
        out: [length, V] if `every_logit`, else [length]; written.
        every_logit: whether to write all logits instead of log-probabilities.
    """
    T, start = model.T, 0
    while start < length:
        if model.is_relative or position + start < T:
            count = min(SPAN, length - start)
            if not model.is_relative:
                count = min(count, T - position - start)
            load_rows(tokens + start, position + start, count, cache, state)
            forward(count, count, model, state)
            first = 0
        else:
            count = 1
            first = read_rows(tokens + (start - T + 1), 0, T, cache, 1, model, state)
        for r in range(0, count, ROWS):
            some = min(ROWS, count - r)
            head(first + r, some, model, state)
            done = put(targets, start + r, some, model, state, out, every_logit)
            if done < some:
                return start + r + done
        start += count
    return length


@inlined
def put(targets: i64p, start: int, count: int, model: Model, state: State, out: f64p, every_logit: int):
    """Write the results of `score` for `count` rows of logits; return how many were written."""
    V, Vp = model.V, model.V_padded
    for r in range(count):
        logits = state.logits + r * Vp
        if every_logit:
            for v in range(V):
                out[(start + r) * V + v] = logits[v]
        else:
            if not all_finite(logits, V):
                return r
            out[start + r] = log_probability(logits, targets[start + r], V, Vp, state.work)
    return count
