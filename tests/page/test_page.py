"""The page as a whole: hostile texts, narrow screens, what a screen reader finds, the bundle of the components."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from knock import LanguageModel, ModelConfig, ReweightGPT, Vocab, load
from knock.cli.inspect.subject import label
from knock.cli.main import main
from knock.cli.ui.terminal import END_SIGN
from knock.page import terms
from knock.page.bundle import FOLDER
from knock.page.document import LONGEST_TEXT, beginning, document
from tests.cases import random_weights
from tests.cli.inspect.command import ODD
from tests.page.browser import ENTER, TAB, Browser, Scripts

Show = Callable[..., Browser]

HOSTILE = "</script><script>document.title='broken'</script><!--\u2028\u2029\\\"'&amp;$x$<!-- data -->"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    vocab = "".join(sorted(set(HOSTILE + ODD)))
    config = ModelConfig(vocab_size=len(vocab), T=6, n_emb=12, nodes=10, n_blocks=2, n_heads=3)
    lm = LanguageModel(ReweightGPT.from_weights(random_weights(config, 1)), Vocab(vocab), {"corpus": {"name": HOSTILE}})
    name = "<img src=x onerror=alert(1)> $x" if sys.platform != "win32" else "$x"
    lm.save(tmp_path / f"{name}.safetensors")
    (tmp_path / "text.txt").write_text(HOSTILE + ODD, encoding="utf-8")
    page = tmp_path / "page.html"
    options = ["--text", str(tmp_path / "text.txt"), "--out", str(page), "--quiet"]
    assert main(["page", str(tmp_path / f"{name}.safetensors"), *options]) == 0
    return page


def test_hostile_texts_stay_inside_the_data(hostile: Path) -> None:
    scripts = Scripts(hostile.read_text(encoding="utf-8"))
    assert (len(scripts.scripts), scripts.fetched) == (3, [])
    model, page = json.loads(scripts.scripts[0]), json.loads(scripts.scripts[1])
    assert page["text"] == HOSTILE + ODD
    assert page["headline"] == model["name"] == next(hostile.parent.glob("*.safetensors")).stem
    for script in scripts.scripts[:2]:
        assert script.isascii()
        assert not set("<>&") & set(script)


def test_hostile_texts_are_texts_in_a_browser(browser: Browser, hostile: Path) -> None:
    browser.show(hostile)
    browser.settled()
    assert browser.texts("#text [data-at]") == [" " if char == " " else label(char) for char in HOSTILE + ODD]
    browser.set("#prompt", HOSTILE)
    browser.press("#prompt", ENTER)
    browser.settled()
    assert browser.run("return knock.session.text").startswith(HOSTILE)
    assert HOSTILE.replace("'", "'\\''") in browser.text("#command")
    assert browser.text("#name") == next(hostile.parent.glob("*.safetensors")).stem
    assert browser.run("return document.images.length + document.scripts.length") == 3
    assert HOSTILE in browser.text("#about")
    assert browser.run("return document.title").startswith(browser.text("#name"))


@pytest.mark.parametrize("width", [1280, 800, 400, 320])
def test_the_page_does_not_scroll_sideways(show: Show, nano: LanguageModel, width: int) -> None:
    browser = show(nano, "a" * 120, width=width, text="O" * 300 + "\n\nTo be, or not to be")
    browser.run("document.querySelector('#controls').open = true")
    browser.set("#target", 2)
    browser.set("#min-p", 0.1)
    browser.settled()
    for opener in ("", "#open-tour"):
        if opener:
            browser.click(opener)
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.run(wide) == 0
    assert browser.run("return document.querySelectorAll('.bar-row:first-child .bar-cell').length") >= 3


@pytest.mark.parametrize(("width", "columns"), [(1280, 2), (1024, 2), (853, 2), (800, 1), (400, 1)])
def test_the_bars_are_beside_the_text_where_there_is_room(
    show: Show, nano: LanguageModel, width: int, columns: int
) -> None:
    browser = show(nano, width=width)
    browser.settled()
    beside = """
    const [play, next] = ["#play", "#next"].map((each) => document.querySelector(each).getBoundingClientRect());
    return next.top < play.bottom && next.left >= play.right
    """
    assert browser.run(beside) == (columns == 2)


def test_the_words_are_explained(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    browser.settled()
    browser.press("#open-terms", ENTER)
    assert browser.run("return document.querySelector('#words').open")
    assert browser.run("return document.activeElement.tagName") == "SUMMARY"
    browser.wait("document.querySelector('#terms').getBoundingClientRect().bottom <= innerHeight + 1")
    names = browser.texts("#terms dt")
    assert {"head", "block", "attention", "surprise", "entropy", "temperature", "top-p", "min-p", "seed"} <= set(names)
    assert len(set(names)) == len(names)


def test_what_can_be_operated_has_a_name_and_a_place(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    browser.settled()
    unnamed = """
    return [...document.querySelectorAll("button, input, select, textarea, [role], svg[role=img]")]
      .filter((each) => each.role !== "status")
      .filter((each) => !(each.getAttribute("aria-label") || each.getAttribute("aria-labelledby") || each.labels?.length
                          || each.textContent.trim()))
      .map((each) => each.outerHTML.slice(0, 80))
    """
    assert browser.run(unnamed) == []
    referred = """
    return [...document.querySelectorAll("[aria-labelledby], [aria-describedby], [for]")].flatMap((each) =>
      ["aria-labelledby", "aria-describedby", "for"].flatMap((name) => (each.getAttribute(name) ?? "").split(" ")))
      .filter((id) => id && !document.getElementById(id))
    """
    assert browser.run(referred) == []
    browser.press("#open-tour", TAB)
    order = []
    for _ in range(40):
        order.append(
            browser.run(
                "const it = document.activeElement; return it.id || it.dataset.at || it.className.split(' ')[0] || ''"
            )
        )
        browser.keys(TAB)
    places = [
        order.index(each) for each in ("prompt", "write", "again", "coloured", "copy", "temperature", "seed", "bar-row")
    ]
    assert places == sorted(places)
    assert sum(each.isdigit() for each in order) == 1  # one stop for the text


def test_nothing_moves_for_readers_who_prefer_that(show: Show, nano: LanguageModel) -> None:
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser = show(nano)
    duration = "return getComputedStyle(document.querySelector('.bar-cell i')).transitionDuration"
    assert browser.run(duration) != "0s"
    browser.devtools("Emulation.setEmulatedMedia", features=features)
    try:
        assert browser.run(duration) == "0s"
        browser.click("#open-tour")
        before = browser.run("return scrollY")
        browser.settled()
        assert browser.run("return scrollY") == before
    finally:
        browser.devtools("Emulation.setEmulatedMedia", features=[])


def test_colours_are_legible_in_both_schemes(show: Show, nano: LanguageModel) -> None:
    browser = show(nano)
    contrast = """
    const levels = (name) => {
      const probe = document.createElement("i");
      probe.style.color = `var(${name})`;
      document.body.append(probe);
      const rgb = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255);
      probe.remove();
      const [r, g, b] = rgb.map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => (Math.max(levels(a), levels(b)) + 0.05) / (Math.min(levels(a), levels(b)) + 0.05);
    return [["--ink", "--paper"], ["--soft", "--paper"], ["--soft", "--panel"], ["--accent", "--paper"],
            ["--on-accent", "--accent"], ["--ink", "--raised"]].map(([one, other]) => ratio(one, other))
    """
    for scheme in ("light", "dark"):
        browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        assert min(browser.run(contrast)) >= 4.5
    browser.devtools("Emulation.setEmulatedMedia", features=[])


def test_components_are_named_in_the_readme_and_used() -> None:
    from knock.page.bundle import modules

    files = set((FOLDER / "ui").glob("*.js"))
    readme = (FOLDER / "ui" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(files) if f"`{path.name}`" not in readme] == []
    assert files <= {Path(path) for path in modules([FOLDER / "ui" / "main.js"])}
    for path in files:
        source = path.read_text(encoding="utf-8")
        assert "innerHTML" not in source
        assert "insertAdjacentHTML" not in source


@pytest.mark.parametrize(("name", "most"), [("shakespeare-nano", 450_000), ("shakespeare-small", 2_500_000)])
def test_pages_are_small(name: str, most: int) -> None:
    """With all that they show."""
    assert len(document(load(name), name)) <= most


def test_the_beginning_of_a_text_says_what_it_is() -> None:
    assert LONGEST_TEXT == 4096
    assert beginning("abc", "a.txt") == ("abc", "The text is a.txt, 3 characters.")
    text, source = beginning("ab" * 2500, "a.txt")
    assert text == "ab" * 2048
    assert source == "The text is the first 4,096 of 5,000 characters of a.txt."
    assert terms.END_SIGN == END_SIGN
