"""What a text must match: an automaton that knows which token may come next, and where the text ends.

Its table has a row for each state: the next state after each token, -1 where the token is forbidden, then the fields of
`StateField`.
"""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import FinishReason, StateField
from knock_kernels.lang.units import f32p, i32p, inlined
from knock_kernels.ops.elementary import NOTHING

_CUT, _REASON, _DISTANCE, _LEAST, _ENOUGH = (int(field) for field in StateField)
_FIELDS = len(StateField)
_LENGTH, _MATCH, _REJECTED = (
    int(reason) for reason in (FinishReason.length, FinishReason.match, FinishReason.rejected)
)


@inlined
def forbids(automaton: i32p, state: int, V: int):
    """Return whether a state may forbid a token: [states, V + StateField], [] -> []."""
    return automaton[state * (V + _FIELDS) + V + _ENOUGH] > 0


@inlined
def constrain(z: f32p, automaton: i32p, state: int, left: int, V: int):
    """Set the logits of forbidden tokens to -inf: [V] -> [V].

    A token is forbidden if it has no next state, or if the text could not end within the `left` tokens that may still
    be drawn, this one included.
    """
    width = V + _FIELDS
    after = automaton + state * width
    if left >= after[V + _ENOUGH]:
        for i in range(V):
            z[i] = z[i] if after[i] >= 0 else NOTHING
    else:
        for i in range(V):
            if after[i] < 0 or automaton[after[i] * width + V + _DISTANCE] >= left:
                z[i] = NOTHING


@inlined
def follow(automaton: i32p, state: int, token: int, left: int, V: int):
    """Return the state after a token, why the text ends there (0 if it continues), and how many tokens to cut.

    Only a text that was drawn without the constraints can be rejected.

    Args:
        automaton: [states, V + StateField], int32.
        state: the state before the token.
        token: the token.
        left: number of tokens that may still be drawn.
        V: vocabulary size.
    """
    width = V + _FIELDS
    after = np.int64(automaton[state * width + token])
    if after < 0:
        return state, _REJECTED, 1
    fields = automaton + (after * width + V)
    if fields[_REASON] > 0:
        return after, np.int64(fields[_REASON]), np.int64(fields[_CUT])
    may_end = fields[_DISTANCE] == 0
    if left == 0:
        return after, _LENGTH if may_end else _REJECTED, 0
    if left < fields[_LEAST]:
        return after, _MATCH if may_end else _REJECTED, 0
    return after, 0, 0
