"""Tests of values in messages."""

from __future__ import annotations

import pytest

from knock import Vocab
from knock.validation import on_circles, quoted, shown


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


def test_marks_of_a_vocabulary_stand_on_circles() -> None:
    vocab = Vocab("ab\u0301\u0302")
    assert vocab.describe() == "4 characters: 'ab\u25cc\u0301\u25cc\u0302'"
    assert vocab.describe(3) == "4 characters: 'ab\u25cc\u0301' and 1 more"
    assert str(vocab.unknown_error("\u0327")).startswith("unknown character '\u25cc\u0327' (U+0327) at offset 0")
