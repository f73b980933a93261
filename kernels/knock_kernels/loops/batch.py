"""The entry point for many rows: lanes that take the next row when theirs ends, in threads that share the rows."""

from __future__ import annotations

from knock_kernels.lang.cpu import WIDTH
from knock_kernels.lang.layout import ROWS, Control, FinishReason, Lane, Part, RowField, Shared
from knock_kernels.lang.simd import at, copy_vectors
from knock_kernels.lang.threads import look, take_next
from knock_kernels.lang.units import f32p, f64p, i32p, i64, i64p, inlined, unit, void
from knock_kernels.loops.decode import advance_all, advance_automaton, draw, read_rows

(_TOKEN, _POSITION, _CACHE, _SEED, _INDEX, _STEP, _BIAS, _AUTOMATON, _STATE, _LEFT, _MASKED, _REASON, _CUT, _CONTEXT,
 _CONTEXT_SIZE, _ROW, _HOME) = (int(part) for part in Lane)  # fmt: skip
(_PROMPT, _BEFORE, _MAX_NEW_TOKENS, _OUT, _ROW_SEED, _ROW_INDEX, _ROW_CONTROLS, _ROW_BIAS, _ROW_AUTOMATON, _ROW_STATE,
 _ROW_MASKED, _ROW_CONTEXT, _ROW_CONTEXT_SIZE, _LENGTH, _KEPT,
 _FINISH_REASON) = (int(part) for part in RowField)  # fmt: skip
_FULL, _NOT_FINITE = int(FinishReason.length), int(FinishReason.not_finite)
_NEXT, _STOP = int(Shared.next), int(Shared.stop)
_LANE, _ROW_SIZE, _CONTROLS = len(Lane), len(RowField), len(Control)
_V, _T, _RELATIVE, _CACHE_SIZE = (int(part) for part in (Part.V, Part.T, Part.relative, Part.cache_size))


_INPUTS = (i64p, i64, i64, i64p, i64p, f64p, f32p, i32p, i32p, i64p)
_SCRATCH = (i64p, f64p, i64p, i64p, i64p)
_MODEL_AND_OUTPUTS = (f32p, f32p, i64p, i32p, f64p, i64)


@unit(void(*_INPUTS, *_SCRATCH, *_MODEL_AND_OUTPUTS))
def run(order, count, most, table, shared, controls, biases, automata, contexts, prompts, lanes, lane_controls, history,
        caches, inputs, weights, scratch, plan, tokens, stats, stats_stride):  # fmt: skip
    """Generate rows, up to ROWS at a time. A lane whose row ends takes the next one; threads share the rows.

    Args:
        order: [count], int64: indices of rows, in the order in which they are taken.
        count: number of rows.
        most: maximum number of lanes, 1 to ROWS; fewer than ROWS leave rows to other threads.
        table: [N, RowField], int64; the last three fields of each row are written.
        shared: [Shared], int64.
        controls: [N, Control], float64; see `RowField.controls`.
        biases: [N, V], float32; see `RowField.bias`.
        automata: tables [states, V + StateField], int32, one after the other; see `RowField.automaton`.
        contexts: int32, written; see `RowField.context`.
        prompts: int64, one after the other; see `RowField.prompt`.
        lanes: scratch [ROWS, Lane], int64.
        lane_controls: scratch [ROWS, Control], float64.
        history: scratch [ROWS, T], int64.
        caches: [ROWS + 1], int64: offset in `scratch` of each lane's cache. The last cache is for the prompt that was
            read last, which the next rows may share.
        inputs: scratch [3 * SPAN], int64.
        weights: as laid out by `plan`.
        scratch: as laid out by `plan`, followed by the caches.
        plan: sizes and offsets.
        tokens: int32, written; see `RowField.out`.
        stats: [N, Stat], float64, written; see `RowField.out`.
        stats_stride: length of Stat, or 0 to discard the statistics.
    """
    T, active, left, read_last = plan[_T], 0, 1, -1
    for home in range(ROWS):
        at(lanes, home * _LANE)[_HOME] = home
    while look(at(shared, _STOP)) == 0:
        while left and active < most:
            place = take_next(at(shared, _NEXT))
            if place >= count:
                left = 0
                break
            read_last = begin(order[place], at(lanes, active * _LANE), read_last, table, controls, prompts,
                              lane_controls, history, caches, inputs, weights, scratch, plan)  # fmt: skip
            active += 1
        if active == 0:
            break
        advance_all(lanes, active, inputs, weights, scratch, plan)
        for i in range(active):
            lane = at(lanes, i * _LANE)
            row, home, step = at(table, lane[_ROW] * _ROW_SIZE), lane[_HOME], lane[_STEP]
            place = row[_OUT] + step
            token = draw(i, lane, at(lane_controls, home * _CONTROLS), biases, automata, contexts,
                         at(history, home * T), inputs, weights, scratch, plan,
                         at(stats, place * stats_stride))  # fmt: skip
            if token < 0:
                finish(row, step, step, _NOT_FINITE)
                continue
            tokens[place] = token
            reason = advance_automaton(lane, token, automata, plan)
            if reason != 0:
                finish(row, step + 1, step + 1 - lane[_CUT], reason)
            elif lane[_LEFT] == 0:
                finish(row, step + 1, step + 1, _FULL)
        active = close_ranks(lanes, active, table)


