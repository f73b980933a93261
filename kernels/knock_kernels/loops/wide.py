"""Lanes side by side: WIDTH rows of a batch advance together, each in an element of every vector."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import ROWS, WIDTH, Job, Lane, Model, State, Stats, Style, Wide
from knock_kernels.lang.records import exists, shorts, swap_records, words
from knock_kernels.lang.threads import look, take_next
from knock_kernels.lang.units import f32p, i64, inlined, unit, void
from knock_kernels.loops.decode import accept, number
from knock_kernels.loops.rows import begin, is_running, record, stats_of
from knock_kernels.ops.repetition import is_penalized
from knock_kernels.ops.sampler import LN2, draw_filtered, is_filtered, sample, within_float32
from knock_kernels.ops.wide.attention import wide_attention
from knock_kernels.ops.wide.linear import wide_linear
from knock_kernels.ops.wide.mlp import wide_mlp
from knock_kernels.ops.wide.norm import wide_normalize
from knock_kernels.ops.wide.packing import from_rows, to_rows
from knock_kernels.ops.wide.sampler import wide_distributions, wide_draw

_PLAIN, _FILTERED, _ALONE = (int(style) for style in (Style.plain, Style.filtered, Style.alone))
_ONE = np.float32(1)


@inlined
def run_wide(job: Job, lanes: Lane, shared_prompt: f32p, unused: Stats, wide: Wide, model: Model, state: State):
    """Generate rows until none is left to take and at most ROWS lanes run.

    Return the number of these lanes, the first ones, whose caches then hold their keys and values.
    """
    active, left, read_last = 0, 1, 0
    while look(job.stop) == 0:
        if left:
            for i in range(WIDTH):
                if not is_running(lanes[i]):
                    place = take_next(job.next)
                    if place >= job.count:
                        left = 0
                        break
                    lane = lanes[i]
                    read_last = begin(job.rows[job.order[place]], lane, read_last, shared_prompt, model, state)
                    lane.style = style_of(lane, model)
                    move_rings(i, lane, True, model, wide)
                    active += 1
        if active <= ROWS:
            break
        advance(lanes, model, wide)
        for i in range(WIDTH):
            lane = lanes[i]
            if is_running(lane):
                record(lane, draw_beside(i, lane, model, wide, state, stats_of(lane, job, unused)), job, model)
                active -= not is_running(lane)
    return hand_over(lanes, model, wide)


@inlined
def style_of(lane: Lane, model: Model):
    """Return how a lane's tokens can be drawn."""
    controls = lane.controls
    if (
        exists(lane.bias) or lane.is_masked or is_penalized(controls) or controls.top_n_sigma > 0
        or controls.target_entropy >= 0 or controls.mirostat >= 0 or controls.temperature == 0
    ):  # fmt: skip
        return _ALONE
    return _FILTERED if is_filtered(controls, model.V) else _PLAIN


@inlined
def advance(lanes: Lane, model: Model, wide: Wide):
    """Compute the logits after the last token of every lane, their distributions, and what tokens may need of them."""
    plain, filtered, alone = 0, 0, 0
    for i in range(WIDTH):
        lane = lanes[i]
        wide.tokens[i], wide.seen[i], wide.temperature[i], wide.u[i] = 0, 1, _ONE, 0.0
        if is_running(lane):
            wide.tokens[i], wide.seen[i], wide.u[i] = lane.token, lane.position + 1, number(lane)
            plain += lane.style == _PLAIN
            filtered += lane.style == _FILTERED
            alone += lane.style == _ALONE
            if lane.style != _ALONE:
                wide.temperature[i] = np.float32(within_float32(lane.controls.temperature))
    wide_forward(model, wide)
    wide.clock[0] += 1
    wide_distributions(model, wide)
    if plain > 0:
        wide_draw(model, wide)
    if filtered > 0:
        to_rows(wide.z, model.V_padded, wide.z_rows, wide)
        to_rows(wide.p, model.V_padded, wide.p_rows, wide)
    if alone > 0:
        to_rows(wide.logits, model.V_padded, wide.logit_rows, wide)


