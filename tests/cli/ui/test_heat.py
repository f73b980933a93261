"""Tests of the heat map: the whole text, wrapped to the width, in the colours of its surprise."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style

from knock.cli.ui.heat import STEPS, heat_digits, heat_lines, legend, style_of
from knock.cli.ui.terminal import printable

# Including wide, zero-width, joining and control characters, line separators and a lone surrogate.
CHARACTERS = st.one_of(
    st.characters(), st.sampled_from("ab \n\t\x1b\x00日e\u0301\u200d\ufe0f❤👩🏽🇩🇪\U000e0001\u2028\ud800")
)
BITS = st.one_of(st.floats(0, 30), st.sampled_from([0.0, 0.5, 8.0, 9.0, math.nan, math.inf, -1e-9]))
CELLS = st.lists(st.tuples(CHARACTERS, BITS), max_size=60)
WIDTHS = st.integers(10, 30)


def expected_text(text: str) -> str:
    return "".join("↵" if char == "\n" else printable(char) for char in text)


@given(CELLS, WIDTHS)
def test_lines_contain_the_whole_text_and_fit(cells: list[tuple[str, float]], width: int) -> None:
    text, bits = "".join(char for char, _ in cells), [surprise for _, surprise in cells]
    lines = list(heat_lines(text, bits, width))
    assert "".join(line.plain for line in lines) == expected_text(text)
    assert all(line.plain for line in lines)
    assert all(cell_len(line.plain) <= width for line in lines)
    assume("↵" not in text)
    assert sum(line.plain.endswith("↵") for line in lines) == text.count("\n")


@given(CELLS, WIDTHS)
def test_digits_are_below_the_same_lines(cells: list[tuple[str, float]], width: int) -> None:
    text, bits = "".join(char for char, _ in cells), [surprise for _, surprise in cells]
    rows = list(heat_digits(text, bits, width))
    assert rows[::2] == [line.plain for line in heat_lines(text, bits, width)]
    for line, under in zip(rows[::2], rows[1::2], strict=True):
        assert len(under) <= cell_len(line) <= width
        assert set(under) <= set("0123456789? ")


@given(st.lists(st.tuples(st.sampled_from("ab日\n\x1b"), BITS), min_size=1, max_size=60), WIDTHS)
def test_each_character_has_its_colour_and_its_digit(cells: list[tuple[str, float]], width: int) -> None:
    text, bits = "".join(char for char, _ in cells), [surprise for _, surprise in cells]
    styles = [line.get_style_at_offset(console(), place) for line in heat_lines(text, bits, width)
              for place in range(len(line.plain))]  # fmt: skip
    shown = [expected_text(char) for char in text]
    assert styles == [style_of(surprise) for part, surprise in zip(shown, bits, strict=True) for _ in part]
    digits = "".join(list(heat_digits(text, bits, width))[1::2]).replace(" ", "")
    assert digits == "".join("?" if math.isnan(s) else str(int(min(max(s, 0), 9))) for s in bits)


def console() -> object:
    from rich.console import Console

    return Console(color_system="truecolor", force_terminal=True)


def test_digits_are_under_the_first_cell() -> None:
    rows = list(heat_digits("a日\x1be\u0301b\n", [1, 2, 3, 4, 5, 6, 12], 20))
    assert rows == ["a日^[e\u0301b↵", "12 3 469"]


def test_steps_match_the_legend() -> None:
    for i, (start, paper, ink) in enumerate(STEPS):
        assert style_of(start) == Style(color=ink, bgcolor=paper)
        if i:
            assert style_of(math.nextafter(start, 0)) == Style(color=STEPS[i - 1][2], bgcolor=STEPS[i - 1][1])
        assert f" {start:g}+ " in legend().plain
    assert style_of(-1.0) == style_of(0.0)
    assert style_of(math.inf) == style_of(1000.0) == style_of(8.0)
    assert style_of(math.nan) == Style()


def test_text_is_consumed_lazily() -> None:
    taken = []

    def characters() -> object:
        for char in "ab\ncd\n":
            taken.append(char)
            yield char

    lines = heat_lines(characters(), iter([1.0] * 6), 20)
    assert next(lines).plain == "ab↵"
    assert taken == ["a", "b", "\n"]


def test_text_and_bits_must_have_equal_length() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(heat_lines("abc", [1.0], 20))


@given(st.floats(allow_nan=False))
def test_steps_increase_with_surprise(bits: float) -> None:
    papers = [paper for _, paper, _ in STEPS]
    colour, next_colour = style_of(bits).bgcolor, style_of(bits + 1).bgcolor
    assert colour is not None
    assert next_colour is not None
    assert papers.index(colour.name) <= papers.index(next_colour.name)
