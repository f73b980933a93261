"""Builds the automaton of what texts must match.

Its states are products of a pattern's, of the banned strings', of the stop strings', and of the number of characters
as long as a minimum length is not reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knock.engine.automaton import FORBIDDEN, Automaton
from knock.engine.batch import END, STOP
from knock.errors import SamplingError
from knock.generation.constraints.pattern_states import PatternStates
from knock.generation.constraints.positions import Positions
from knock.generation.constraints.token_sets import token_set, tokens_of
from knock.generation.stopping import automaton as recogniser

MOST_STATES = 100_000
_MOST_ENTRIES = 2**26  # of the table

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
        prompt: what the text begins with. No stop string is looked for in it.
    """

    pattern: Positions | None = None
    stop: Sequence[Sequence[int]] = ()
    keep_stop: bool = False
    ban: Sequence[Sequence[int]] = ()
    min_length: int = 0
    max_length: int | None = None
    boundary: int | None = None
    must_end: bool = False
    prompt: Sequence[int] = ()


def build(rules: Rules, vocab_size: int) -> Automaton | None:
    """Return the automaton of rules, without the states from which no text can end; None if no text matches.

    State 0 is that after the prompt.

    Args:
        rules: the rules.
        vocab_size: V, the number of tokens, the boundary included.

    Raises:
        SamplingError: if it would need more than `MOST_STATES` states.
    """
    product = _Product(rules, vocab_size)
    if not product.explore():
        return None
    ends = np.array(product.ends, np.int32)
    can_end = ends > 0
    if not (rules.must_end and (rules.boundary is not None or rules.stop)):
        can_end |= product.accepts
    distance = _distances(product.sources, product.targets, can_end)
    if distance[0] == _NEVER:
        return None
    # Leave out the states from which no text can end.
    is_live = distance != _NEVER
    number = (np.cumsum(is_live) - 1).astype(np.int32)
    sources, sets, targets = (np.array(each, np.int32) for each in (product.sources, product.sets, product.targets))
    is_kept = is_live[sources] & is_live[targets]
    sources, sets, targets = number[sources[is_kept]], sets[is_kept], number[targets[is_kept]]
    ends, cuts, distance = (each[is_live] for each in (ends, np.array(product.cuts, np.int32), distance))
    nearest, farthest, is_open = np.full_like(ends, _NEVER), np.zeros_like(ends), np.zeros_like(ends)
    np.minimum.at(nearest, sources, distance[targets] + 1)
    np.maximum.at(farthest, sources, distance[targets] + 1)
    tokens = [tokens_of(each) for each in product.distinct]
    np.add.at(is_open, sources, np.array([len(each) for each in tokens], np.int32)[sets])
    is_free = (is_open == vocab_size) & (farthest == 1)
    fields = (cuts, ends, distance, nearest, np.where(is_free, 0, farthest))
    table = np.full((len(ends), vocab_size + len(fields)), FORBIDDEN, np.int32)
    table[:, vocab_size:] = np.column_stack(fields)
    for read, edges in zip(tokens, _grouped(sets, len(tokens)), strict=True):
        table[sources[edges][:, None], read] = targets[edges][:, None]
    return Automaton(table)


