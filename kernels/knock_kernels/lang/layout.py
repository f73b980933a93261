"""Memory layout of a model: the plan, an int64 array of sizes and offsets that every kernel reads.

Offsets count floats. Widths are padded with zeros to whole vectors. The weights of a block are contiguous and laid out
alike in every block, so block b starts at `block_weights + b * block_stride`.
"""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np
import numpy.typing as npt

from knock_kernels.lang.cpu import WIDTH


class Part(IntEnum):
    """Index of each size or offset in the plan."""

    V = 0
    T = auto()
    C = auto()
    H = auto()
    D = auto()
    F = auto()
    L = auto()
    relative = auto()
    V_padded = auto()
    T_padded = auto()
    C_padded = auto()
    D_padded = auto()
    F_padded = auto()
    # Columns of the fused projection [q | k | v of each head, padded | r of each head, padded]; -1 where absent.
    q = auto()
    k = auto()
    v = auto()
    r = auto()
    N_in = auto()
    # Weights
    embed = auto()
    pos = auto()
    block_weights = auto()
    block_stride = auto()
    w_in = auto()  # w_in to w1: offsets within a block
    b_in = auto()
    w0 = auto()
    b0 = auto()
    w1 = auto()
    w_out = auto()
    b_out = auto()
    zeros = auto()
    weights_size = auto()
    # Cache of one sequence: for each block keys [C, T_padded], then values [H, T, D_padded]
    cache_stride = auto()
    cache_values = auto()
    cache_size = auto()
    # Scratch for SPAN rows
    x = auto()
    n = auto()
    projected = auto()
    hidden = auto()
    # Scratch for ROWS rows
    attended = auto()
    scores = auto()
    turned = auto()
    turned_stride = auto()
    totals = auto()
    logits = auto()
    work = auto()  # scratch of the sampler, [5 * V]
    scratch_size = auto()
    # The first block's projection of every token, or of every (token, slot) in an absolute model; -1 if absent
    table = auto()


class Lane(IntEnum):
    """Index of each field of a lane, int64."""

    token = 0  # the last token, not yet read
    position = auto()  # number of tokens before it
    cache = auto()  # offset in scratch
    seed = auto()  # 64 bits, unsigned
    index = auto()
    step = auto()  # draws so far
    bias = auto()  # offset in biases, or -1
    automaton = auto()  # offset in automata, or -1
    state = auto()  # state of its automaton
    left = auto()  # tokens that may still be drawn
    masked = auto()  # whether the automaton forbids tokens, rather than reject the text after them
    finish_reason = auto()  # a FinishReason
    cut = auto()  # tokens to cut from the end of a text that ended
    context = auto()  # offset in contexts, or -1 if no control needs the text so far
    context_size = auto()  # number of its tokens
    # Used by `run` only
    row = auto()  # index of its row
    home = auto()  # index of its cache, controls and history


class RowField(IntEnum):
    """Index of each field of a row to generate, int64. The last three are written when the row ends."""

    prompt = 0  # offset in prompts
    before = auto()  # number of prompt tokens before the last one
    max_new_tokens = auto()  # maximum number of tokens to generate
    out = auto()  # offset in tokens, and index of the first row of statistics
    seed = auto()  # 64 bits, unsigned
    index = auto()
    controls = auto()  # index of its row of controls
    bias = auto()  # offset in biases, or -1
    automaton = auto()  # offset in automata, or -1
    state = auto()  # state of the automaton after the prompt
    masked = auto()  # see Lane
    context = auto()  # offset in contexts of the prompt, with room for the row behind it, or -1
    context_size = auto()  # number of tokens of the prompt
    length = auto()  # number of tokens generated
    kept = auto()  # number of tokens before the stop string or the boundary
    finish_reason = auto()  # a FinishReason


class FinishReason(IntEnum):
    """Why a row ended."""

    not_done = 0
    length = auto()
    stop = auto()
    not_finite = auto()  # logits were not finite at the last step
    end = auto()  # the boundary was drawn
    match = auto()  # the text matches, and cannot continue
    rejected = auto()  # the text does not match


