"""Builds the automaton of what texts must match.

Its states are products of a pattern's, of the banned strings', of the stop strings', and of the number of characters
as long as a minimum length is not reached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knock.engine.automaton import FORBIDDEN, Automaton
from knock.engine.batch import END, STOP
from knock.errors import SamplingError
from knock.generation.constraints.positions import Positions
from knock.generation.stopping import automaton as recogniser

MOST_STATES = 100_000
_MOST_ENTRIES = 2**26  # of the table
_MOST_LINKS = 2**26  # pairs of positions followed to find the states of a pattern

_NEVER = np.iinfo(np.int32).max  # distance of a state from which no text can end


class Rules(NamedTuple):
    """What texts must match, in tokens.

    Attributes:
        pattern: the pattern of the whole text; None matches any.
        stop: stop strings; a text ends where one is completed.
        keep_stop: whether the stop string remains in the text.
        ban: strings that must not occur, not even in the stop string.
        min_length: fewest tokens of the text, without its stop string.
        max_length: most tokens; None for any number.
        boundary: the token that ends an item, the last one of the vocabulary; None in a model without one.
        must_end: whether a text must end by itself, with the boundary or a stop string, rather than at the limit of
            its length. Only where one of them is there.
    """

    pattern: Positions | None = None
    stop: Sequence[Sequence[int]] = ()
    keep_stop: bool = False
    ban: Sequence[Sequence[int]] = ()
    min_length: int = 0
    max_length: int | None = None
    boundary: int | None = None
    must_end: bool = False


def build(rules: Rules, vocab_size: int) -> Automaton | None:
    """Return the automaton of rules, without the states from which no text can end; None if no text matches.

    Args:
        rules: the rules.
        vocab_size: V, the number of tokens, the boundary included.

    Raises:
        SamplingError: if it would need more than `MOST_STATES` states.
    """
    product = _Product(rules, vocab_size)
    product.explore()
    following = np.array(product.following, np.int32)
    if rules.boundary is None:
        following = following[:, :-1]
    ends = np.array(product.ends, np.int32)
    can_end = ends > 0
    if not (rules.must_end and (rules.boundary is not None or rules.stop)):
        can_end |= product.accepts
    distance = _distances(following, can_end)
    if distance[0] == _NEVER:
        return None
    # Leave out the states from which no text can end.
    is_live = distance != _NEVER
    number = np.where(is_live, np.cumsum(is_live) - 1, FORBIDDEN).astype(np.int32)
    following = np.where(following >= 0, number[following], FORBIDDEN)[is_live]
    ends, cuts, distance = (each[is_live] for each in (ends, np.array(product.cuts, np.int32), distance))
    is_open = following >= 0
    nearest = np.where(is_open, distance[following], _NEVER - 1).min(1) + 1
    farthest = np.where(is_open, distance[following], -1).max(1) + 1
    is_free = is_open.all(1) & (farthest == 1)
    fields = (cuts, ends, distance, nearest, np.where(is_free, 0, farthest))
    by_token = following[:, product.columns]
    if rules.boundary is not None:
        by_token = np.column_stack([by_token, following[:, -1]])
    return Automaton(np.ascontiguousarray(np.column_stack([by_token, *fields]), np.int32))


def _distances(following: npt.NDArray[np.int32], can_end: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Return the fewest steps from each state to one where a text can end, `_NEVER` if there is none."""
    sources, columns = np.nonzero(following >= 0)
    targets = following[sources, columns]
    order = np.argsort(targets, kind="stable")
    sources = sources[order]
    starts = np.searchsorted(targets[order], np.arange(len(following) + 1))
    distance = np.full(len(following), _NEVER, np.int32)
    frontier, steps = np.flatnonzero(can_end), 0
    distance[frontier] = 0
    while frontier.size:
        steps += 1
        counts = starts[frontier + 1] - starts[frontier]
        offsets = np.repeat(starts[frontier] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        frontier = np.unique(sources[offsets])
        frontier = frontier[distance[frontier] == _NEVER]
        distance[frontier] = steps
    return distance


class _Product:
    """Explores the product automaton, with one column for each class of tokens that all rules treat alike.

    Attributes:
        columns: the class of each token but the boundary.
        following: the next state of each state by class, then by the boundary; -1 where it is forbidden.
        ends: why a text ends in each state, 0 if it continues.
        cuts: tokens to cut from a text that ends there.
        accepts: whether a text matches that ends in the state, by its limit or otherwise.
    """

    def __init__(self, rules: Rules, vocab_size: int) -> None:
        self._rules = rules
        chars = vocab_size if rules.boundary is None else rules.boundary
        self._stop, self._ban = (recogniser(strings, chars) for strings in (rules.stop, rules.ban))
        self._pattern = _PatternStates(rules.pattern, rules.stop, chars)
        named = sorted({token for strings in (rules.stop, rules.ban) for string in strings for token in string})
        keys = np.concatenate([self._pattern.masks, np.eye(chars, dtype=bool)[named]])
        _, first, columns = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        self.columns: npt.NDArray[np.intp] = columns.reshape(-1)
        self._tokens: list[int] = first.tolist()  # one of each class
        self.following: list[list[int]] = []
        self.ends: list[int] = []
        self.cuts: list[int] = []
        self.accepts: list[bool] = []
        self._ids: dict[tuple[int, int, int, int], int] = {}
        # Characters are counted only as far as they matter.
        longest = max(map(len, rules.stop), default=0)
        self._counted = rules.min_length + longest if rules.min_length else 0
        if rules.max_length is not None:
            self._counted = max(self._counted, rules.max_length + longest + 1)

    def explore(self) -> None:
        """Find all states.

        Raises:
            SamplingError: if there are too many.
        """
        queue = deque([(self._pattern.start, 0, 0, 0)])
        self._id(queue[0])
        while len(self.following) < len(self.ends):
            number = len(self.following)
            row = [FORBIDDEN] * (len(self._tokens) + 1)
            self.following.append(row)
            if self.ends[number]:
                continue
            pattern, ban, stop, count = queue.popleft()
            if self._pattern.accepts(pattern) and self._fits(count):
                self.accepts[number] = True
                if self._rules.boundary is not None:
                    row[-1] = self._final(END, 1)
            for c, token in enumerate(self._tokens):
                after = (
                    self._pattern.after(pattern, token),
                    int(self._ban[ban, token]),
                    int(self._stop[stop, token]),
                    min(count + 1, self._counted),
                )
                row[c] = self._step(after, queue)

    def _step(self, state: tuple[int, int, int, int], queue: deque[tuple[int, int, int, int]]) -> int:
        """Return the number of the state after a token, -1 if the token is forbidden."""
        pattern, ban, stop, count = state
        if pattern < 0 or self._ban[ban, -1]:
            return FORBIDDEN
        if cut := int(self._stop[stop, -1]):
            if self._pattern.stops(pattern, cut) and self._fits(count - cut):
                return self._final(STOP, 0 if self._rules.keep_stop else cut)
            return FORBIDDEN
        if self._rules.max_length is not None and count == self._counted:
            return FORBIDDEN
        if state not in self._ids:
            queue.append(state)
        return self._id(state)

    def _fits(self, length: int) -> bool:
        most = self._rules.max_length
        return not self._counted or (length >= self._rules.min_length and (most is None or length <= most))

    def _final(self, reason: int, cut: int) -> int:
        return self._id((FORBIDDEN, reason, cut, 0), reason, cut)

    def _id(self, state: tuple[int, int, int, int], reason: int = 0, cut: int = 0) -> int:
        if state not in self._ids:
            if len(self._ids) >= MOST_STATES or len(self._ids) * len(self.columns) >= _MOST_ENTRIES:
                raise SamplingError(
                    f"the constraints need more than {len(self._ids):,} states; simplify the pattern, or lower its "
                    "repetition counts or the length limits"
                )
            self._ids[state] = len(self._ids)
            self.ends.append(reason)
            self.cuts.append(cut)
            self.accepts.append(reason > 0)
        return self._ids[state]


class _PatternStates:
    """The states of a pattern that may be followed by a stop string, made as they are reached; each is a number.

    A state is a set of positions of the pattern, those that the last character may have been, by the subset
    construction of Rabin and Scott 1959.

    Args:
        pattern: the pattern; None matches any text, followed by any stop string.
        stop: stop strings in tokens.
        vocab_size: number of tokens, without the boundary.

    Attributes:
        start: the state of an empty text.
        masks: distinct sets of tokens that positions read, [M, V].
    """

    def __init__(self, pattern: Positions | None, stop: Sequence[Sequence[int]], vocab_size: int) -> None:
        self.start = 0
        self._pattern = pattern
        if pattern is None:
            self.masks = np.ones((1, vocab_size), bool)
            return
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
        self.masks = np.concatenate(masks)
        self._mask_of = mask_of
        self._reads = [set(np.flatnonzero(mask).tolist()) for mask in self.masks]
        self._sets: list[frozenset[int]] = [frozenset()]  # the start is no position
        self._numbers: dict[frozenset[int], int] = {frozenset({-1}): 0}
        self._first = first
        self._following: dict[int, dict[int, list[int]]] = {}  # positions after each state, by mask
        self._links = 0  # followed so far

    def accepts(self, state: int) -> bool:
        """Whether a text that ends in a state matches."""
        if self._pattern is None:
            return True
        return self._pattern.is_nullable if state == 0 else not self._pattern.last.isdisjoint(self._sets[state])

    def stops(self, state: int, length: int) -> bool:
        """Whether a state may be after a matching text and a stop string of that length."""
        return self._pattern is None or any(self._stop_at.get(position) == length for position in self._sets[state])

    def after(self, state: int, token: int) -> int:
        """Return the state after another token, -1 if no text matches that begins so."""
        if self._pattern is None:
            return 0
        if state not in self._following:
            positions = self._first if state == 0 else self._after_any(self._sets[state])
            by_mask: dict[int, list[int]] = {}
            for position in positions:
                by_mask.setdefault(self._mask_of[position], []).append(position)
            self._following[state] = by_mask
        reached = [
            position
            for mask, positions in self._following[state].items()
            if token in self._reads[mask]
            for position in positions
        ]
        if not reached:
            return FORBIDDEN
        key = frozenset(reached)
        if key not in self._numbers:
            self._numbers[key] = len(self._sets)
            self._sets.append(key)
        return self._numbers[key]

    def _after_any(self, positions: frozenset[int]) -> set[int]:
        """Return the positions that may follow any of several.

        Raises:
            SamplingError: if all those calls together took too long.
        """
        self._links += sum(len(self._follow[position]) for position in positions)
        if self._links > _MOST_LINKS:
            raise SamplingError("the pattern has too many optional parts in a row; simplify it, or repeat less")
        return set().union(*(self._follow[position] for position in positions))
