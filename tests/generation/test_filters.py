"""Filters keep what they should, whatever the texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.errors import SamplingError
from knock.generation.filters import Filters, describe
from knock.generation.known_texts import KnownRuns, KnownTexts

TEXTS = st.lists(st.text("abé\n", max_size=12), max_size=12)


@given(TEXTS)
def test_unique_keeps_the_first_of_equal_texts(texts: list[str]) -> None:
    filters = Filters(unique=True)
    kept = [text for text in texts if filters.keep(text, "end")]
    assert kept == list(dict.fromkeys(texts))
    assert (filters.drawn, filters.kept) == (len(texts), len(kept))
    assert filters.dropped.total() == len(texts) - len(kept)


def test_every_reason_is_counted() -> None:
    filters = Filters(
        unique=True, novel=KnownTexts(["Anna"]), overlap=KnownRuns(4, ["Berta"]), accept=r"[A-Z]\w*", keep_cut=False
    )
    given = [("Carl", "end"), ("Carl", "end"), ("Anna", "end"), ("xBert", "end"), ("carl", "end"), ("Carla", "length"),
             ("", "error"), ("C", "rejected")]  # fmt: skip
    assert [filters.keep(*each) for each in given] == [True] + 7 * [False]
    assert all(count == 1 for count in filters.dropped.values())
    assert describe(filters) == (
        "drawn 8, kept 1; dropped: 1 repeats, 1 copies, 1 overlaps, 1 cut, 1 not accepted, 1 not matching, 1 errors"
    )


def test_copies_are_texts_with_or_without_the_rest_of_their_identity() -> None:
    filters = Filters(novel=KnownTexts(["Anna", "O: Bert"]))
    assert not filters.keep("Anna", "end", "O: Anna")
    assert not filters.keep("Bert", "end", "O: Bert")
    assert filters.keep("Bert", "end", "P: Bert")
    assert filters.dropped == {"copies": 2}


def test_a_dropped_text_is_not_a_repeat_of_itself() -> None:
    filters = Filters(unique=True, accept=str.islower)
    assert not filters.keep("A", "end")
    assert not filters.keep("A", "end")
    assert filters.dropped == {"not accepted": 2}


def test_accept_takes_functions_and_expressions() -> None:
    assert Filters(accept=re.compile("a+")).keep("aa", "end")
    assert not Filters(accept="a+").keep("aab", "end")
    assert Filters(accept=lambda text: len(text) == 3).keep("aab", "end")
    with pytest.raises(SamplingError, match="not a regular expression"):
        Filters(accept="(")
    with pytest.raises(SamplingError, match="must be a regular expression or a function, got 3"):
        Filters(accept=3)  # type: ignore[arg-type]
