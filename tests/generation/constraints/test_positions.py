"""Patterns are read as `re` reads them, and what is not supported is named."""

from __future__ import annotations

import re

import pytest

from knock.errors import SamplingError
from knock.generation.constraints.positions import positions
from tests.generation.constraints.patterns import CHARACTERS


def test_classes_are_those_of_re() -> None:
    for text in (".", r"\w", r"\D", "[^a]", "[a-c]", r"(?a)\w", "(?i)[a-b]", "(?s).", "(?i)é", r"[\s0]", "é", r"\Z"):
        read = positions(text, CHARACTERS)
        expected = [re.fullmatch(text, char) is not None for char in CHARACTERS]
        assert (read.masks[0].tolist() if len(read.masks) else [False] * len(CHARACTERS)) == expected


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "is not a regular expression: missing )"),
        ("[", "is not a regular expression"),
        ("a**", "multiple repeat"),
        (r"(a)\1", "uses backreferences"),
        ("(?=a)a", "uses lookahead"),
        ("a(?<!b)", "uses lookahead and lookbehind"),
        ("a++", "uses possessive quantifiers"),
        ("(?>a)", "uses atomic groups"),
        ("(a)?(?(1)b|c)", "uses conditional groups"),
        (r"a\b", "uses word boundaries"),
        ("a^b", "anchors inside the pattern"),
        ("((a{100}){100}){100}", "more than 100,000 characters"),
        ("(a?){5000}", "too many optional parts"),
    ],
)
def test_what_is_not_supported_is_named(pattern: str, says: str) -> None:
    with pytest.raises(SamplingError, match=re.escape(says)):
        positions(pattern, CHARACTERS)


@pytest.mark.parametrize("pattern", ["^abc$", r"\Aabc\Z", "^(abc)$", "(^a|^b)c$", "^^a$$"])
def test_anchors_at_the_ends_change_nothing(pattern: str) -> None:
    plain = re.sub(r"[\^$]|\\[AZ]", "", pattern)
    assert repr(positions(pattern, CHARACTERS)) == repr(positions(plain, CHARACTERS))
