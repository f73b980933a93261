"""Every text that an automaton allows matches its rules, and every text that matches is allowed."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.engine import automaton as engine_automaton
from knock.engine.batch import FINISH_REASONS
from knock.errors import SamplingError
from knock.generation.constraints.automaton import Rules, build
from knock.generation.constraints.positions import positions
from knock_kernels.lang.layout import FinishReason, StateField
from tests.generation.constraints.patterns import CHARACTERS, PATTERNS, V, draw, tokens

STOPS = st.lists(st.sampled_from(["\n", "ab", "b", "a.b"]), max_size=2, unique=True)


def test_kernels_and_engine_number_alike() -> None:
    assert [field.name for field in StateField] == [column.name for column in engine_automaton.Column]
    assert [reason.name.replace("_", " ") for reason in FinishReason] == list(FINISH_REASONS)


@given(PATTERNS, STOPS, st.booleans(), st.booleans(), st.integers(0, 9), st.data())
def test_every_text_matches_its_pattern(
    pattern: str, stop: list[str], has_boundary: bool, keep_stop: bool, slack: int, data: st.DataObject
) -> None:
    rules = Rules(
        pattern=positions(pattern, CHARACTERS), stop=[tokens(each) for each in stop], keep_stop=keep_stop,
        boundary=V if has_boundary else None, must_end=data.draw(st.booleans()),
    )  # fmt: skip
    automaton = build(rules, V + has_boundary)
    if automaton is None:
        return  # the other direction is tested below
    text, reason = draw(automaton, data.draw(st.integers(0, 2**32)), automaton.shortest() + slack)
    if reason == "stop" and keep_stop:
        text = text[: -max(len(each) for each in stop if text.endswith(each))]
    assert re.fullmatch(pattern, text)
    assert not any(each in text for each in stop)
    if rules.must_end and (has_boundary or stop):
        assert reason in ("stop", "end")


@given(PATTERNS, st.booleans())
def test_every_match_is_allowed(pattern: str, has_boundary: bool) -> None:
    """All texts of up to three characters, against `re`."""
    rules = Rules(pattern=positions(pattern, CHARACTERS), boundary=V if has_boundary else None)
    automaton = build(rules, V + has_boundary)
    matches = re.compile(pattern).fullmatch
    for length in range(4):
        for text in map("".join, itertools.product("aB0\n", repeat=length)):
            state = -1 if automaton is None else automaton.after(tokens(text))
            accepted = automaton is not None and state >= 0 and automaton.shortest(state) == 0
            assert accepted == (matches(text) is not None)


@given(
    st.lists(st.sampled_from(["a", "ab", "\n", "0.", "bb"]), max_size=3, unique=True), st.integers(0, 4),
    st.integers(0, 6), STOPS, st.integers(0, 2**32),
)  # fmt: skip
def test_lengths_and_banned_strings(ban: list[str], least: int, more: int, stop: list[str], seed: int) -> None:
    rules = Rules(
        ban=[tokens(each) for each in ban], stop=[tokens(each) for each in stop], min_length=least,
        max_length=least + more, must_end=True,
    )  # fmt: skip
    automaton = build(rules, V)
    if automaton is None:
        assert all(any(banned in each for banned in ban) for each in stop)
        return
    text, _ = draw(automaton, seed, 30)
    assert least <= len(text) <= least + more
    assert not any(banned in text for banned in ban)


@given(
    st.none() | PATTERNS, st.lists(st.sampled_from(["a", "aB", "\n", "0B", "00"]), max_size=2, unique=True),
    st.integers(0, 3), st.none() | st.integers(0, 3),
)  # fmt: skip
def test_exactly_the_texts_that_keep_all_rules_are_items(
    pattern: str | None, ban: list[str], least: int, more: int | None
) -> None:
    """All texts of up to four characters, against the rules themselves."""
    most = None if more is None else least + more
    rules = Rules(
        pattern=None if pattern is None else positions(pattern, CHARACTERS), ban=[tokens(each) for each in ban],
        min_length=least, max_length=most, boundary=V,
    )  # fmt: skip
    automaton = build(rules, V + 1)
    matches = re.compile("(?s:.*)" if pattern is None else pattern).fullmatch
    for length in range(5):
        for text in map("".join, itertools.product("aB0\n", repeat=length)):
            keeps = length >= least and (most is None or length <= most) and not any(each in text for each in ban)
            state = -1 if automaton is None else automaton.after([*tokens(text), V])
            assert (state >= 0) == (keeps and matches(text) is not None)


def test_free_states_are_not_masked() -> None:
    automaton = build(Rules(stop=[tokens("ab")]), V)
    assert automaton is not None
    assert (automaton.table[:2, V + engine_automaton.Column.enough] == 0).all()


def test_a_text_that_cannot_be_lengthened_within_the_limit_ends() -> None:
    """After a b, the next match is three characters longer."""
    automaton = build(Rules(pattern=positions("a(bcc)*", CHARACTERS)), V)
    assert automaton is not None
    assert {draw(automaton, seed, 3) for seed in range(9)} == {("a", "match")}
    assert ("abcc", "match") in {draw(automaton, seed, 5) for seed in range(9)}


def test_too_many_states_are_counted() -> None:
    with pytest.raises(SamplingError, match=r"need more than [\d,]+ states; simplify"):
        build(Rules(pattern=positions("[ab]*a[ab]{20}", CHARACTERS)), V)


def test_distances_are_the_shortest() -> None:
    automaton = build(Rules(pattern=positions("a(b|cc|aaa)b?", CHARACTERS), boundary=V), V + 1)
    assert automaton is not None
    reachable = [automaton.shortest(automaton.after(tokens(text))) for text in ("", "a", "ab", "ac", "aa")]
    assert reachable == [2, 1, 0, 1, 2]
    assert np.count_nonzero(automaton.reasons) == 1
