"""PatternStates: the states of a pattern, each of which has at most one next state for a token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from knock.errors import SamplingError
from knock.generation.constraints.positions import Positions
from knock.generation.constraints.token_sets import token_set_of_mask

_MOST_LINKS = 2**26  # pairs of positions followed to find the states of a pattern


class PatternStates:
    """The states of a pattern that may be followed by a stop string, made as they are reached; each is a number.

    A state is a set of positions of the pattern, those that the last character may have been, by the subset
    construction of Rabin and Scott 1959. State 0 is that of an empty text.

    Args:
        pattern: the pattern.
        stop: stop strings in tokens.
        vocab_size: number of tokens, without the boundary.
    """

    def __init__(self, pattern: Positions, stop: Sequence[Sequence[int]], vocab_size: int) -> None:
        self._pattern = pattern
        self._follow = list(pattern.follow)
        mask_of, masks, first = list(pattern.mask_of), [pattern.masks], set(pattern.first)
        self._stop_at: dict[int, int] = {}  # length of the stop string that ends at a position
        for string in stop:
            chain = range(len(mask_of), len(mask_of) + len(string))
            mask_of.extend(sum(map(len, masks)) + i for i in range(len(string)))
            masks.append(np.eye(vocab_size, dtype=bool)[list(string)])
            self._follow.extend({position + 1} for position in chain[:-1])
            self._follow.append(set())
            for position in pattern.last:
                self._follow[position] = self._follow[position] | {chain[0]}
            if pattern.is_nullable:
                first.add(chain[0])
            self._stop_at[chain[-1]] = len(string)
        self._mask_of = mask_of
        self._reads = [token_set_of_mask(mask) for mask in np.concatenate(masks)]
        self._sets: list[frozenset[int]] = [frozenset()]  # the start is no position
        self._numbers: dict[frozenset[int], int] = {frozenset({-1}): 0}
        self._first = first
        self._edges: dict[int, list[tuple[int, int]]] = {}
        self._links = 0  # followed so far

    def accepts(self, state: int) -> bool:
        """Whether a text that ends in a state matches."""
        return self._pattern.is_nullable if state == 0 else not self._pattern.last.isdisjoint(self._sets[state])

    def stops(self, state: int, length: int) -> bool:
        """Whether a state may be after a matching text and a stop string of that length."""
        return any(self._stop_at.get(position) == length for position in self._sets[state])

    def edges(self, state: int) -> list[tuple[int, int]]:
        """Return the tokens that may follow a state, as disjoint sets, each with the state after one of them.

        Raises:
            SamplingError: if finding the states of the pattern took too many steps.
        """
        if state not in self._edges:
            by_mask: dict[int, list[int]] = {}
            for position in self._first if state == 0 else self._after(self._sets[state]):
                by_mask.setdefault(self._mask_of[position], []).append(position)
            parts = _disjoint([(self._reads[mask], positions) for mask, positions in by_mask.items()])
            self._edges[state] = [(tokens, self._number(frozenset(positions))) for tokens, positions in parts]
        return self._edges[state]

    def _after(self, positions: frozenset[int]) -> set[int]:
        """Return the positions that may follow any of several."""
        self._links += sum(len(self._follow[position]) for position in positions)
        if self._links > _MOST_LINKS:
            raise SamplingError("the pattern has too many optional parts in a row; simplify it, or repeat less")
        return set().union(*(self._follow[position] for position in positions))

    def _number(self, positions: frozenset[int]) -> int:
        if positions not in self._numbers:
            self._numbers[positions] = len(self._sets)
            self._sets.append(positions)
        return self._numbers[positions]


def _disjoint(groups: list[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
    """Return sets of tokens with their positions, cut so that no token is in two sets; each has the positions of all.

    For example, `{a, b}` with 1 and `{b, c}` with 2 become `{a}` with 1, `{b}` with 1 and 2, and `{c}` with 2.
    """
    parts: list[tuple[int, list[int]]] = []
    covered = 0
    for tokens, positions in groups:
        if tokens & covered:
            cut = []
            for others, theirs in parts:
                if common := others & tokens:
                    cut.append((common, theirs + positions))
                if common != others:
                    cut.append((others ^ common, theirs))
            parts = cut
        if new := tokens & ~covered:
            parts.append((new, positions))
        covered |= tokens
    return parts