class StateField(IntEnum):
    """Index of each field of an automaton's state, after its V next states."""

    cut = 0  # tokens to cut from a text that ends in this state
    reason = auto()  # why a text ends in this state, 0 if it continues
    distance = auto()  # fewest further tokens after which a text may end
    least = auto()  # fewest tokens left with which a text can continue; it ends if there are fewer
    enough = auto()  # with as many tokens left, every token with a next state may be drawn; 0 if all tokens may be


class Shared(IntEnum):
    """Index of each field that threads share, int64."""

    next = 0  # position of the next row to take in the order of rows
    stop = auto()  # nonzero: generate no more steps


class Control(IntEnum):
    """Index of each control of a lane. A control that is off has its off value, or -1 if that is None."""

    temperature = 0
    top_n_sigma = auto()
    top_k = auto()
    typical_p = auto()
    top_p = auto()
    min_p = auto()
    target_entropy = auto()
    ratio_rule = auto()
    min_temp = auto()
    max_temp = auto()
    mirostat = auto()
    mirostat_eta = auto()
    mu = auto()
    no_repeat_ngram = auto()
    dry_multiplier = auto()
    dry_base = auto()
    dry_allowed_length = auto()
    repetition_range = auto()


class Stat(IntEnum):
    """Index of each statistic of a token."""

    entropy = 0
    sampled_entropy = auto()
    confidence = auto()
    temperature = auto()
    surprise = auto()


ROWS = 8  # lanes in a group, and positions that attend together
SPAN = 64  # positions of one sequence that pass through a layer together
PANEL = 12  # width of a panel of packed weights, in vectors

Plan = npt.NDArray[np.int64]


def padded(size: int) -> int:
    """Return a size rounded up to a whole number of vectors."""
    return -(-size // WIDTH) * WIDTH


def make_plan(
    V: int, T: int, C: int, H: int, F: int, L: int, *, relative: bool, content: bool, reweight: bool, table: bool
) -> Plan:
    """Return the plan of a model of these sizes."""
    D = C // H
    at = dict.fromkeys(Part, 0)
    at |= {Part.V: V, Part.T: T, Part.C: C, Part.H: H, Part.D: D, Part.F: F, Part.L: L, Part.relative: int(relative)}
    Vp, Tp, Cp, Dp, Fp = (padded(size) for size in (V, T, C, D, F))
    at |= {Part.V_padded: Vp, Part.T_padded: Tp, Part.C_padded: Cp, Part.D_padded: Dp, Part.F_padded: Fp}
    column = 0
    for part, width in ((Part.q, Cp * content), (Part.k, Cp * content), (Part.v, H * Dp), (Part.r, H * Tp * reweight)):
        at[part] = column if width else -1
        column += width
    at[Part.N_in] = column

    def lay(sizes: dict[Part, int]) -> int:
        place = 0
        for part, size in sizes.items():
            at[part] = place
            place += padded(size)
        return place

    at[Part.block_stride] = lay(
        {Part.w_in: C * column, Part.b_in: column, Part.w0: C * Fp, Part.b0: Fp, Part.w1: F * Cp}
    )
    at[Part.weights_size] = lay(
        {
            Part.embed: V * Cp,
            Part.pos: 0 if relative else T * Cp,
            Part.block_weights: L * at[Part.block_stride],
            Part.w_out: C * Vp,
            Part.b_out: Vp,
            Part.zeros: max(Tp, Dp),
            Part.table: V * (1 if relative else T) * column + WIDTH if table else 0,
        }
    )
    if not table:
        at[Part.table] = -1
    at[Part.cache_values] = C * Tp * content
    at[Part.cache_stride] = at[Part.cache_values] + H * T * Dp
    at[Part.cache_size] = L * at[Part.cache_stride]
    at[Part.turned_stride] = padded(T + 2 * Tp) if relative and reweight else 0
    at[Part.scratch_size] = lay(
        {
            Part.x: SPAN * Cp + Dp,
            Part.n: SPAN * Cp,
            Part.projected: SPAN * column + WIDTH,
            Part.hidden: SPAN * Fp,
            Part.attended: max(ROWS, H) * Dp,
            Part.scores: max(ROWS, H) * Tp,
            Part.turned: max(ROWS, H) * at[Part.turned_stride],
            Part.totals: max(ROWS, H),
            Part.logits: ROWS * Vp,
            Part.work: 5 * V,
        }
    )
    return np.array([at[part] for part in Part], np.int64)
