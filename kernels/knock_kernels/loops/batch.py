"""The entry point for many rows: lanes that take the next row when theirs ends, in threads that share the rows."""

from __future__ import annotations

from knock_kernels.lang.layout import FinishReason, Job, Lane, Model, Row, State, Stats
from knock_kernels.lang.records import address_of, copy_record, exists, swap_records
from knock_kernels.lang.threads import look, take_next
from knock_kernels.lang.units import f32p, i64, inlined, unit, void
from knock_kernels.loops.decode import advance_all, advance_automaton, draw, read_rows
from knock_kernels.ops.attention import copy

_FULL, _NOT_FINITE = int(FinishReason.length), int(FinishReason.not_finite)


@unit
def run(job: Job, most: i64, lanes: Lane, shared_prompt: f32p, unused: Stats, model: Model, state: State) -> void:
    """Generate rows, up to ROWS at a time. A lane whose row ends takes the next one; threads share the rows.

    Args:
        job: the rows, and where their tokens and statistics go.
        most: maximum number of lanes, 1 to ROWS; fewer than ROWS leave rows to other threads.
        lanes: [ROWS], with addresses of a cache, controls and history for each.
        shared_prompt: cache of the prompt that was read last, which the next rows may share.
        unused: where statistics go that the job discards.
        model: the model.
        state: scratch.
    """
    active, left, read_last = 0, 1, 0
    while look(job.stop) == 0:
        while left and active < most:
            place = take_next(job.next)
            if place >= job.count:
                left = 0
                break
            read_last = begin(job.rows[job.order[place]], lanes[active], read_last, shared_prompt, model, state)
            active += 1
        if active == 0:
            break
        advance_all(lanes, active, model, state)
        for i in range(active):
            step(i, lanes[i], job, unused, model, state)
        active = close_ranks(lanes, active)


@inlined
def step(i: int, lane: Lane, job: Job, unused: Stats, model: Model, state: State):
    """Draw the next token of a lane, and record how its row ended if it did."""
    row, step = lane.row, lane.step
    place = row.out + step
    token = draw(i, lane, model, state, job.stats + place if exists(job.stats) else unused)
    if token < 0:
        finish(row, step, step, _NOT_FINITE)
        return
    job.tokens[place] = token
    reason = advance_automaton(lane, token, model)
    if reason != 0:
        finish(row, step + 1, step + 1 - lane.cut, reason)
    elif lane.left == 0:
        finish(row, step + 1, step + 1, _FULL)


@inlined
def begin(row: Row, lane: Lane, read_last: int, shared_prompt: f32p, model: Model, state: State):
    """Put a row into a lane; return the address of the prompt that was read last."""
    before = row.before
    lane.row, lane.token, lane.position = row, row.prompt[before], before
    lane.previous = row.prompt[before - 1] if before > 0 else -1
    lane.seed, lane.index, lane.bias = row.seed, row.index, row.bias
    lane.automaton, lane.state, lane.is_masked = row.automaton, row.state, row.is_masked
    lane.context, lane.context_size = row.context, row.context_size
    lane.step, lane.left, lane.finish_reason = 0, row.max_new_tokens, 0
    copy_record(row.controls, lane.controls)
    if before == 0:
        return read_last
    if read_last != address_of(row.prompt):
        read_rows(row.prompt, -1, 0, before, shared_prompt, 0, model, state)
    copy(shared_prompt, lane.cache, model.cache_size)
    if not model.is_relative:
        for j in range(before):
            lane.history[j] = row.prompt[j]
    return address_of(row.prompt)


@inlined
def finish(row: Row, length: int, kept: int, reason: int):
    """Record how a row ended."""
    row.length, row.kept, row.finish_reason = length, kept, reason


@inlined
def close_ranks(lanes: Lane, active: int):
    """Move the lanes of unfinished rows to the front; return their number."""
    i = 0
    while i < active:
        if lanes[i].row.finish_reason == 0:
            i += 1
        else:
            active -= 1
            swap_records(lanes[i], lanes[active])
    return active
