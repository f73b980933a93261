"""Tests of the page of `knock inspect`: its data, and what a browser shows of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knock import LanguageModel, ModelConfig, ReweightGPT, Vocab
from knock.cli.inspect.subject import label
from knock.inspection import inspect_text
from tests.cases import random_weights
from tests.cli.inspect.browser import SHOWN, Browser, Scripts
from tests.cli.inspect.command import ODD, run, saved

HOSTILE = "</script><script>document.title='broken'</script><!--\u2028\u2029\\\"'&amp;$x$"


def test_page_matches_the_library(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shakespeare: LanguageModel
) -> None:
    text, path = shakespeare.generate("ROMEO:", max_new_tokens=294, seed=1), tmp_path / "p.html"
    code, out, err = run(
        capsys, "shakespeare-hybrid", "--text", "ROMEO:" + text.text, "--char", "e", "--html", str(path)
    )
    assert (code, out, err) == (0, f"{path}: {path.stat().st_size:,} bytes\n", "")
    assert path.stat().st_size < 500_000
    scripts = Scripts(path.read_text(encoding="utf-8"))
    assert (len(scripts.scripts), scripts.fetched) == (2, [])
    data = json.loads(scripts.scripts[0])
    result = inspect_text(shakespeare, "ROMEO:" + text.text)
    attention = result.attention
    assert data["text"] == result.text
    np.testing.assert_allclose(data["entropy"], result.entropy, atol=0.0051)
    np.testing.assert_allclose(data["surprise"], result.surprise, atol=0.0051)
    expected = np.array(data["expected"]).reshape(300, 5, 2)
    assert np.array_equal(expected[..., 0], result.alternatives)
    np.testing.assert_allclose(expected[..., 1] / 1000, result.probabilities, atol=0.00051)
    by_head = {(each["kind"], each["head"]): each["rows"] for each in data["looks"]}
    assert len(by_head) == 2 * 13
    assert attention.content is not None
    for name, weights in (
        (("attention", "mean of all heads"), attention.weights.mean((0, 1))),
        (("attention", "block 3, head 2"), attention.weights[2, 1]),
        (("content logits alone", "block 1, head 4"), attention.content[0, 3]),
    ):
        for t in (0, 5, 200, 299):
            back, share = by_head[name][t][::2], by_head[name][t][1::2]
            most = sorted((weight for weight in weights[t] if weight >= 0.01), reverse=True)[:8]
            assert np.array(share) / 100 == pytest.approx(most, abs=0.0051)
            assert [weights[t, far - 1] for far in back] == pytest.approx(most)
    patterns = (
        attention.patterns(),
        attention.patterns("reweight"),
        attention.patterns(token=shakespeare.vocab.encode("e")[0]),
    )
    assert (data["distances"], data["isLog"]) == (32, True)
    assert [name for name, _ in data["terms"]] == ["attention", "reweight", "content", "gate", "distance"]
    distances = attention.mean_distance()
    for pattern, (b, h) in zip(data["patterns"], np.ndindex(3, 4), strict=True):
        assert pattern["gate"] == pytest.approx(shakespeare.model.weights[f"blocks.{b}.gate"][h], abs=0.00051)
        assert pattern["distance"] == pytest.approx(distances[b, h], abs=0.0051)
        np.testing.assert_allclose(pattern["spread"], patterns[0].spread[b, h], atol=0.000051)
        for mean, whole in zip(pattern["means"], patterns, strict=True):
            np.testing.assert_allclose(mean, whole.mean[b, h], atol=0.000051)


def hostile_page(capsys: pytest.CaptureFixture[str], folder: Path) -> Path:
    vocab = "".join(sorted(set(HOSTILE + ODD)))
    config = ModelConfig(vocab_size=len(vocab), T=6, n_emb=12, nodes=10, n_blocks=2, n_heads=3)
    model = LanguageModel(ReweightGPT.from_weights(random_weights(config, 1)), Vocab(vocab))
    name = "<img src=x onerror=alert(1)> @DATA@ $x" if sys.platform != "win32" else "@DATA@ $x"
    model.save(folder / f"{name}.safetensors")
    path = folder / "page.html"
    assert run(capsys, str(folder / f"{name}.safetensors"), "--text", HOSTILE + ODD, "--html", str(path))[0] == 0
    return path


def test_hostile_text_and_name_stay_inside_the_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = hostile_page(capsys, tmp_path).read_bytes()
    scripts = Scripts(page.decode())
    assert (len(scripts.scripts), scripts.fetched) == (2, [])
    data = json.loads(scripts.scripts[0])
    assert data["text"] == HOSTILE + ODD
    assert "@DATA@" in data["name"]
    assert scripts.scripts[0].isascii()
    assert not set("<>&") & set(scripts.scripts[0])


def test_page_reacts_to_hovering_and_keys(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, browser: Browser, shakespeare: LanguageModel
) -> None:
    text, path = "ROMEO:\nWhat light through yonder window breaks?", tmp_path / "page.html"
    run(capsys, "shakespeare-hybrid", "--text", text, "--html", str(path))
    result = inspect_text(shakespeare, text)
    browser.show(path)
    browser.hover("#text span[data-place='20']")
    shown = browser.run(SHOWN)
    assert shown["title"] == f"{label(text[20])} at 20"
    assert shown["current"] == [text[20]]
    assert shown["facts"][0] == f"{result.surprise[20]:.2f} bits"
    assert shown["facts"][2] == f"{result.entropy[20]:.2f} bits"
    assert shown["expected"][::2] == [label(shakespeare.vocab.characters[token]) for token in result.alternatives[20]]
    assert len(shown["panels"]) == 12
    assert shown["panels"][0].startswith("block 1, head 1, gate 0.67, distance ")
    assert len(set(shown["scales"])) == 1  # one scale for all panels
    assert shown["scales"][0].endswith(" 1 2 4 8 16 32")
    assert shown["terms"] == ["attention", "reweight", "content", "gate", "distance"]
    assert re.fullmatch(r"surprise in bits:expected(\d\+)+surprising", shown["key"][0])
    assert [not paper for paper in shown["papers"]] == [bits < 1 for bits in result.surprise.round(2)]

    def check(place: int, weights: Any) -> None:
        shown = browser.run(SHOWN)
        back, share = result.attention.looked_at(weights, 8)
        looked = [(int(far), w) for far, w in zip(back[place], share[place], strict=True) if far and w >= 0.01]
        names = [f"{label(text[place - far]) if far <= place else 'start'} −{far}" for far, _ in looked]
        assert shown["looked"][::2] == names
        assert [int(share[:-1]) for share in shown["looked"][1::2]] == pytest.approx(
            [100 * w for _, w in looked], abs=0.51
        )
        lit = {i - 1: float(value) for i, value in enumerate(shown["marked"]) if value}  # index 0 is the start token
        most = max(round(100 * w) for _, w in looked)
        assert lit == {place - far: pytest.approx(round(100 * w) / most, abs=1.1 / most) for far, w in looked}

    check(20, result.attention.weights.mean((0, 1)))
    browser.press("#text .current", "\ue014")  # right arrow
    assert browser.run(SHOWN)["title"].endswith(" at 21")
    browser.press("#text .current", "\ue012")
    browser.press("#text .current", "\ue011")  # home: the start of the line
    assert browser.run(SHOWN)["title"] == "W at 7"
    browser.run("""for (const [id, value] of [["head", "block 2, head 3"], ["kind", "content logits alone"]]) {
        document.getElementById(id).value = value; document.getElementById(id).dispatchEvent(new Event("change")); }""")
    check(7, result.attention.content[1, 2] if result.attention.content is not None else None)
    for width in (1100, 400):
        browser.show(path, width)
        shown = browser.run(SHOWN)
        assert shown["wide"] <= shown["inner"]
    assert browser.console() == []


def test_hostile_page_is_harmless_in_a_browser(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, browser: Browser
) -> None:
    browser.show(hostile_page(capsys, tmp_path))
    shown = browser.run(SHOWN)
    assert "@DATA@" in shown["name"]
    assert browser.run("return document.images.length + document.scripts.length") == 2
    texts = browser.run("return [...document.querySelectorAll('#text span[data-place]')].map(each => each.textContent)")
    assert texts == [" " if char == " " else label(char) for char in HOSTILE + ODD]
    assert browser.console() == []


def test_page_of_blocks_that_differ(capsys: pytest.CaptureFixture[str], tmp_path: Path, browser: Browser) -> None:
    """Every head can be chosen for both kinds; a block without content logits shows that it has none."""
    path = tmp_path / "all.html"
    assert run(capsys, saved(tmp_path, "all"), "--text", ODD * 2, "--html", str(path))[0] == 0
    browser.show(path)
    browser.hover("#text span[data-place='20']")
    choose = "document.getElementById(arguments[0]).value = arguments[1]; show(current);"
    scales = {}
    for kind in ("attention", "content logits alone"):
        for b in range(1, 5):
            for name, value in (("kind", kind), ("head", f"block {b}, head 1")):
                browser.run(choose.replace("arguments[0]", json.dumps(name)).replace("arguments[1]", json.dumps(value)))
            scales[kind, b] = browser.run("return document.getElementById('scale').textContent")
    lacking = {key for key, scale in scales.items() if "no content logits" in scale}
    assert lacking == {("content logits alone", 1)}
    assert browser.console() == []
