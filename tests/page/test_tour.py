"""The tour of the page: opened when asked for, gone through by keyboard, and it leaves the page as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from knock import LanguageModel, ReweightGPT, Vocab, load
from tests.cases import EVERY, SMALL, random_weights
from tests.cli.inspect.command import small
from tests.page.browser import ENTER, ESCAPE, TAB, Browser

Show = Callable[..., Browser]

STATE = """
return [knock.session.text, knock.session.prompt, String(knock.session.seed), knock.session.selected,
        document.querySelector("#in-words").textContent, document.querySelector("#slow").checked,
        document.querySelector("#looked h3").textContent]
"""


TRIED = "return [...document.querySelectorAll('#tour-tries button')].map((each) => each.getAttribute('aria-pressed'))"


def check_that_the_choice_is_between_several(browser: Browser) -> None:
    """Or nobody would see what the temperature does."""
    letters = browser.run("return knock.session.letters.map(({ isGiven, entropy }) => isGiven ? null : entropy)")
    selected = browser.run("return knock.session.selected")
    assert letters[selected] == min((each for each in letters if each is not None), key=lambda bits: abs(bits - 2))
    assert 1.5 < letters[selected] < 2.5


def test_five_steps_by_keyboard(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    browser.set("#temperature", 0.5)
    browser.settled()
    before = browser.run(STATE)
    assert browser.run("return document.querySelector('#tour').hidden && !document.querySelector('#hint').hidden")
    browser.press("#open-tour", ENTER)
    titles, texts = [], []
    for step in range(5):
        browser.settled()
        assert browser.text("#tour-count") == f"Step {step + 1} of 5"
        assert browser.run("return document.activeElement.id") == "tour-next"
        assert browser.run("""const it = document.querySelector(".lit").getBoundingClientRect();
            return it.top < innerHeight / 2 && it.bottom > 0""")
        titles.append(browser.text("#tour-title"))
        texts.append(browser.text("#tour-text"))
        state = dict(zip(("text", "prompt", "seed", "selected", "words"), browser.run(STATE), strict=False))
        if step == 0:
            assert before[0].startswith(state["prompt"])
            assert 3 < len(state["prompt"]) < 40
            assert state["text"] == state["prompt"]
        elif step == 1:
            assert state["text"] == before[0]
            assert "% of its attention to the last three characters" in texts[1]
            assert browser.text("#looked h3") != "The mean of all heads looked at"
        elif step == 2:
            assert state["words"] == "temperature 0.2"
            expected = nano.generate(state["prompt"], seed=1, temperature=0.2).text
            assert state["text"] == state["prompt"] + expected
            assert browser.run(TRIED) == ["true", "false", "false"]
            check_that_the_choice_is_between_several(browser)
            browser.press("#tour-tries button:nth-child(3)", ENTER)
            browser.settled()
            assert browser.text("#in-words") == "temperature 1.5"
            assert browser.run(TRIED) == ["false", "false", "true"]
            check_that_the_choice_is_between_several(browser)
            assert browser.text("#looked h3") == "The mean of all heads looked at"
            browser.press("#tour-tries button:nth-child(3)", TAB + TAB)  # past the button that goes back
        elif step == 3:
            assert state["words"] == "entropy held at 1.5 bits"
            assert not browser.run("return document.querySelector('#gauge').hidden")
        else:
            assert state["prompt"] == "What is the capital of France?\n"
            assert len(state["text"]) == len(state["prompt"]) + 300
        browser.keys(ENTER)
    assert len(set(titles)) == len(set(texts)) == 5
    assert browser.run("return document.querySelector('#tour').hidden && document.querySelector('#hint').hidden")
    assert browser.run("return document.activeElement.id") == "open-tour"
    browser.settled()
    assert browser.run(STATE) == before


def test_it_can_be_left_at_any_step(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    browser.settled()
    before = browser.run(STATE)
    browser.press("#open-tour", ENTER)
    browser.click("#tour-tries button")  # draw slowly
    browser.wait("knock.session.letters.at(-1).isGiven === false")
    browser.keys(ESCAPE)
    browser.settled()
    assert browser.run(STATE) == before
    browser.press("#open-tour", ENTER)
    browser.keys(ENTER)
    browser.press("#tour-back", ENTER)
    assert browser.text("#tour-count") == "Step 1 of 5"
    browser.click("#tour-close")
    browser.settled()
    assert browser.run(STATE) == before


def test_on_a_narrow_screen_it_hides_neither_its_point_nor_its_buttons(show: Show) -> None:
    """Although the text above its point grows while this model writes."""
    browser = show(load("shakespeare-small"), width=400)
    phone = {"width": 400, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    browser.devtools("Emulation.setDeviceMetricsOverride", **phone)
    browser.press("#open-tour", ENTER)
    top = "document.querySelector('#tour').getBoundingClientRect().top"
    for step in range(5):
        browser.settled()
        assert browser.run(f"return {top}") > 0.5 * browser.run("return innerHeight")
        for button in ("#tour-back", "#tour-next"):
            assert browser.run(
                f"const it = document.querySelector('{button}').getBoundingClientRect();"
                f"return it.top >= {top} && it.bottom <= innerHeight"
            )
        if step == 3:
            browser.wait(f"document.querySelector('#gauge').getBoundingClientRect().bottom <= {top}")
            assert browser.run("return document.querySelector('#gauge').getBoundingClientRect().top") >= 0
        browser.press("#tour-next", ENTER)


@pytest.mark.parametrize("kind", [*EVERY, "items"])
def test_every_kind_of_model_has_a_tour(show: Show, kind: str) -> None:
    if kind == "items":
        weights = random_weights(SMALL["hybrid-relative"], 5)
        lm = LanguageModel(ReweightGPT.from_weights(weights, backend="numpy"), Vocab("abcdefghij", boundary=True))
    else:
        lm = small(kind, "abcdefghij\n")
    browser = show(lm)
    browser.press("#open-tour", ENTER)
    for _ in range(5):
        browser.settled()
        assert browser.text("#tour-text")
        browser.press("#tour-next", ENTER)
    assert browser.run("return document.querySelector('#tour').hidden")
