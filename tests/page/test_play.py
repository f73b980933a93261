"""Playing with the page: what it writes, and what its controls do."""

from __future__ import annotations

import io
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knock import LanguageModel, ReweightGPT, Sampling, Vocab
from knock.cli.main import main
from knock.words import counted
from tests.cases import SMALL, random_weights
from tests.page.browser import BACKSPACE, DOWN, END, ENTER, ESCAPE, Browser

Show = Callable[..., Browser]

STAGES = """return [...document.querySelectorAll("#bars-heading span")].slice(1).map((each) => each.textContent)"""
ROWS = """
return [...document.querySelectorAll(".bar-row:not([hidden])")].map((row) => ({
  token: Number(row.dataset.token), name: row.querySelector(".bar-name").textContent,
  cells: [...row.querySelectorAll(".bar-cell")].map((cell) => cell.textContent),
}))
"""


def write(browser: Browser, prompt: str) -> str:
    """Type a prompt, press Enter, and return the text when it is written."""
    browser.run("document.querySelector('#prompt').value = ''")
    browser.set("#prompt", prompt)
    browser.press("#prompt", ENTER)
    browser.settled()
    return browser.run("return knock.session.text")


def shown_text(browser: Browser) -> str:
    return "".join(browser.texts("#text [data-at]")).replace("↵", "\n")


def share(cell: str) -> float:
    return 0 if cell == "cut" else 1e-6 if cell.startswith("<") else float(cell.rstrip("%")) / 100


def test_the_page_writes_what_the_library_writes(show: Show, nano: LanguageModel) -> None:
    browser = show(nano, "shakespeare-nano")
    expected = nano.generate("", sampling="balanced", seed=1)
    assert browser.run("return knock.session.text") == expected.text  # written when the page opened
    expected = nano.generate("ROMEO:", sampling="balanced", seed=1, token_stats=True)
    assert write(browser, "ROMEO:") == "ROMEO:" + expected.text
    assert shown_text(browser) == "ROMEO:" + expected.text
    assert expected.token_stats is not None
    surprise = browser.run("return knock.session.letters.slice(6).map(({ surprise }) => surprise)")
    np.testing.assert_allclose(surprise, expected.token_stats.surprise, atol=1e-4)
    heat = browser.run(
        "return [...document.querySelectorAll('#text [data-at]')].slice(6).map((each) => each.dataset.heat)"
    )
    assert heat == [str(np.searchsorted([1, 2, 4, 6, 8], bits, "right")) for bits in surprise]
    assert browser.run("return [...document.querySelectorAll('#text .given')].length") == 6
    browser.click("#again")
    browser.settled()
    assert browser.run("return knock.session.text") == (
        "ROMEO:" + nano.generate("ROMEO:", sampling="balanced", seed=2).text
    )
    browser.click("#undo")
    assert shown_text(browser) == "ROMEO:" + expected.text
    assert browser.run("return document.querySelector('#seed').value") == "1"


@pytest.fixture
def odd(nano: LanguageModel, tmp_path: Path) -> Path:
    """The page of a model that knows characters with a meaning in a shell, beside its file."""
    characters = "".join(nano.vocab.characters).translate(str.maketrans("zZX", '\\"`'))
    LanguageModel(nano.model, Vocab(characters)).save(tmp_path / "odd one.safetensors")
    page = tmp_path / "odd.html"
    assert main(["page", str(tmp_path / "odd one.safetensors"), "--out", str(page), "--quiet"]) == 0
    return page


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ("", {"#length": 50}),
        ('it\'s \\n "$HOME" `ls`;&!', {"#length": 50}),
        ("ROMEO:\n\\n", {"#seed": str(2**64 - 1), "#length": 40}),
        ("--seed", {"#temperature": 0, "#length": 50}),
        ("-", {"#top-p": 1, "#min-p": 0.1, "#length": 50}),
        ("To be", {"#target": 2.1, "#top-p": 0.9}),
        ("zé!Z", {"#temperature": 1.5, "#top-p": 1, "#length": 50}),
    ],
)
def test_the_command_writes_the_same_text(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    browser: Browser,
    odd: Path,
    prompt: str,
    settings: dict[str, Any],
) -> None:
    browser.show(odd)
    for selector, value in settings.items():
        browser.set(selector, value)
    text = write(browser, prompt)
    assert len(text) >= settings.get("#length", 300)
    monkeypatch.chdir(odd.parent)
    words = shlex.split(browser.text("#command"))
    if words[0] == "printf":
        assert words[:4] == ["printf", "%s", "-", "|"]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"-")))
        words = words[4:]
    assert words[0] == "knock"
    capsys.readouterr()
    assert main(words[1:]) == 0
    out = capsys.readouterr().out
    assert out.removeprefix(prompt) == text.removeprefix("".join(char for char in prompt if char not in "zéZ"))
    assert browser.run("return document.querySelector('#unknown').hidden") == ("é" not in prompt)