@unit
def wide_forward(model: Model, wide: Wide) -> void:
    """Compute the logits after the token of every lane, in a relative model: -> [V_padded, WIDTH]."""
    gather(model.embed, model.C_padded, wide.x, wide)
    for b in range(model.L):
        block = model.blocks[b]
        if b == 0 and exists(model.table):
            gather(model.table, block.N, wide.projected, wide)
        else:
            wide_normalize(model, wide)
            wide_linear(block.inputs, wide.projected, wide)
        wide_attention(block, model, wide)
        wide_normalize(model, wide)
        wide_mlp(block, model, wide)
    wide_normalize(model, wide)
    wide_linear(model.output, wide.logits, wide)


@inlined
def gather(table: f32p, n: int, out: f32p, wide: Wide):
    """Look up the row of every lane's token: [V, n] -> [n, WIDTH]."""
    for i in range(WIDTH):
        wide.offsets[i] = wide.tokens[i] * n
    from_rows(table, wide.offsets, n, out)


@inlined
def draw_beside(i: int, lane: Lane, model: Model, wide: Wide, state: State, stats: Stats):
    """Draw the next token of lane i; return it, or -1 if its logits are not finite."""
    if not wide.is_finite[i]:
        return -1
    Vp, u = model.V_padded, wide.u[i]
    if lane.style == _ALONE:
        token = sample(wide.logit_rows + i * Vp, lane, u, model, state, stats)
    else:
        stats.entropy, stats.sampled_entropy = wide.entropy[i], wide.tempered_entropy[i]
        stats.confidence, stats.temperature = wide.confidence[i], lane.controls.temperature
        token = np.int64(wide.drawn[i])
        if lane.style == _FILTERED:
            token = draw_filtered(wide.z_rows + i * Vp, wide.p_rows + i * Vp, u, wide.tempered_mass[i],
                                  wide.tempered_mean[i], lane.controls, model, state, stats)  # fmt: skip
        below = np.float64(wide.logits[token * WIDTH + i]) - np.float64(wide.largest[i])
        stats.surprise = (wide.log_mass[i] - below) / LN2
    accept(lane, token)
    return token


@inlined
def hand_over(lanes: Lane, model: Model, wide: Wide):
    """Move the lanes that run to the front, and their keys and values to their caches; return their number."""
    active = 0
    for i in range(WIDTH):
        if is_running(lanes[i]):
            move_rings(i, lanes[i], False, model, wide)
            if i > active:
                swap_records(lanes[i], lanes[active])
            active += 1
    return active


@inlined
def move_rings(i: int, lane: Lane, is_in: bool, model: Model, wide: Wide):
    """Copy the keys and values of lane i from its cache into the rings of all lanes, or back."""
    for b in range(model.L):
        move_ring(i, lane, is_in, b, model, wide)


@unit
def move_ring(i: i64, lane: Lane, is_in: i64, b: i64, model: Model, wide: Wide) -> void:
    """Copy the keys and values of lane i in one block from its cache into the rings of all lanes, or back.

    The last position lies in slot `position - 1` of the cache, and in slot `clock - 1` of the rings, each mod T.

    Args:
        i: number of the lane.
        lane: the lane.
        is_in: whether to copy into the rings.
        b: number of the block.
        model: the model.
        wide: the rings.
    """
    block = model.blocks[b]
    T, D, pairs, slots = block.T, model.D, (model.D + 1) // 2, (block.T + 1) // 2
    keys, values = words(lane.cache + block.cache), shorts(lane.cache + block.cache + block.values)
    wide_keys = wide.cache + block.cache * WIDTH + i
    wide_values = shorts(wide.cache + (block.cache + block.values) * WIDTH + i)
    for j in range(1, min(lane.position, T - 1) + 1):
        slot, wide_slot = (lane.position - j) % T, (wide.clock[0] - j) % T
        for h in range(model.H):
            if block.q >= 0:
                for k in range(pairs):
                    one, other = (h * pairs + k) * block.T_padded + slot, ((h * T + wide_slot) * pairs + k) * WIDTH
                    if is_in:
                        wide_keys[other] = keys[one]
                    else:
                        keys[one] = wide_keys[other]
            for d in range(D):
                one = 2 * ((h * slots + slot // 2) * model.D_padded + d) + slot % 2
                other = 2 * ((h * slots + wide_slot // 2) * D + d) * WIDTH + wide_slot % 2
                if is_in:
                    wide_values[other] = values[one]
                else:
                    values[one] = wide_values[other]