def _distances(sources: Sequence[int], targets: Sequence[int], can_end: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Return the fewest steps from each state to one where a text can end, `_NEVER` if there is none.

    Args:
        sources: the state before each edge.
        targets: the state after each edge.
        can_end: whether a text can end in each state, [states].
    """
    before: list[list[int]] = [[] for _ in can_end]
    for source, target in zip(sources, targets, strict=True):
        before[target].append(source)
    queue: list[int] = np.flatnonzero(can_end).tolist()
    distance = np.where(can_end, 0, _NEVER).tolist()
    for state in queue:  # which grows meanwhile
        for source in before[state]:
            if distance[source] == _NEVER:
                distance[source] = distance[state] + 1
                queue.append(source)
    return np.array(distance, np.int32)


def _grouped(numbers: npt.NDArray[np.int32], count: int) -> list[npt.NDArray[np.intp]]:
    """Return the places of each number from 0 to `count` - 1."""
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers, minlength=count)))[:count]


class _Product:
    """Explores the product automaton: its states, and the edges between them, each for a set of tokens.

    Attributes:
        sources: the state before each edge.
        sets: the tokens of each edge, an index into `distinct`; the sets of a state are disjoint.
        targets: the state after each edge.
        distinct: distinct sets of tokens.
        ends: why a text ends in each state, 0 if it continues.
        cuts: tokens to cut from a text that ends there.
        accepts: whether a text matches that ends in the state, by its limit or otherwise.
    """

    def __init__(self, rules: Rules, vocab_size: int) -> None:
        self._rules = rules
        self._vocab_size = vocab_size
        chars = vocab_size if rules.boundary is None else rules.boundary
        self._any = (1 << chars) - 1
        self._stop, self._ban = (_Recogniser(strings, chars) for strings in (rules.stop, rules.ban))
        self._pattern = None if rules.pattern is None else PatternStates(rules.pattern, rules.stop, chars)
        self.sources: list[int] = []
        self.sets: list[int] = []
        self.targets: list[int] = []
        self.distinct: dict[int, int] = {}
        self.ends: list[int] = []
        self.cuts: list[int] = []
        self.accepts: list[bool] = []
        self._states: list[tuple[int, int, int, int]] = []
        self._ids: dict[tuple[int, int, int, int], int] = {}
        # Characters are counted only as far as they matter.
        longest = max(map(len, rules.stop), default=0)
        self._counted = rules.min_length + longest if rules.min_length else 0
        if rules.max_length is not None:
            self._counted = max(self._counted, rules.max_length + longest + 1)

    def explore(self) -> bool:
        """Find all states, and return whether there are any: the prompt may be forbidden.

        Raises:
            SamplingError: if there are too many.
        """
        start = (0, 0, 0, 0)
        for token in self._rules.prompt:
            after = next((after for tokens, after in self._edges(start) if tokens >> token & 1), None)
            if after is None or self._ban.cuts[after[1]]:
                return False
            pattern, ban, _, count = after
            start = (pattern, ban, 0, count)
        self._id(start)
        for source, state in enumerate(self._states):  # which grows meanwhile
            if self.ends[source]:
                continue
            pattern, _, _, count = state
            if (self._pattern is None or self._pattern.accepts(pattern)) and self._fits(count):
                self.accepts[source] = True
                if self._rules.boundary is not None:
                    self._link(source, 1 << self._rules.boundary, self._final(END, 1))
            for tokens, after in self._edges(state):
                if (target := self._step(after)) != FORBIDDEN:
                    self._link(source, tokens, target)
        return True

    def _edges(self, state: tuple[int, int, int, int]) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        """Yield disjoint sets of tokens that may follow a state, each with the state of all rules after one of them."""
        pattern, ban, stop, count = state
        count = min(count + 1, self._counted)
        for tokens, pattern_after in ((self._any, 0),) if self._pattern is None else self._pattern.edges(pattern):
            for unbanned, ban_after in self._ban.edges(ban):
                if allowed := tokens & unbanned:
                    for read, stop_after in self._stop.edges(stop):
                        if common := allowed & read:
                            yield common, (pattern_after, ban_after, stop_after, count)

    def _step(self, state: tuple[int, int, int, int]) -> int:
        """Return the number of the state after a token, -1 if the token is forbidden."""
        pattern, ban, stop, count = state
        if self._ban.cuts[ban]:
            return FORBIDDEN
        if cut := self._stop.cuts[stop]:
            if (self._pattern is None or self._pattern.stops(pattern, cut)) and self._fits(count - cut):
                return self._final(STOP, 0 if self._rules.keep_stop else cut)
            return FORBIDDEN
        if self._rules.max_length is not None and count == self._counted:
            return FORBIDDEN
        return self._id(state)

    def _fits(self, length: int) -> bool:
        most = self._rules.max_length
        return not self._counted or (length >= self._rules.min_length and (most is None or length <= most))

    def _final(self, reason: int, cut: int) -> int:
        return self._id((FORBIDDEN, reason, cut, 0), reason, cut)

    def _id(self, state: tuple[int, int, int, int], reason: int = 0, cut: int = 0) -> int:
        number = self._ids.setdefault(state, len(self._states))
        if number == len(self._states):
            if number >= MOST_STATES or number * self._vocab_size >= _MOST_ENTRIES:
                raise SamplingError(
                    f"the constraints need more than {number:,} states; simplify the pattern, or lower its repetition "
                    "counts or the length limits"
                )
            self._states.append(state)
            self.ends.append(reason)
            self.cuts.append(cut)
            self.accepts.append(reason > 0)
        return number

    def _link(self, source: int, tokens: int, target: int) -> None:
        self.sources.append(source)
        self.sets.append(self.distinct.setdefault(tokens, len(self.distinct)))
        self.targets.append(target)


class _Recogniser:
    """Looks for strings, as `stopping.automaton` does, with sets of tokens.

    Args:
        strings: the strings, in tokens.
        vocab_size: number of tokens, without the boundary.

    Attributes:
        cuts: length of the string that is complete in each state, 0 if none is.
    """

    def __init__(self, strings: Sequence[Sequence[int]], vocab_size: int) -> None:
        self._table = recogniser(strings, vocab_size)
        self._any = (1 << vocab_size) - 1
        self._edges: dict[int, list[tuple[int, int]]] = {}
        self.cuts: list[int] = self._table[:, -1].tolist()

    def edges(self, state: int) -> list[tuple[int, int]]:
        """Return all tokens as disjoint sets, each with the state after one of them."""
        if state not in self._edges:
            following = self._table[state, :-1]
            edges = [(token_set(np.flatnonzero(following == each).tolist()), each) for each in _others(following)]
            rest = self._any
            for tokens, _ in edges:
                rest &= ~tokens
            self._edges[state] = [*edges, (rest, 0)]  # after most tokens, no string has begun
        return self._edges[state]


def _others(states: npt.NDArray[np.int64]) -> list[int]:
    """Return the distinct states other than the first."""
    return sorted(set(states[states != 0].tolist()))
