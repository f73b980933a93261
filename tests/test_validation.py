"""Tests of values in messages."""

from __future__ import annotations

import numpy as np
import pytest

from knock import Vocab
from knock.validation import is_one_of, on_circles, quoted, shown


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("\u0301", "\u25cc\u0301"),
        ("e\u0301\u0302", "e\u0301\u0302"),
        ("a \u0301b\n\u0302", "a \u25cc\u0301b\n\u25cc\u0302"),
        ("\u0301\u0302", "\u25cc\u0301\u0302"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_bare_combining_marks_stand_on_a_circle(text: str, result: str) -> None:
    assert on_circles(text) == result
    assert quoted(text) == shown(text) == repr(result)


def test_values_are_shown_on_one_line() -> None:
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert shown(["a  b"]) == "['a  b']"


def test_only_a_string_is_one_of_the_names() -> None:
    assert is_one_of("a", ("a", "b"))
    for other in ("c", "", None, 1, ["a"], np.array(["a", "b"]), np.zeros(2)):
        assert not is_one_of(other, ("a", "b"))


def test_marks_of_a_vocabulary_stand_on_circles() -> None:
    vocab = Vocab("ab\u0301\u0302")
    assert vocab.describe() == "4 characters: 'ab\u25cc\u0301\u25cc\u0302'"
    assert vocab.describe(3) == "4 characters: 'ab\u25cc\u0301' and 1 more"
    assert str(vocab.unknown_error("\u0327")).startswith("unknown character '\u25cc\u0327' (U+0327) at offset 0")
