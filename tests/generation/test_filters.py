"""Filters keep what they should, whatever the texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.errors import SamplingError, TextError
from knock.generation.filters import Filters, describe
from knock.generation.known_texts import KnownRuns, KnownTexts, texts_of

TEXTS = st.lists(st.text("abé\n", max_size=12), max_size=12)


@given(TEXTS, st.text("abé\n", max_size=30), st.integers(1, 6))
def test_runs_are_those_of_the_texts(texts: list[str], text: str, length: int) -> None:
    runs = {each[i : i + length] for each in texts for i in range(len(each) - length + 1)}
    expected = any(text[i : i + length] in runs for i in range(len(text) - length + 1))
    assert KnownRuns(length, texts).has_run_of(text) == expected


@given(TEXTS)
def test_known_texts(texts: list[str]) -> None:
    known = KnownTexts(texts)
    assert all(text in known for text in texts)
    assert len(known) == len(set(texts))
    assert "xyz" not in known


def test_files_are_read_by_line_and_runs_cross_lines(tmp_path: Path) -> None:
    path = tmp_path / "known.txt"
    path.write_text("Anna\n\nBert\r\nCarl", encoding="utf-8")
    assert list(texts_of(path)) == ["Anna", "Bert", "Carl"]
    assert "Bert" in KnownTexts(path)
    assert KnownRuns(3, path).has_run_of("xt\nCx")
    with pytest.raises(TextError, match="no such file"):
        KnownTexts(tmp_path / "none.txt")


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
