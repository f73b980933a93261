"""Tests of hints for misspelt names."""

from __future__ import annotations

from typing import TypedDict, Unpack

import pytest

from knock.cli.main import COMMANDS
from knock.errors import SamplingError
from knock.hints import hint_at, suggestion


class Options(TypedDict, total=False):
    colour: str
    size: int


@hint_at({"tint": "colour", "width": "size, in pixels", "count": "n"}, Options)
def paint(name: str, *, count: int = 1, **options: Unpack[Options]) -> tuple[str, int, Options]:
    return name, count, options


def test_suggestions_are_close() -> None:
    assert suggestion("genrate", COMMANDS) == "generate"
    assert suggestion("ROMEO:", COMMANDS) is None


def test_known_arguments_pass() -> None:
    assert paint("a", count=2, colour="red") == ("a", 2, {"colour": "red"})
    assert paint(name="a") == ("a", 1, {})


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("tint", "use colour"),
        ("width", "use size, in pixels"),
        ("color", "did you mean colour?"),
        ("cuont", "did you mean count?"),
        ("zzz", "its arguments are colour, count, name, size"),
    ],
)
def test_other_arguments_get_advice(argument: str, advice: str) -> None:
    with pytest.raises(SamplingError) as raised:
        paint("a", **{argument: 1})
    assert str(raised.value) == f"paint has no argument {argument!r}; {advice}"


def test_without_options_a_function_rejects_what_has_no_hint_itself() -> None:
    @hint_at({"tint": "colour"})
    def fill(*, colour: str = "") -> str:
        return colour

    assert fill(colour="red") == "red"
    with pytest.raises(SamplingError, match="fill has no argument 'tint'; use colour"):
        fill(tint="red")
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'"):
        fill(color="red")