def test_the_command_is_of_the_text_not_of_the_controls(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    write(browser, "ROMEO:")
    command = browser.text("#command")
    assert browser.text("#command-title") == "The same text in a terminal:"
    browser.set("#target", 1.5)
    browser.set("#seed", 7)
    browser.set("#length", 20)
    assert browser.text("#command") == command
    assert browser.text("#gauge-words") == "Write a text to see how the rule holds the entropy."
    browser.click("#write")
    browser.settled()
    assert "--seed 7 --length 20 --entropy 1.5" in browser.text("#command")
    assert browser.text("#gauge-words").startswith("Held at ")
    browser.set("#target", 2.5)
    assert browser.text("#gauge-words") == "Write a text to see how the rule holds the entropy."
    browser.click("#undo")
    assert browser.text("#command") == command
    browser.set("#prompt", "ROM")
    assert browser.text("#command-title") == "What Write does, in a terminal:"
    assert "generate ROM --model model --seed 7 --length 20 --entropy 2.5" in browser.text("#command")


def test_a_text_under_way_begins_again_with_new_settings(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    browser.click("#slow")
    browser.run("document.querySelector('#prompt').value = ''")
    browser.press("#prompt", "ROMEO:" + ENTER)
    browser.wait("knock.session.letters.length > 8")
    browser.set("#temperature", 1.5)
    assert browser.run("return knock.session.isWriting && knock.session.letters.length < 9")
    browser.wait("knock.session.letters.length > 8")
    browser.click("#slow")  # the rest as fast as possible
    browser.settled()
    expected = nano.generate("ROMEO:", temperature=1.5, top_p=0.95, seed=1).text
    assert browser.run("return knock.session.text") == "ROMEO:" + expected
    assert "--temperature 1.5 " in browser.text("#command")
    browser.click("#undo")
    browser.settled()
    assert browser.run("return knock.session.text") == "ROMEO:"


def test_controls_show_their_effect_at_once(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    browser.set("#prompt", "O")
    browser.settled()
    assert browser.run(STAGES) == ["model", "temperature 0.8", "top-p 0.95"]
    logits = nano.model.logits(nano.vocab.encode("O"))[-1].astype(np.float64)
    model = np.exp(logits) / np.exp(logits).sum()
    cooled = np.exp(logits / 0.8) / np.exp(logits / 0.8).sum()
    order = np.argsort(-model, kind="stable")[:10]
    rows = browser.run(ROWS)
    assert [row["token"] for row in rows] == order.tolist()
    for row in rows:
        assert share(row["cells"][0]) == pytest.approx(model[row["token"]], rel=0.06)
        assert share(row["cells"][1]) == pytest.approx(cooled[row["token"]], rel=0.06)
    kept = np.searchsorted(np.cumsum(np.sort(cooled)[::-1]), 0.95) + 1
    assert [row["cells"][2] == "cut" for row in rows] == [rank >= kept for rank in range(10)]
    assert browser.texts("#bars-footer span")[4:8] == ["possible", "65", "65", str(kept)]
    browser.set("#temperature", 0)
    browser.settled()
    assert browser.run(STAGES) == ["model", "greedy"]
    assert [row["cells"][1] for row in browser.run(ROWS)] == ["100%", *["cut"] * 9]
    browser.set("#target", 0.6)  # moving it turns the rule on
    browser.set("#top-p", 1)
    browser.set("#min-p", 0.02)
    browser.settled()
    assert browser.run(STAGES) == ["model", "entropy 0.6", "min-p 0.02"]
    coldest = np.exp(logits / 0.3) / np.exp(logits / 0.3).sum()
    entropy = -(coldest * np.log2(coldest)).sum()
    assert entropy > 0.7
    assert browser.texts("#bars-footer span")[-2] == f"{entropy:.2f} bits"
    assert browser.text("#next-facts") == "The rule sets temperature 0.30 here: it can come no nearer to the target."
    browser.set("#prompt", "ROM")
    browser.settled()
    assert browser.texts("#bars-footer span")[-2] == "0.60 bits"
    assert re.fullmatch(r"The rule sets temperature [\d.]+ here\.", browser.text("#next-facts"))
    assert browser.run("return document.querySelector('#temperature').disabled")
    assert browser.text("#in-words") == "entropy held at 0.6 bits, min-p 0.02"
    browser.click("#reset")
    assert browser.text("#in-words") == "temperature 0.8, top-p 0.95"


def test_the_gauge_shows_the_target_held(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    assert browser.run("return document.querySelector('#gauge').hidden")
    browser.set("#target", 1.5)
    browser.set("#top-p", 1)
    write(browser, "ROMEO:")
    expected = nano.generate("ROMEO:", sampling=Sampling(target_entropy=1.5), seed=1, token_stats=True)
    assert expected.token_stats is not None
    assert browser.run("return knock.session.text") == "ROMEO:" + expected.text
    held = browser.run("return knock.session.letters.slice(6).map(({ held }) => held)")
    np.testing.assert_allclose(held, expected.token_stats.sampled_entropy, atol=1e-3)
    count = int((np.abs(expected.token_stats.sampled_entropy - 1.5) < 0.02).sum())
    assert 100 < count < 300
    assert browser.text("#gauge-words").startswith(f"Held at {count} of 300 characters; mean ")
    assert browser.run("return document.querySelectorAll('#gauge-chart polyline').length") == 2


def test_characters_are_chosen_one_by_one(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    browser.set("#prompt", "RO")
    browser.settled()
    row = browser.run(ROWS)[1]
    browser.click(".bar-row:nth-child(2)")
    browser.settled()
    name = nano.vocab.characters[row["token"]]
    assert browser.run("return [knock.session.prompt, document.querySelector('#prompt').value]") == [f"RO{name}"] * 2
    assert browser.run("return knock.session.selected") == 3
    browser.press(".bar-row:nth-child(2)", "e")  # any key writes its character
    browser.settled()
    assert browser.run("return knock.session.text") == f"RO{name}e"
    browser.keys(DOWN)
    browser.keys(ENTER)
    browser.settled()
    assert len(browser.run("return knock.session.text")) == 5
    browser.press(".bar-row:nth-child(1)", "7")
    assert browser.text("#next-facts") == "The model does not know 7"
    browser.wait("document.querySelector('#status').textContent === 'The model does not know 7'")
    text = browser.run("return knock.session.text")
    browser.press(".bar-row:nth-child(1)", BACKSPACE + BACKSPACE)
    browser.settled()
    assert browser.run("return [knock.session.text, knock.session.prompt]") == [text[:-2]] * 2
    browser.click("#undo")
    browser.click("#undo")
    browser.settled()
    assert browser.run("return knock.session.text") == text
    browser.click("#undo")
    browser.settled()
    assert browser.run("return knock.session.text") == f"RO{name}e"
    assert browser.run("return document.querySelector('#to-end').hidden")
    browser.click("#text [data-at='1']")
    browser.settled()
    browser.click("#to-end")
    browser.settled()
    assert browser.text("#next-title") == "The next character"
    assert browser.run("return document.querySelector('#to-end').hidden")
    browser.click("#text [data-at='1']")
    browser.settled()
    browser.click("#from-here")
    browser.settled()
    assert browser.run("return [knock.session.text, knock.session.prompt]") == ["R", "R"]


def test_writing_slowly_can_be_stopped(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    browser.click("#slow")
    browser.run("document.querySelector('#prompt').value = ''")
    browser.press("#prompt", "A" + ENTER)
    browser.wait("knock.session.letters.length > 2")
    assert browser.run("return knock.session.isWriting && !document.querySelector('#stop').disabled")
    browser.keys(ESCAPE)
    browser.settled()
    length = browser.run("return knock.session.letters.length")
    assert 2 < length < 100
    assert browser.text("#summary").startswith(f"{length} characters, stopped; ")
    assert f"generate A --model model --seed 1 --length {length - 1} " in browser.text("#command")
    assert browser.run("return knock.session.text") == (
        "A" + nano.generate("A", sampling="balanced", seed=1, max_new_tokens=length - 1).text
    )


def test_items_end(show: Show) -> None:
    vocab = Vocab("abcdefghij", boundary=True)
    lm = LanguageModel(ReweightGPT.from_weights(random_weights(SMALL["hybrid-relative"], 5), backend="numpy"), vocab)
    browser = show(lm)
    expected = lm.generate("b", sampling="balanced", seed=1)
    assert expected.finish_reason == "end"
    assert write(browser, "b") == "b" + expected.text
    assert shown_text(browser) == f"b{expected.text}∎"
    assert browser.text("#summary").startswith(f"{counted(len(expected.text) + 1, 'character')}, a whole item")
    browser.press("#text .current", END)
    assert browser.text("#next-title") == "What was expected at the end"
    end = lm.score("b" + expected.text).log_probs[-1] / -np.log(2)
    assert browser.run("return knock.session.letters.at(-1).surprise") == pytest.approx(end, abs=1e-4)
    browser.set("#prompt", "b")
    browser.settled()
    place = 1 + next(i for i, row in enumerate(browser.run(ROWS)) if row["name"] == "∎")
    browser.click(f".bar-row:nth-child({place})")
    browser.settled()
    assert shown_text(browser) == "b∎"


def test_the_text_is_copied_and_saved(show: Show, nano: LanguageModel, tmp_path: Path) -> None:
    browser = show(nano, "lesson")
    browser.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
    text = write(browser, "ROMEO:")
    browser.click("#download")
    browser.wait("document.querySelector('#note').textContent === 'The text is saved.'")
    saved, until = tmp_path / "saved" / "lesson.txt", time.monotonic() + 60
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert saved.read_text(encoding="utf-8") == text
    browser.click("#copy")
    browser.wait("document.querySelector('#note').textContent === 'The text is copied.'")