@inlined
def begin(index, lane, read_last, table, controls, prompts, lane_controls, history, caches, inputs, weights, scratch,
          plan):  # fmt: skip
    """Put a row into a lane; return the offset of the prompt that was read last."""
    T, home, row = plan[_T], lane[_HOME], at(table, index * _ROW_SIZE)
    prompt, before, cache = at(prompts, row[_PROMPT]), row[_BEFORE], caches[home]
    lane[_ROW], lane[_TOKEN], lane[_POSITION], lane[_CACHE] = index, prompt[before], before, cache
    lane[_SEED], lane[_INDEX], lane[_BIAS] = row[_ROW_SEED], row[_ROW_INDEX], row[_ROW_BIAS]
    lane[_AUTOMATON], lane[_STATE], lane[_MASKED] = row[_ROW_AUTOMATON], row[_ROW_STATE], row[_ROW_MASKED]
    lane[_CONTEXT], lane[_CONTEXT_SIZE] = row[_ROW_CONTEXT], row[_ROW_CONTEXT_SIZE]
    lane[_STEP], lane[_LEFT], lane[_REASON] = 0, row[_MAX_NEW_TOKENS], 0
    for c in range(_CONTROLS):
        lane_controls[home * _CONTROLS + c] = controls[row[_ROW_CONTROLS] * _CONTROLS + c]
    if before == 0:
        return read_last
    if read_last != row[_PROMPT]:
        read_rows(prompt, 0, before, caches[ROWS], 0, inputs, weights, scratch, plan)
    copy_vectors(at(scratch, caches[ROWS]), at(scratch, cache), plan[_CACHE_SIZE] // WIDTH)
    if not plan[_RELATIVE]:
        for j in range(before):
            history[home * T + j] = prompt[j]
    return row[_PROMPT]


@inlined
def finish(row, length, kept, reason):
    """Record how a row ended."""
    row[_LENGTH], row[_KEPT], row[_FINISH_REASON] = length, kept, reason


@inlined
def close_ranks(lanes, active, table):
    """Move the lanes of unfinished rows to the front; return their number."""
    i = 0
    while i < active:
        lane = at(lanes, i * _LANE)
        if at(table, lane[_ROW] * _ROW_SIZE)[_FINISH_REASON] == 0:
            i += 1
            continue
        active -= 1
        last = at(lanes, active * _LANE)
        for j in range(_LANE):
            lane[j], last[j] = last[j], lane[j]
    return active
