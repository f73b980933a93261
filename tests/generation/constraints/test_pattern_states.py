"""The states of a pattern, followed token by token, against `re`."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from knock.generation.constraints.pattern_states import PatternStates
from knock.generation.constraints.positions import positions
from tests.generation.constraints.patterns import CHARACTERS, PATTERNS, V, tokens


def after(states: PatternStates, text: str) -> int | None:
    """The state after a text, None if no match begins with it."""
    state: int | None = 0
    for token in tokens(text):
        if state is None:
            return None
        following = [target for read, target in states.edges(state) if read >> token & 1]
        assert len(following) <= 1  # sets of one state are disjoint
        state = following[0] if following else None
    return state


@given(PATTERNS, st.text("aB0\n", max_size=5))
def test_accepted_texts_are_those_that_match(pattern: str, text: str) -> None:
    states = PatternStates(positions(pattern, CHARACTERS), [], V)
    state = after(states, text)
    assert (state is not None and states.accepts(state)) == (re.fullmatch(pattern, text) is not None)


@given(PATTERNS, st.text("aB0\n", max_size=4), st.sampled_from(["a", "B0", "0a0"]))
def test_a_stop_string_follows_a_match(pattern: str, text: str, stop: str) -> None:
    states = PatternStates(positions(pattern, CHARACTERS), [tokens(stop)], V)
    state = after(states, text + stop)
    stops = state is not None and states.stops(state, len(stop))
    assert stops == (re.fullmatch(pattern, text) is not None)
