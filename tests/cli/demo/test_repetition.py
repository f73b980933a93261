"""Tests of how much of a text is repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import load
from knock.cli.demo.repetition import repeated, repeated_parts, share_repeated


@given(st.text("ab", max_size=30), st.integers(1, 4))
def test_a_character_is_repeated_if_a_run_around_it_stands_earlier(text: str, run: int) -> None:
    expected = [
        any(
            text.find(text[start : start + run]) < start
            for start in range(max(0, place - run + 1), place + 1)
            if start + run <= len(text)
        )
        for place in range(len(text))
    ]
    assert repeated(text, run).tolist() == expected


def test_shares() -> None:
    model = load("names")
    texts = model.generate_batch([""], n=5, max_new_tokens=None, seed=1, temperature=0)
    assert share_repeated(texts) == pytest.approx(0.8)
    assert [part.all() for part in repeated_parts(texts)] == [False, True, True, True, True]
    (text,) = model.generate_batch(["A"], max_new_tokens=0, seed=1)
    assert share_repeated([text]) == 0
