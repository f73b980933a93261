"""Tests of values in messages."""

from __future__ import annotations

import numpy as np
import pytest

from knock import LanguageModel, ReweightGPT, Vocab
from knock.errors import SamplingError
from knock.validation import LARGEST, is_one_of, on_circles, quoted, shown, whole_number


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


@pytest.mark.parametrize("value", [1, LARGEST, np.int64(7)])
def test_whole_numbers(value: int) -> None:
    result = whole_number("n", value, 1, error=SamplingError)
    assert (result, type(result)) == (value, int)


@pytest.mark.parametrize(
    ("value", "maximum", "message"),
    [
        (0, None, "n must be a whole number of at least 1, got 0"),
        (2.0, None, "n must be a whole number of at least 1, got 2.0"),
        (True, None, "n must be a whole number of at least 1, got True"),
        (LARGEST + 1, None, f"n must be a whole number from 1 to {LARGEST}, got {LARGEST + 1}"),
        pytest.param(
            10**5000, None, f"n must be a whole number from 1 to {LARGEST}, got a value too long to show", id="long"
        ),
        (9, 8, "n must be a whole number from 1 to 8, got 9"),
        (0, 8, "n must be a whole number from 1 to 8, got 0"),
    ],
)
def test_numbers_out_of_range(value: object, maximum: int | None, message: str) -> None:
    with pytest.raises(SamplingError) as caught:
        whole_number("n", value, 1, maximum, error=SamplingError)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [10**8 + 1, 10**12, 10**18, 10**30])
def test_numbers_that_nothing_can_hold(value: int) -> None:
    """Each is an error at once, neither one of Python nor a batch that never begins."""
    vocab = Vocab("ab", boundary=True)
    lm = LanguageModel(ReweightGPT(3, T=4, n_emb=8, nodes=8, n_blocks=1, n_heads=1), vocab)
    calls = [lambda: lm.generate_batch([""], n=value), lambda: lm.items(value)]
    if value > LARGEST:
        calls += [
            lambda: lm.items(2, tries=value),
            lambda: lm.items(2, max_overlap=(value, ["a"])),
            lambda: lm.most_likely(value),
            lambda: lm.most_likely(2, limit=value),
            lambda: next(lm.sample_iter([""], n=value)),
            lambda: next(lm.stream(max_length=value)),
            lambda: next(lm.stream(min_length=value)),
        ]
    for call in calls:
        with pytest.raises(SamplingError, match=r"must be a whole number from|a list holds at most 100,000,000 texts"):
            call()


def test_batch_of_too_many_texts() -> None:
    lm = LanguageModel(ReweightGPT(3, T=4, n_emb=8, nodes=8, n_blocks=1, n_heads=1), Vocab("ab", boundary=True))
    with pytest.raises(SamplingError, match="got n=50000001 for each of 2 prompts; for more, use sample_iter"):
        lm.generate_batch(["a", "b"], n=50_000_001)


def test_marks_of_a_vocabulary_stand_on_circles() -> None:
    vocab = Vocab("ab\u0301\u0302")
    assert vocab.describe() == "4 characters: 'ab\u25cc\u0301\u25cc\u0302'"
    assert vocab.describe(3) == "4 characters: 'ab\u25cc\u0301' and 1 more"
    assert str(vocab.unknown_error("\u0327")).startswith("unknown character '\u25cc\u0327' (U+0327) at offset 0")
