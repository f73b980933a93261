"""The automaton of what a text must match, which the backends follow while they draw.

`knock.generation.constraints` builds it from patterns, lengths, banned strings and stop strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from knock.engine.batch import LENGTH, MATCH, NOT_DONE, REJECTED

FORBIDDEN = -1


class Column(IntEnum):
    """The columns of a table after those of the tokens, counted from V."""

    cut = 0  # tokens to cut from a text that ends in this state
    reason = 1  # why a text ends in this state, 0 if it continues
    distance = 2  # fewest further tokens after which a text may end
    least = 3  # fewest tokens left with which a text can continue; it ends if there are fewer
    enough = 4  # with as many tokens left, every token with a next state may be drawn; 0 if all tokens may be


@dataclass(frozen=True, eq=False)
class Automaton:
    """What a text must match, as a table.

    Attributes:
        table: the next state of each state and token, -1 where the token is forbidden, then the fields of `Column`,
            int32 [states, V + 5]. State 0 is that of an empty text.
    """

    table: npt.NDArray[np.int32]

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens."""
        width: int = self.table.shape[1]
        return width - len(Column)

    @property
    def reasons(self) -> npt.NDArray[np.int32]:
        """Why a text ends in each state, 0 where it continues, [states]."""
        return self.table[:, self.vocab_size + Column.reason]

    def shortest(self, state: int = 0) -> int:
        """Return the fewest tokens after which a text may end, from a state on."""
        return int(self.table[state, self.vocab_size + Column.distance])

    def is_over(self, state: int, left: int) -> bool:
        """Whether a text in a state ends there if that many tokens may still be drawn: none fits."""
        return left < int(self.table[state, self.vocab_size + Column.least])

    def after(self, tokens: Sequence[int], state: int = 0) -> int:
        """Return the state after tokens, -1 if one of them is forbidden or follows the end."""
        for token in tokens:
            if self.reasons[state]:
                return FORBIDDEN
            state = int(self.table[state, token])
            if state == FORBIDDEN:
                break
        return state

    def follow(self, state: int, token: int, left: int) -> tuple[int, int, int]:
        """Return the state after a token, why the text ends there (0 if it continues), and how many tokens to cut.

        Args:
            state: the state before the token.
            token: the token.
            left: number of tokens that may still be drawn.
        """
        after = int(self.table[state, token])
        if after == FORBIDDEN:
            return state, REJECTED, 1
        cut, reason, distance, least, _ = self.table[after, self.vocab_size :].tolist()
        if reason:
            return after, reason, cut
        if left < least:
            return after, REJECTED if distance else MATCH if left else LENGTH, 0
        return after, NOT_DONE, 0

    def forbids(self, state: int) -> bool:
        """Whether a state may forbid a token."""
        return bool(self.table[state, self.vocab_size + Column.enough] > 0)

    def allowed(self, state: int, left: int) -> npt.NDArray[np.bool_]:
        """Return which tokens may be drawn in a state if that many may still be, the next one included: bool [V]."""
        V = self.vocab_size
        following = self.table[state, :V]
        allowed: npt.NDArray[np.bool_] = following >= 0
        if left < self.table[state, V + Column.enough]:
            allowed = allowed & (self.table[following, V + Column.distance] < left)
        return allowed

    def ends(self, states: npt.NDArray[np.int32], left: int) -> npt.NDArray[np.bool_]:
        """Return whether a text ends in each of some states if that many tokens may still be drawn: [N] -> bool [N]."""
        fields = self.table[states, self.vocab_size :]
        ends: npt.NDArray[np.bool_] = (fields[:, Column.reason] > 0) | (left < fields[:, Column.least])
        return ends
