"""The entry point for many rows: lanes that take the next row when theirs ends, in threads that share the rows."""

from __future__ import annotations

from knock_kernels.lang.layout import ROWS, Job, Lane, Model, State, Stats, Wide
from knock_kernels.lang.records import swap_records
from knock_kernels.lang.threads import look, take_next
from knock_kernels.lang.units import f32p, i64, inlined, unit, void
from knock_kernels.loops.decode import advance_all, draw
from knock_kernels.loops.rows import begin, is_running, record, stats_of
from knock_kernels.loops.wide import run_wide


@unit
def run(
    job: Job, most: i64, lanes: Lane, shared_prompt: f32p, unused: Stats, wide: Wide, model: Model, state: State
) -> void:
    """Generate rows. A lane whose row ends takes the next one; threads share the rows.

    Many lanes run side by side. Once no row is left to take and few lanes still run, their rows end one by one.

    Args:
        job: the rows, and where their tokens and statistics go.
        most: maximum number of lanes, 1 to ROWS, or WIDTH for lanes side by side; fewer leave rows to other threads.
        lanes: [WIDTH], with addresses of a cache, controls and history for each.
        shared_prompt: cache of the prompt that was read last, which the next rows may share.
        unused: where statistics go that the job discards.
        wide: the buffers of lanes side by side; used if `most` is above ROWS.
        model: the model.
        state: scratch.
    """
    active, left, read_last = 0, 1, 0
    if most > ROWS:
        active, left = run_wide(job, lanes, shared_prompt, unused, wide, model, state), 0
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
            lane = lanes[i]
            record(lane, draw(i, lane, model, state, stats_of(lane, job, unused)), job, model)
        active = close_ranks(lanes, active)


@inlined
def close_ranks(lanes: Lane, active: int):
    """Move the lanes of unfinished rows to the front; return their number."""
    i = 0
    while i < active:
        if is_running(lanes[i]):
            i += 1
        else:
            active -= 1
            swap_records(lanes[i], lanes[active])
    return active
