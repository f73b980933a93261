"""Looking into the model on its page: predictions, attention, patterns."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knock import LanguageModel
from knock.cli.inspect.subject import label
from knock.cli.main import main
from knock.cli.ui.heat import STEPS
from knock.inspection import inspect_text
from tests.cases import EVERY
from tests.cli.inspect.command import ODD, small
from tests.page.browser import DOWN, ENTER, HOME, LEFT, RIGHT, UP, Browser

Show = Callable[..., Browser]

TEXT = "ROMEO:\nWhat light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n"
LOOKED = """
return [...document.querySelectorAll("#looked .looked")].map((list) => ({
  kind: list.className.split(" ")[1],
  rows: [...list.querySelectorAll(".looked-row")].map((row) =>
    [...row.children].slice(0, 3).map((each) => each.textContent)),
}))
"""
MARKED = "return [...document.querySelectorAll('#text [data-at]')].map((each) => each.style.getPropertyValue('--look'))"


@pytest.fixture
def inspected(browser: Browser, tmp_path: Path) -> Browser:
    path = tmp_path / "p.html"
    assert main(["inspect", "shakespeare-hybrid", "--text", TEXT, "--char", "e", "--html", str(path), "--quiet"]) == 0
    browser.show(path)
    browser.settled()
    return browser


def test_it_begins_with_the_most_surprising_character_of_the_middle(
    inspected: Browser, shakespeare: LanguageModel
) -> None:
    surprise, third = inspect_text(shakespeare, TEXT).surprise, len(TEXT) // 3
    assert inspected.run("return knock.session.selected") == third + surprise[third : 2 * third].argmax()
    assert inspected.text("#text .current") == label(TEXT[inspected.run("return knock.session.selected")])


def test_predictions_match_the_library(inspected: Browser, shakespeare: LanguageModel) -> None:
    result = inspect_text(shakespeare, TEXT, top=9)
    shown = inspected.run("return knock.session.letters.map(({ surprise, entropy }) => [surprise, entropy])")
    np.testing.assert_allclose(shown, np.column_stack((result.surprise, result.entropy)), atol=1e-4)
    inspected.hover("#text [data-at='20']")
    inspected.settled()
    assert inspected.text("#next-title") == f"What was expected where {label(TEXT[20])} stands"
    assert f"{result.surprise[20]:.1f} bits of surprise" in inspected.text("#next-facts")
    names = inspected.texts(".bar-row:not([hidden]) .bar-name")
    assert names[:9] == [label(shakespeare.vocab.characters[token]) for token in result.alternatives[20]]
    assert inspected.texts(".bar-row.actual .bar-name") == [label(TEXT[20])]
    assert inspected.text("#bars-footer span:nth-child(10)") == f"{result.entropy[20]:.2f} bits"


def check_attention(browser: Browser, attention: Any, place: int, head: tuple[int, int] | None) -> None:
    """Compare the lists and the marks below the text with the attention of a head, or with the mean of all heads."""
    kinds = {"weights": attention.weights, "reweight": attention.reweight, "content": attention.content}
    looked = browser.run(LOOKED)
    for each in looked:
        weights = kinds[each["kind"]]
        row = np.nanmean(weights, (0, 1))[place] if head is None else weights[head][place]
        for name, back, share in each["rows"]:
            distance = int(back.removeprefix("−"))
            assert name == (label(TEXT[place - distance]) if distance <= place else "start")
            assert float(share.rstrip("%")) / 100 == pytest.approx(row[distance - 1], abs=0.006)
        shares = [float(share.rstrip("%")) for _, _, share in each["rows"]]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] / 100 == pytest.approx(row.max(), abs=0.006)
    marks = browser.run(MARKED)
    row = attention.weights.mean((0, 1))[place] if head is None else attention.weights[head][place]
    for distance in range(1, min(place, row.size) + 1):
        relative = row[distance - 1] / row.max()
        if relative > 0.06:
            assert float(marks[place - distance]) == pytest.approx(relative, abs=0.02)
        elif relative < 0.04:
            assert marks[place - distance] == ""


def test_attention_matches_the_library(inspected: Browser, shakespeare: LanguageModel) -> None:
    attention = inspect_text(shakespeare, TEXT).attention
    inspected.hover("#text [data-at='40']")
    inspected.settled()
    assert [each["kind"] for each in inspected.run(LOOKED)] == ["weights", "reweight", "content"]
    check_attention(inspected, attention, 40, None)
    inspected.click("#matrix .head-row:nth-child(8)")  # the first row is the mean of all heads
    assert inspected.text("#looked h3") == "Block 2, head 3 looked at"
    check_attention(inspected, attention, 40, (1, 2))
    inspected.press("#matrix [aria-checked='true']", DOWN + DOWN + UP)
    assert inspected.text("#looked h3") == "Block 2, head 4 looked at"
    check_attention(inspected, attention, 40, (1, 3))
    inspected.press("#text .current", HOME)
    inspected.settled()
    assert inspected.run("return knock.session.selected") == 7
    check_attention(inspected, attention, 7, (1, 3))
    inspected.keys(RIGHT + RIGHT + LEFT)
    inspected.settled()
    check_attention(inspected, attention, 8, (1, 3))
    assert inspected.texts("#columns .strip span") == ["start", *map(label, TEXT[:8])]
    inspected.click("input[value='content']")
    inspected.settled()
    assert attention.content is not None
    row = attention.content[1, 3, 8]
    marks = inspected.run(MARKED)
    assert float(marks[8 - 1 - int(row[:8].argmax())]) == pytest.approx(row[:8].max() / row.max(), abs=0.02)


def test_patterns_match_the_library(inspected: Browser, shakespeare: LanguageModel) -> None:
    attention = inspect_text(shakespeare, TEXT).attention
    token = int(shakespeare.vocab.encode("e")[0])
    expected = {
        "attention": attention.patterns(), "reweight": attention.patterns("reweight"),
        "content": attention.patterns("content"), "chosen": attention.patterns(token=token),
    }  # fmt: skip
    heads = inspected.run("return knock.surveyed.heads")
    distance = attention.mean_distance()
    for b, h in np.ndindex(3, 4):
        assert heads[b][h]["distance"] == pytest.approx(distance[b, h], abs=0.02)
        for name, patterns in expected.items():
            np.testing.assert_allclose(heads[b][h][name]["mean"], patterns.mean[b, h], atol=2e-3)
            np.testing.assert_allclose(heads[b][h][name]["spread"], patterns.spread[b, h], atol=2e-3)
    captions = inspected.texts(".panel-caption")
    assert len(captions) == 12
    gate = shakespeare.model.weights["blocks.0.gate"][0]
    assert captions[0] == f"block 1, head 1, gate {gate:.2f}, distance {distance[0, 0]:.1f}"
    series = inspected.texts("#series > span")
    assert series[0].strip() == f"attention, mean over {len(TEXT) - 31} places of the text; band: standard deviation"
    assert "where e is read, mean over" in series[2]
    axis = inspected.texts(".panel:first-child svg text")
    assert axis[:3] == ["0%", "50%", "100%"]
    assert axis[-6:] == ["1", "2", "4", "8", "16", "32"]
    assert "log scale" in inspected.text("#axis")
    inspected.click(".panel:nth-child(6)")
    assert inspected.text("#looked h3") == "Block 2, head 2 looked at"


def test_shares_of_attention_are_of_all_places(show: Show, nano: LanguageModel) -> None:
    """Also in a text that is shorter than the window, where few places see far."""
    text = TEXT[:20]
    assert len(text) < max(block.T for block in nano.model.config.blocks)
    browser = show(nano, text=text)
    browser.settled()
    weights = np.nan_to_num(inspect_text(nano, text).attention.weights)
    heads = browser.run("return knock.surveyed.heads")
    for b, h in np.ndindex(weights.shape[:2]):
        assert heads[b][h]["near"] == pytest.approx(weights[b, h, :, :3].sum(-1).mean(), abs=2e-3)
        assert heads[b][h]["far"] == pytest.approx(weights[b, h, :, 8:].sum(-1).mean(), abs=2e-3)
    browser.press("#open-tour", ENTER)
    browser.keys(ENTER)
    browser.wait("document.querySelector('#tour-text').textContent.includes('% of its attention')")
    shares = [int(share) for share in re.findall(r"(\d+)% of its attention", browser.text("#tour-text"))]
    assert shares
    assert max(shares) <= 100


@pytest.mark.parametrize("kind", EVERY)
def test_every_kind_of_model(show: Show, kind: str) -> None:
    lm = small(kind)
    browser = show(lm, kind, text=ODD * 3)
    browser.settled()
    result = inspect_text(lm, ODD * 3)
    shown = browser.run("return knock.session.letters.map(({ surprise }) => surprise)")
    np.testing.assert_allclose(shown, result.surprise, atol=0.01)
    attention, config = result.attention, lm.model.config
    heads = browser.run("return knock.surveyed.heads")
    patterns = attention.patterns(by="distance")
    for b, h in np.ndindex(config.n_blocks, config.n_heads):
        mean = heads[b][h]["attention"]["mean"]
        np.testing.assert_allclose(mean, patterns.mean[b, h, : len(mean)], atol=0.01)
        assert (heads[b][h]["reweight"] is None) == (config.head_types[b] == "content")
        assert (heads[b][h]["content"] is None) == (config.head_types[b] == "reweight")
    assert browser.run("return document.querySelector('#kinds').hidden") == (not config.has_hybrid)
    for row in range(1, 2 + config.n_blocks * config.n_heads):
        browser.click(f"#matrix .head-row:nth-child({row})")
        browser.keys(RIGHT)
        assert browser.texts("#looked .looked-row")
    for place in (0, 1, 30):
        browser.click(f"#text [data-at='{place}']")
        browser.settled()
        assert browser.text("#next-title") == f"What was expected where {label((ODD * 3)[place])} stands"


def test_a_block_without_a_kind_of_logits_shows_none(show: Show) -> None:
    browser = show(small("all"), text=ODD * 3)
    browser.settled()
    browser.click("input[value='content']")
    lacking = (
        "return [...document.querySelectorAll('#matrix .strip')].map((each) => each.classList.contains('lacking'))"
    )
    assert browser.run(lacking) == [False, *[True] * 3, *[False] * 9]  # the first block has reweight heads


def test_characters_and_steps_of_surprise_are_those_of_the_terminal(show: Show) -> None:
    browser = show(small("hybrid-relative"), text=ODD)
    assert browser.texts("#chosen option")[1:] == [label(char) for char in ODD]
    assert browser.texts("#heat-key b") == [f"{start:g}+" for start, _, _ in STEPS[1:]]


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    channels = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_more_surprising_the_farther_from_the_paper(show: Show, scheme: str) -> None:
    """By lightness alone, for readers who see few colours or none; and the text stays legible."""
    browser = show(small("hybrid-relative"), text=ODD)
    browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        styles = browser.run(
            "const it = document.querySelector('#text [data-at]'); return [0, 1, 2, 3, 4, 5].map((step) => {"
            "it.dataset.heat = step; const { backgroundColor, color } = getComputedStyle(it);"
            "return [backgroundColor, color]; })"
        )
        paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    finally:
        browser.devtools("Emulation.setEmulatedMedia", features=[])
    assert styles[0][0] == "rgba(0, 0, 0, 0)"
    distances = [1.0, *(contrast(background, paper) for background, _ in styles[1:])]
    assert all(after > 1.09 * before for before, after in pairwise(distances))
    assert min(contrast(*style) for style in styles[1:]) >= 4.5
