"""Tests of the heat map: the whole text, wrapped to the width, in the colours of its surprise."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style

from knock.cli.ui.heat import DIGITS, STEPS, heat_digits, heat_lines, legend, style_of
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


def test_expected_characters_have_no_colour() -> None:
    for bits in (-1.0, 0.0, 0.5, math.nextafter(1.0, 0)):
        assert style_of(bits) == Style()
    assert style_of(math.nan) not in (Style(), *(style_of(start) for start, _, _ in STEPS))


def test_steps_match_the_legend() -> None:
    line = legend()
    for i, (start, paper, ink) in enumerate(STEPS[1:]):
        assert style_of(start) == Style(color=ink, bgcolor=paper)
        assert style_of(math.nextafter(start, 0)) == style_of(STEPS[i][0])
        assert line.get_style_at_offset(console(), line.plain.index(f" {start:g}+ ")) == style_of(start)
    assert style_of(math.inf) == style_of(1000.0) == style_of(8.0)
    assert re.fullmatch(r"surprise in bits: expected ( \d\+ )+ surprising", line.plain)


@pytest.mark.parametrize(("width", "lines"), [(40, 2), (57, 2), (58, 1), (80, 1)])
def test_legend_fits(width: int, lines: int) -> None:
    shown = legend(width).plain.split("\n")
    assert len(shown) == lines
    assert max(map(len, shown)) <= width
    assert " ".join(shown) == legend().plain
    assert len(DIGITS) < 80


# The colours as seen with each kind of colour blindness (Machado et al. 2009, severity 1), on linear RGB.
VISIONS = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)


def linear(colour: str) -> npt.NDArray[np.float64]:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def seen(colour: str, vision: str) -> npt.NDArray[np.float64]:
    """The colour in CIELAB, where distances are about those that a reader sees."""
    xyz = TO_XYZ @ np.clip(np.array(VISIONS[vision]) @ linear(colour), 0, 1) / TO_XYZ.sum(1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
def test_every_reader_sees_surprise_grow(vision: str) -> None:
    papers = [seen(paper, vision) for _, paper, _ in STEPS[1:]]
    for background in ("#ffffff", "#1e1e1e"):
        away = [float(np.linalg.norm(paper - seen(background, vision))) for paper in papers]
        assert np.diff(away).min() > 5
        assert away[0] > 30
    assert min(float(np.linalg.norm(b - a)) for a, b in pairwise(papers)) > 12


def test_text_is_legible_on_every_step() -> None:
    for _, paper, ink in STEPS[1:]:
        dark, light = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (paper, ink))
        assert (light + 0.05) / (dark + 0.05) > 7  # WCAG 2, level AAA


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
    colour, next_colour = (style_of(each).bgcolor for each in (bits, bits + 1))
    assert papers.index(colour.name if colour else "") <= papers.index(next_colour.name if next_colour else "")
