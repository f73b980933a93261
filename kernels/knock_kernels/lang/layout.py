"""Memory layout: the records that Python and the kernels share, each from one NumPy dtype.

A record's fields are 8 bytes wide: numbers, or addresses of arrays and other records. Python makes records with
`Record.array` and fills them in by name, `lane["token"] = 3`; a kernel takes the address of one and reads `lane.token`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, auto
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from knock_kernels.lang.cpu import REGISTER

WIDTH = 16  # elements of a vector, whatever the registers of the CPU; sums keep as many partial sums
ROWS = 8  # lanes in a group, and positions that attend together
CHAINS = 4  # partial sums of weighted values: slot i adds to sum i mod CHAINS
SPAN = 64  # positions of one sequence that pass through a layer together
PANEL = 12 * REGISTER  # columns of a panel of packed weights
ZERO_BYTE = 128  # the unsigned byte that stands for code 0 of a row

RecordArray = npt.NDArray[np.void]


def padded(size: int) -> int:
    """Return a size rounded up to a whole number of vectors."""
    return -(-size // WIDTH) * WIDTH


class Field(NamedTuple):
    """The kind of a field.

    Attributes:
        dtype: of a number, or of what an address points to if that is no record.
        record: the record that an address points to.
        is_pointer: whether the field holds an address; 0 is the address of nothing.
    """

    dtype: type[np.generic] | None
    record: type[Record] | None = None
    is_pointer: bool = False

    @property
    def target(self) -> np.dtype[Any]:
        """The dtype of a number, or of what an address points to."""
        return np.dtype(self.dtype) if self.record is None else self.record.dtype


def pointer(to: Any) -> Any:
    """Return the kind of a field that holds the address of numbers or records."""
    return Field(to.dtype, is_pointer=True) if isinstance(to, Field) else Field(None, to, is_pointer=True)


# Typed as Any: in Python these are classes' attributes, in kernels they are numbers.
i64: Any = Field(np.int64)
i32: Any = Field(np.int32)
f32: Any = Field(np.float32)
i16: Any = Field(np.int16)
f64: Any = Field(np.float64)


class Record:
    """A record. Subclasses list their fields; those declared `frozen` are never written by a kernel."""

    dtype: ClassVar[np.dtype[np.void]]
    fields: ClassVar[Mapping[str, Field]]
    frozen: ClassVar[bool]

    def __init_subclass__(cls, *, frozen: bool = False) -> None:
        cls.fields = {name: kind for name, kind in vars(cls).items() if isinstance(kind, Field)}
        cls.dtype = np.dtype([(name, "i8" if f.is_pointer else f.dtype) for name, f in cls.fields.items()])
        cls.frozen = frozen

    @classmethod
    def array(cls, count: int = 1) -> RecordArray:
        """Return `count` records of zeros."""
        return np.zeros(count, cls.dtype)


class Linear(Record, frozen=True):
    """A matrix product over packed weights, [K, N]."""

    K = i64  # rows of weights: numbers, or words of two or four codes
    N = i64  # padded
    weights = pointer(f32)  # in panels; absent if there are codes
    codes = pointer(i32)  # words of two int16 codes or four int8 codes, in panels
    corrections = pointer(i32)  # [N], -ZERO_BYTE times the sum of each column's int8 codes; absent for int16 codes
    factor = pointer(f32)  # [N], of the sums of codes
    is_added = i64  # whether products are added to the output; otherwise it starts from the bias
    bias = pointer(f32)  # [N]


class Block(Record, frozen=True):
    """A block of a model."""

    T = i64
    R = i64  # reach of the reweight logits, at most T; 0 if there are none
    T_padded = i64
    R_padded = i64
    N = i64  # columns of the fused projection, padded
    # Columns of the fused projection [q | k | v of each head, padded | r of each head, padded]; -1 where absent
    q = i64
    k = i64
    v = i64
    r = i64
    inputs = pointer(Linear)  # the fused projection
    w0 = pointer(Linear)
    w1 = pointer(Linear)
    # Offset in the cache of a sequence: keys [C, T_padded], then values [H, T in whole chains, D_padded]; or codes of
    # both, in words of two: keys [H, ceil(D / 2), T_padded], then values [H, ceil(T / 2), D_padded]
    cache = i64
    values = i64  # offset of the values after the keys
    turned = i64  # offset in State.turned
    turned_stride = i64
    logit_factor = pointer(f32)  # [H], of sums of products of codes of queries and keys
    value_factor = pointer(f32)  # [H], of sums of products of codes of attention weights and values


class Model(Record, frozen=True):
    """The sizes and weights of a model. Weights are float32; widths are padded with zeros to whole vectors."""

    V = i64
    T = i64  # the longest window
    C = i64
    H = i64
    D = i64
    F = i64
    L = i64
    is_relative = i64
    V_padded = i64
    C_padded = i64
    D_padded = i64
    F_padded = i64
    embed = pointer(f32)  # [V, C_padded]
    pos = pointer(f32)  # [T, C_padded]; absent in a relative model
    blocks = pointer(Block)  # [L]
    output = pointer(Linear)  # the output layer
    zeros = pointer(f32)  # [max(T_padded, D_padded)]
    # The table of what the first blocks compute, see loops/table.py. A row is the residual stream [C_padded] after
    # `first` blocks, then block `first`'s fused projection of it [N], if there is such a block. It may be absent.
    table = pointer(f32)
    filled = pointer(i16)  # whether each row of the table has been computed
    table_stride = i64  # numbers of a row
    first = i64  # number of blocks that the table replaces: 1 if the first block's window is at most 2, or 0
    cache_size = i64  # of one sequence, in floats or words
    has_codes = i64  # whether weights are codes
    code_bytes = i64  # of the codes of weights and rows: 2, or 1
    head_codes = i64  # codes of the queries of all heads, padded
    norm_scale = f64  # int16 codes for each unit of a layer normalisation
    norm_codes = f64  # the largest int8 code of a normalised row
    hidden_codes = f64  # the largest code of the hidden layer


class State(Record, frozen=True):
    """The buffers that a thread computes in. The record is not written; what its addresses point to is."""

    tokens = pointer(i64)  # [SPAN]: the rows of a forward pass, ...
    positions = pointer(i64)  # [SPAN]: number of tokens before each in its sequence
    previous = pointer(i64)  # [SPAN]: the token before each, -1 at position 0
    caches = pointer(i64)  # [SPAN]: address of each row's cache
    entries = pointer(i64)  # [SPAN]: where the row of the table begins for each
    first_cache = pointer(f32)  # the cache of the blocks that the table replaces, while a row of it is computed
    x = pointer(f32)  # [SPAN, C_padded], the residual stream
    n = pointer(f32)  # [SPAN, C_padded], normalised
    projected = pointer(f32)  # [SPAN, N of the fused projection]
    hidden = pointer(f32)  # [SPAN, F_padded]
    attended = pointer(f32)  # [max(ROWS, H), D_padded]
    scores = pointer(f32)  # [max(ROWS, H), T_padded]
    turned = pointer(f32)  # reweight logits in ring order, [max(ROWS, H), turned_stride] for one block or several
    # [SPAN, padded(max(C, F))], of rows that are multiplied: int16, or unsigned bytes with ZERO_BYTE added
    codes = pointer(i16)
    scales = pointer(f32)  # [SPAN], of each row of codes
    query = pointer(i16)  # [2, head_codes], codes of the queries, then of the keys of all heads
    weights = pointer(i16)  # [H, T_padded], codes of attention weights
    newest = pointer(i32)  # [max(ROWS, H)], products of each head's query with its newest key
    totals = pointer(f32)  # [max(ROWS, H)]
    logits = pointer(f32)  # [ROWS, V_padded]
    work = pointer(f32)  # [5, V_padded], scratch of the sampler


class Wide(Record, frozen=True):
    """The buffers of WIDTH lanes side by side: element i of every vector belongs to lane i.

    Their rings turn together: at a step, the newest key and value of every lane are in slot `clock` mod T.
    """

    clock = pointer(i64)  # [1], steps so far
    entries = pointer(i64)  # [WIDTH], where the row of each lane's last token begins, in the table or the embeddings
    seen = pointer(i32)  # [WIDTH], number of tokens up to the last
    cache = pointer(i32)  # of each block: keys [H, T, ceil(D / 2), WIDTH], then values [H, ceil(T / 2), D, WIDTH]
    offsets = pointer(i64)  # [WIDTH], where each row of a wide array begins in it
    x = pointer(f32)  # [C_padded, WIDTH], the residual stream
    n = pointer(f32)  # [C_padded, WIDTH], normalised
    codes = pointer(i32)  # [words of a row, WIDTH], of the row that is multiplied
    scales = pointer(f32)  # [WIDTH], of each row of codes
    projected = pointer(f32)  # [N of the fused projection, WIDTH]
    hidden = pointer(f32)  # [F_padded, WIDTH]
    query = pointer(i32)  # [ceil(D / 2), WIDTH], words of codes
    scores = pointer(f32)  # [T, WIDTH]
    weights = pointer(i32)  # [ceil(T / 2), WIDTH], words of codes of attention weights
    logits = pointer(f32)  # [V_padded, WIDTH]
    z = pointer(f32)  # [V_padded, WIDTH]
    p = pointer(f32)  # [V_padded, WIDTH]
    logit_rows = pointer(f32)  # [WIDTH, V_padded]
    z_rows = pointer(f32)  # [WIDTH, V_padded]
    p_rows = pointer(f32)  # [WIDTH, V_padded]
    partial = pointer(f32)  # [WIDTH, WIDTH], partial sums
    partial_mass = pointer(f64)  # [WIDTH, WIDTH]
    partial_mean = pointer(f64)  # [WIDTH, WIDTH]
    u = pointer(f64)  # [WIDTH], the uniform number that selects each token
    temperature = pointer(f32)  # [WIDTH]
    top_p = pointer(f64)  # [WIDTH], 1 in lanes without this filter
    is_settled = pointer(i32)  # [WIDTH], whether top_p has been applied
    drawn = pointer(i32)  # [WIDTH], the tokens that are drawn for all lanes together
    is_finite = pointer(i32)  # [WIDTH], whether the logits of each lane are
    largest = pointer(f32)  # [WIDTH], the largest logit
    log_mass = pointer(f64)  # [WIDTH], at temperature 1
    entropy = pointer(f64)  # [WIDTH]
    confidence = pointer(f64)  # [WIDTH]
    tempered_mass = pointer(f64)  # [WIDTH], the sum of p at the temperature of each lane
    tempered_mean = pointer(f64)  # [WIDTH], the mean of z under p
    tempered_entropy = pointer(f64)  # [WIDTH]


class Controls(Record):
    """The sampling controls of a row. A control that is off has its off value, or -1 if that is None."""

    temperature = f64
    top_n_sigma = f64
    top_k = f64
    typical_p = f64
    top_p = f64
    min_p = f64
    target_entropy = f64
    ratio_rule = f64
    min_temp = f64
    max_temp = f64
    mirostat = f64
    mirostat_eta = f64
    mu = f64
    no_repeat_ngram = f64
    dry_multiplier = f64
    dry_base = f64
    dry_allowed_length = f64
    repetition_range = f64


class Stats(Record):
    """The statistics of a token."""

    entropy = f64
    sampled_entropy = f64
    confidence = f64
    temperature = f64
    surprise = f64


class Row(Record):
    """A row to generate. The last three fields are written when it ends."""

    prompt = pointer(i64)
    before = i64  # number of prompt tokens before the last one
    max_new_tokens = i64
    out = i64  # offset in the job's tokens and statistics
    seed = i64  # 64 bits, unsigned
    index = i64
    controls = pointer(Controls)
    bias = pointer(f32)  # [V]; may be absent
    automaton = pointer(i32)  # [states, V + StateField]; may be absent
    state = i64  # state of the automaton after the prompt
    is_masked = i64  # whether the automaton forbids tokens, rather than reject the text after them
    context = pointer(i32)  # the prompt, with room for the row behind it; absent if no control needs it
    context_size = i64  # number of tokens of the prompt
    length = i64  # number of tokens generated
    kept = i64  # number of tokens before the stop string or the boundary
    finish_reason = i64  # a FinishReason


class Lane(Record):
    """A place of a group, and the text that runs in it."""

    token = i64  # the last token, not yet read
    previous = i64  # the token before it, -1 at position 0
    position = i64  # number of tokens before it
    cache = pointer(f32)
    history = pointer(i64)  # [T]: in an absolute model, the token in each slot, without the last token
    seed = i64  # 64 bits, unsigned
    index = i64
    step = i64  # draws so far
    controls = pointer(Controls)  # its own: mirostat updates them
    bias = pointer(f32)  # as in Row, like the next ones
    automaton = pointer(i32)
    state = i64
    is_masked = i64
    left = i64  # tokens that may still be drawn
    context = pointer(i32)
    context_size = i64
    finish_reason = i64
    cut = i64  # tokens to cut from the end of a text that ended
    row = pointer(Row)  # used by `run` only
    style = i64  # a Style, used by lanes side by side only


class Job(Record, frozen=True):
    """Rows that threads generate together."""

    count = i64
    order = pointer(i64)  # [count]: indices of rows, in the order in which they are taken
    rows = pointer(Row)
    next = pointer(i64)  # position of the next row to take in the order of rows; threads share it
    stop = pointer(i64)  # nonzero: generate no more steps
    tokens = pointer(i32)  # see Row.out
    stats = pointer(Stats)  # see Row.out; absent to discard them


class FinishReason(IntEnum):
    """Why a row ended."""

    not_done = 0
    length = auto()
    stop = auto()
    not_finite = auto()  # logits were not finite at the last step
    end = auto()  # the boundary was drawn
    match = auto()  # the text matches, and cannot continue
    rejected = auto()  # the text does not match


class Style(IntEnum):
    """How the next token of a lane can be drawn, among lanes side by side."""

    plain = 0  # from the distribution at the lane's temperature, for all lanes together
    nucleus = auto()  # from that distribution after top_p alone, for all lanes together if no tokens are close
    filtered = auto()  # from that distribution after filters
    alone = auto()  # by the whole pipeline of one lane


class StateField(IntEnum):
    """Index of each field of an automaton's state, after its V next states."""

    cut = 0  # tokens to cut from a text that ends in this state
    reason = auto()  # why a text ends in this state, 0 if it continues
    distance = auto()  # fewest further tokens after which a text may end
    least = auto()  # fewest tokens left with which a text can continue; it ends if there are fewer
    enough = auto()  # with as many tokens left, every token with a next state may be drawn; 0 if all tokens may be
