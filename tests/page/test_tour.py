"""The tour of the page: opened when asked for, gone through by keyboard, and it leaves the page as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from knock import LanguageModel, ReweightGPT, Vocab
from tests.cases import EVERY, SMALL, random_weights
from tests.cli.inspect.command import small
from tests.page.browser import ENTER, ESCAPE, TAB, Browser

Show = Callable[..., Browser]

STATE = """
return [knock.session.text, knock.session.prompt, String(knock.session.seed), knock.session.selected,
        document.querySelector("#in-words").textContent, document.querySelector("#slow").checked]
"""


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
            browser.press("#tour-tries button:nth-child(3)", ENTER)
            browser.settled()
            assert browser.text("#in-words") == "temperature 1.5"
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
