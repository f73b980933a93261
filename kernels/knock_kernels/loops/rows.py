"""How a lane takes a row of a batch, and records its tokens and its end."""

from __future__ import annotations

from knock_kernels.lang.layout import FinishReason, Job, Lane, Model, Row, State, Stats
from knock_kernels.lang.records import address_of, copy_record, exists
from knock_kernels.lang.units import f32p, inlined
from knock_kernels.loops.decode import advance_automaton, read_rows
from knock_kernels.ops.attention import copy

_FULL, _NOT_FINITE = int(FinishReason.length), int(FinishReason.not_finite)


@inlined
def begin(row: Row, lane: Lane, read_last: int, shared_prompt: f32p, model: Model, state: State):
    """Put a row into a lane; return the address of the prompt that was read last."""
    before = row.before
    lane.row, lane.token, lane.position = row, row.prompt[before], before
    lane.seed, lane.index, lane.bias = row.seed, row.index, row.bias
    lane.automaton, lane.state, lane.is_masked = row.automaton, row.state, row.is_masked
    lane.context, lane.context_size = row.context, row.context_size
    lane.step, lane.left, lane.finish_reason = 0, row.max_new_tokens, 0
    copy_record(row.controls, lane.controls)
    if before == 0:
        return read_last
    if read_last != address_of(row.prompt):
        read_rows(row.prompt, 0, before, shared_prompt, 0, model, state)
    copy(shared_prompt, lane.cache, model.cache_size)
    if not model.is_relative:
        for j in range(before):
            lane.history[j] = row.prompt[j]
    return address_of(row.prompt)


@inlined
def is_running(lane: Lane):
    """Return whether a lane has a row that has not ended."""
    return exists(lane.row) and lane.row.finish_reason == 0


@inlined
def stats_of(lane: Lane, job: Job, unused: Stats):
    """Return where the statistics of a lane's next token go."""
    return job.stats + (lane.row.out + lane.step) if exists(job.stats) else unused


@inlined
def record(lane: Lane, token: int, job: Job, model: Model):
    """Record the token that a lane has drawn, and how its row ended if it did; -1 stands for none."""
    row, length = lane.row, lane.step  # the token is counted already
    if token < 0:
        finish(row, length, length, _NOT_FINITE)
        return
    job.tokens[row.out + length - 1] = token
    reason = advance_automaton(lane, token, model)
    if reason != 0:
        finish(row, length, length - lane.cut, reason)
    elif lane.left == 0:
        finish(row, length, length, _FULL)


@inlined
def finish(row: Row, length: int, kept: int, reason: int):
    """Record how a row ended."""
    row.length, row.kept, row.finish_reason = length, kept, reason
