"""Tests of inspection: numbers against naive loops and the reference, the view, the plot, and the page in a browser."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from knock import LanguageModel, ModelConfig, ReweightGPT, Vocab, load, reference
from knock.cli.inspect.heads import _bars, _edges
from knock.cli.inspect.subject import label
from knock.cli.main import main
from knock.errors import TextError, VocabError
from knock.inspection import attend, character_patterns, inspect_text, longest_text, own_text
from knock.weights import Weights
from tests import naive
from tests.cases import EVERY, SMALL, float64, models, random_tokens, random_weights

ODD = "a\n\t\0 <&'\u2028\u0301🦜"  # 11 characters, as many as the small models have tokens
HOSTILE = "</script><script>document.title='broken'</script><!--\u2028\u2029\\\"'&amp;$x$"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run `knock inspect`; return exit code, standard output and standard error."""
    code = main(["inspect", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def small(kind: str, vocab: str = ODD, **shape: Any) -> LanguageModel:
    reach = {"reweight_T": None} if "T" in shape else {}
    config = ModelConfig(**{**EVERY[kind].to_dict(), **reach, "vocab_size": len(vocab), **shape})
    return LanguageModel(ReweightGPT.from_weights(random_weights(config, 3)), Vocab(vocab))


def saved(folder: Path, kind: str, vocab: str = ODD, **shape: Any) -> str:
    path = folder / f"{kind}.safetensors"
    small(kind, vocab, **shape).save(path)
    return str(path)


# --- the numbers ------------------------------------------------------------------------------------------------------


def look(tokens: list[int], a: Any, config: ModelConfig, kind: str) -> list[list[list[dict[int, float]]]]:
    """Compute the attention of each block, head and position to each position, in naive loops."""
    T, D = config.longest_window, config.head_width
    if config.position == "absolute" and len(tokens) > T:
        out = look(tokens[:T], a, config, kind)
        for end in range(T + 1, len(tokens) + 1):
            window = look(tokens[end - T : end], a, config, kind)
            for b, h in np.ndindex(config.n_blocks, config.n_heads):
                out[b][h].append({s + end - T: weight for s, weight in window[b][h][-1].items()})
        return out
    xs = [list(a["embed"][token]) for token in tokens]
    if config.position == "absolute":
        xs = [[u + v for u, v in zip(x, a["pos"][slot], strict=True)] for slot, x in enumerate(xs)]
    out = []
    for b in range(config.n_blocks):
        p, head_type, reach = f"blocks.{b}.", config.head_types[b], config.reweight_windows[b]
        width = reach if kind == "reweight" else config.windows[b]
        ns = [naive.layer_norm(x, a[p + "ln1.gain"], a[p + "ln1.bias"]) for x in xs]
        out.append([])
        for h in range(config.n_heads):
            mine = slice(h * D, (h + 1) * D)
            mixed = kind == "weights" and head_type == "hybrid"
            gate = a[p + "gate"][h] if mixed else float(kind == "reweight" or head_type == "reweight")
            rows = []
            for t, n in enumerate(ns):
                if kind not in ("weights", head_type) and head_type != "hybrid":
                    rows.append({})
                    continue
                seen = range(max(0, t - width + 1), t + 1)
                logits = []
                for s in seen:
                    logit = 0.0
                    column = t - s if config.position == "relative" else s
                    if gate > 0 and column < reach:
                        logit += gate * naive.dot(n, a[p + "wr"][:, h * reach + column])
                    if gate < 1:
                        q, k = naive.times(n, a[p + "wq"][:, mine]), naive.times(ns[s], a[p + "wk"][:, mine])
                        logit += (1 - gate) * naive.dot(q, k) / math.sqrt(D)
                    logits.append(logit)
                rows.append(dict(zip(seen, naive.softmax(logits), strict=True)))
            out[-1].append(rows)
        heads = [naive.head(ns, b, h, a, config) for h in range(config.n_heads)]
        for t, x in enumerate(xs):
            x[:] = [u + v for u, v in zip(x, [value for head in heads for value in head[t]], strict=True)]
            n = naive.layer_norm(x, a[p + "ln2.gain"], a[p + "ln2.bias"])
            hidden = [naive.gelu(u) for u in naive.times(n, a[p + "w0"])]
            x[:] = [u + v for u, v in zip(x, naive.times(hidden, a[p + "w1"]), strict=True)]
    return out


@settings(max_examples=25)
@given(models(), st.integers(1, 14), st.integers(0, 9))
def test_attention_matches_naive_loops(weights: Weights, length: int, seed: int) -> None:
    config, read = weights.config, random_tokens(weights.config, length, seed)
    result = attend(weights, read)
    back = result.back()
    assert (result.reweight is None, result.content is None) == (not config.has_reweight, not config.has_content)
    assert result.weights.shape == (config.n_blocks, config.n_heads, length, min(length, config.longest_window))
    for kind in ("weights", "reweight", "content"):
        found = getattr(result, kind)
        if found is None:
            continue
        expected = look(read.tolist(), float64(weights), config, kind)
        for b, h, t in np.ndindex(found.shape[:3]):
            there = {int(t + 1 - back[t, j]): found[b, h, t, j] for j in np.flatnonzero(back[t])}
            if not expected[b][h][t]:  # the block has no such logits
                assert np.isnan(found[b, h, t]).all()
                continue
            assert {s: there.pop(s) for s in expected[b][h][t]} == pytest.approx(expected[b][h][t], rel=1e-7, abs=1e-10)
            assert not any(there.values())  # past the window of the block
            assert found[b, h, t].sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", EVERY)
def test_predictions_match_the_model_and_the_reference(kind: str) -> None:
    model, text = small(kind), (ODD * 2)[3:]
    tokens = model.vocab.encode(text)
    result = inspect_text(model, text, top=3)
    read = np.concatenate(([model.vocab.start_id], tokens[:-1]))
    assert np.array_equal(result.attention.read, read)
    logits = reference.forward(read, float64(model.model.weights), model.model.config)
    np.testing.assert_allclose(model.model.logits(read), logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result.surprise, -model.score(text).log_probs / math.log(2), atol=1e-4)
    for t, row in enumerate(logits):
        p = naive.softmax(row.tolist())
        assert result.entropy[t] == pytest.approx(naive.entropy(p), abs=1e-3)
        assert result.surprise[t] == pytest.approx(-math.log2(p[tokens[t]]), abs=1e-3)
        assert result.probabilities[t] == pytest.approx(sorted(p, reverse=True)[:3], abs=1e-3)
        assert [p[token] for token in result.alternatives[t]] == pytest.approx(result.probabilities[t], abs=1e-3)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("length", [4, 6, 25])
def test_patterns_average_over_full_windows(kind: str, length: int) -> None:
    weights = random_weights(EVERY[kind], 4)
    attention = attend(weights, random_tokens(weights.config, length))
    for token in (None, int(attention.read[2])):
        result = attention.patterns(token=token)
        rows = [t for t in range(length) if token in (None, attention.read[t])]
        rows = [t for t in rows if t >= weights.config.longest_window - 1] or rows
        for j in range(attention.weights.shape[-1]):
            seen = [t for t in rows if j <= t]
            values = attention.weights[1, 2, seen, j]
            assert result.inputs[j] == len(seen)
            if seen and j < weights.config.windows[1]:
                assert result.mean[1, 2, j] == pytest.approx(values.mean(), abs=1e-12)
                assert result.spread[1, 2, j] == pytest.approx(values.std(), abs=1e-12)
            else:
                assert math.isnan(result.mean[1, 2, j])
    with pytest.raises(ValueError, match="have no"):
        attend(random_weights(SMALL["content-absolute"], 0), np.zeros(3, np.int32)).patterns("reweight")


def test_looked_at_is_sorted_by_weight() -> None:
    for kind in ("hybrid-relative", "hybrid-absolute"):
        attention = attend(random_weights(EVERY[kind], 5), random_tokens(EVERY[kind], 15))
        back, weight = attention.looked_at(attention.weights, 4)
        order = sorted(range(6), key=lambda j: -attention.weights[1, 0, 12, j])[:4]
        assert weight[1, 0, 12].tolist() == attention.weights[1, 0, 12, order].tolist()
        newest = 0 if kind.endswith("relative") else 5  # column of the last character read
        assert back[1, 0, 12].tolist() == [1 + abs(j - newest) for j in order]


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("length", [4, 6, 25])
def test_patterns_by_distance_and_mean_distance(kind: str, length: int) -> None:
    weights = random_weights(EVERY[kind], 4)
    attention = attend(weights, random_tokens(weights.config, length))
    back = attention.back()
    for token in (None, int(attention.read[2])):
        result, distances = attention.patterns(token=token, by="distance"), attention.mean_distance(token=token)
        rows = [t for t in range(length) if token in (None, attention.read[t])]
        rows = [t for t in rows if t >= weights.config.longest_window - 1] or rows
        for distance in range(1, attention.weights.shape[-1] + 1):
            values = [attention.weights[1, 2, t, j] for t in rows for j in np.flatnonzero(back[t] == distance)]
            assert result.inputs[distance - 1] == len(values)
            if values and distance <= weights.config.windows[1]:
                assert result.mean[1, 2, distance - 1] == pytest.approx(np.mean(values), abs=1e-12)
                assert result.spread[1, 2, distance - 1] == pytest.approx(np.std(values), abs=1e-12)
            else:
                assert math.isnan(result.mean[1, 2, distance - 1])
        of_rows = [float((attention.weights[1, 2, t] * back[t]).sum()) for t in rows]
        assert distances[1, 2] == pytest.approx(np.mean(of_rows))
        assert distances.shape == (weights.config.n_blocks, 3)


def test_patterns_of_characters_in_and_not_in_the_text() -> None:
    model = small("hybrid-relative")
    seen = inspect_text(model, "a <&a <&a <&").attention
    patterns, is_there = character_patterns(model, seen, "<")
    assert is_there
    assert patterns.inputs.tolist() == [2] * 6  # position 3 does not see a full window
    np.testing.assert_allclose(patterns.mean, seen.weights[:, :, [7, 11]].mean(2))
    patterns, is_there = character_patterns(model, seen, "🦜")
    assert not is_there
    expected = inspect_text(model, "a <&a <&a 🦜&").attention.weights[:, :, 11]
    np.testing.assert_allclose(patterns.mean, expected)
    assert not np.allclose(expected, seen.weights[:, :, 11])
    with pytest.raises(VocabError):
        character_patterns(model, seen, "z")


def test_own_text_is_reproducible_and_longer_than_the_window() -> None:
    model = small("hybrid-relative", T=200)
    assert own_text(model) == own_text(model)
    assert len(own_text(model)) == 400


def test_texts_that_cannot_be_inspected() -> None:
    model = small("hybrid-relative")
    for text in ("", "a" * (longest_text(model.model.config) + 1)):
        with pytest.raises(TextError, match="must have from 1 to 4,096 characters"):
            inspect_text(model, text)
    with pytest.raises(TextError, match="got 0"):
        inspect_text(model, "zzz", unknown="skip")
    assert longest_text(ModelConfig(vocab_size=2, T=1024, n_emb=512)) < 100


# --- the view ---------------------------------------------------------------------------------------------------------


def test_view_matches_the_library(capsys: pytest.CaptureFixture[str], shakespeare: LanguageModel) -> None:
    text = "ROMEO:\nWhat light through yonder window breaks?"
    code, out, err = run(capsys, "shakespeare-hybrid", "--text", text, "--char", "o", "--full")
    assert (code, err) == (0, "")
    result = inspect_text(shakespeare, text)
    of_char, _ = character_patterns(shakespeare, result.attention, "o")
    for series in (result.attention.patterns(), result.attention.patterns("reweight"), of_char):
        mean, spread = series.mean[1, 2], series.spread[1, 2]
        place = int(mean.argmax())
        assert f" {100 * mean[place]:.1f}% ±{100 * spread[place]:.1f} at {place + 1}\n" in out
    gates = re.findall(r"^\d\.\d   gate (\S+)", out, re.MULTILINE)
    assert gates == [f"{gate:.2f}" for gate in shakespeare.model.weights["blocks.0.gate"]] + gates[4:]
    assert len(gates) == 12
    rows = re.findall(
        r"^ *(\d+) (\S+) +([\d.]+) +([\d.]+) (\S+) (\d+)%", out.split("For each character")[1], re.MULTILINE
    )
    assert len(rows) == len(text)
    for t, (place, char, surprise, entropy, likely, share) in enumerate(rows):
        assert (int(place), char) == (t, label(text[t]))
        assert (surprise, entropy) == (f"{result.surprise[t]:.2f}", f"{result.entropy[t]:.2f}")
        assert likely == label(shakespeare.vocab.characters[result.alternatives[t, 0]])
        assert share == f"{100 * result.probabilities[t, 0]:.0f}"
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


def test_one_line_per_head(capsys: pytest.CaptureFixture[str], shakespeare: LanguageModel) -> None:
    text = "ROMEO:\nWhat light through yonder window breaks?"
    _, out, _ = run(capsys, "shakespeare-hybrid", "--text", text, "--char", "o")
    attention = inspect_text(shakespeare, text).attention
    token = int(shakespeare.vocab.encode("o")[0])
    heads = re.findall(r"^(\d)\.(\d) +([\d.]+) +([\d.]+) +(\d+)% at (\d+)(?: |$)", out, re.MULTILINE)
    assert len(heads) == 2 * 12
    for start, of in ((0, None), (12, token)):
        patterns, distances = attention.patterns(token=of), attention.mean_distance(token=of)
        for (b, h, gate, distance, share, peak), (block, head) in zip(
            heads[start : start + 12], np.ndindex(3, 4), strict=True
        ):
            assert (int(b), int(h)) == (block + 1, head + 1)
            assert attention.gates is not None
            assert gate == f"{attention.gates[block, head]:.2f}"
            assert distance == f"{distances[block, head]:.1f}"
            mean = patterns.mean[block, head]
            assert int(peak) == mean.argmax() + 1
            assert share == f"{100 * mean.max():.0f}"
    for term in ("head", "attention", "reweight", "content", "gate", "distance", "peak", "bars"):
        assert re.search(rf"^{term}  +\w", out, re.MULTILINE)
    assert f"Attention, mean over {len(text) - 31} positions:" in out
    assert "Attention when reading o, mean over " in out
    assert "±" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_peak_of_absolute_models_is_a_distance(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out, _ = run(capsys, saved(tmp_path, "reweight-absolute"), "--text", "a <&" * 5)
    means = inspect_text(small("reweight-absolute"), "a <&" * 5).attention.patterns().mean.reshape(6, 6)
    peaks = re.findall(r"^\d\.\d +[\d.]+ +\d+% at (\d)", out, re.MULTILINE)
    assert [int(peak) for peak in peaks] == (6 - means.argmax(1)).tolist()  # slot 5 holds the last character
    assert "gate" not in out


@pytest.mark.parametrize(("text", "said"), [
    ("a", "mean over 1 position:"), ("a <", "mean over 3 positions, at far distances over fewer:"),
    ("a <&" * 5, "mean over 15 positions:"),
])  # fmt: skip
def test_number_of_positions_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str) -> None:
    _, out, _ = run(capsys, saved(tmp_path, "hybrid-relative"), "--text", text)
    assert said in out
    _, out, _ = run(capsys, saved(tmp_path, "hybrid-absolute"), "--text", text, "--char", "&")
    assert not re.search("mean (of|over) 0|0 to", out)


def test_bars_are_to_scale(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = small("reweight-relative")
    _, out, _ = run(capsys, saved(tmp_path, "reweight-relative"), "--text", "a <&" * 5)
    bars = [bars.ljust(6) for bars in re.findall(r"^\d\.\d +[\d.]+ +\d+% at \d  (.*)$", out, re.MULTILINE)]
    _, full, _ = run(capsys, saved(tmp_path, "reweight-relative"), "--text", "a <&" * 5, "--full")
    assert re.findall(r"^\d\.\d +attention (.{6}) ", full, re.MULTILINE) == bars
    means = inspect_text(model, "a <&" * 5).attention.patterns().mean.reshape(6, 6)
    assert len(bars) == 6
    for row, mean in zip(bars, means, strict=True):
        heights = np.array([" ▁▂▃▄▅▆▇█".index(bar) / 8 for bar in row])
        np.testing.assert_allclose(heights, mean / mean.max(), atol=1 / 16 + 1e-9)


@pytest.mark.parametrize(("distances", "cells"), [(1, 6), (6, 6), (7, 6), (64, 38), (512, 30), (4096, 6)])
def test_ranges_of_bars(distances: int, cells: int) -> None:
    edges = _edges(distances, cells)
    sizes = np.diff(edges)
    assert (edges[0], edges[-1]) == (0, distances)
    assert len(sizes) <= cells
    assert sizes.min() >= 1
    assert np.diff(sizes).min(initial=0) >= -1  # ever wider, but for rounding
    if distances <= cells:
        assert set(sizes) == {1}
    else:
        assert len(sizes) >= min(cells, 5)
        assert sizes[-1] > sizes[0]


def test_bars_show_the_largest_value_of_their_range() -> None:
    values = np.full(64, 0.001)
    values[[2, 50]] = (0.4, 0.8)
    edges = _edges(64, 20)
    bars = _bars(values, edges)
    assert [i for i, bar in enumerate(bars) if bar != " "] == [2, int(np.searchsorted(edges, 50, "right")) - 1]
    assert sorted(bars.replace(" ", "")) == ["▄", "█"]


@pytest.mark.parametrize("full", [[], ["--full"]])
@pytest.mark.parametrize("columns", [20, 40, 60, 80, 150])
@pytest.mark.parametrize("kind", EVERY)
def test_view_fits_terminals_of_any_width(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    columns: int,
    full: list[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = run(capsys, saved(tmp_path, kind, T=70), "--text", ODD * 8, "--char", "\t", *full)
    assert code == 0
    assert max(map(cell_len, out.splitlines())) <= columns
    assert ("no reweight patterns" in " ".join(out.split())) == kind.startswith("content")
    assert "gate" in out or not kind.startswith("hybrid")
    assert all(char == "\n" or char.isprintable() for char in out)


def test_view_without_a_text_uses_a_generated_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "shakespeare-hybrid")
    assert code == 0
    assert "300 characters generated by the model, seed 0" in out
    assert "surprise" not in out
    assert len(out.splitlines()) < 32
    _, with_char, _ = run(capsys, "shakespeare-hybrid", "--char", r"\n")
    text = own_text(load("shakespeare-hybrid"))
    rows = re.findall(r"^ *(\d+) (\S+) +[\d.]+ ", with_char.split("For each character")[1], re.MULTILINE)
    after = [t for t in range(len(text)) if t == 0 or text[t - 1] == "\n"]
    assert [int(place) for place, _ in rows] == after


def test_colours_follow_the_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in run(capsys, "shakespeare-hybrid", "--text", "To be")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    out = run(capsys, "shakespeare-hybrid", "--text", "To be")[1]
    assert "\x1b[38" not in out
    assert "\x1b[48" not in out


def test_character_in_another_normal_form(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    composed, decomposed = saved(tmp_path, "hybrid-relative", "ae\u00e9\u030c\nbcdfgh"), tmp_path / "b"
    decomposed.mkdir()
    code, out, _ = run(capsys, composed, "--text", "ae\u0301a", "--char", "\u00e9")
    assert code == 0
    assert "Attention when reading \u00e9, mean over 1 position" in out
    model = saved(decomposed, "hybrid-relative", "ae\u0301\n\u030cbcdfgh")
    code, out, err = run(capsys, model, "--text", "ae", "--char", "\u00e9")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("knock: error: the model reads '\u00e9' as 2 characters, ")


def test_labels_are_visible() -> None:
    assert [label(char) for char in ODD] == ["a", "↵", "^I", "^@", "␣", "<", "&", "'", r"\u2028", "◌\u0301", "🦜"]


def test_window_of_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for kind in EVERY:
        model = saved(tmp_path, kind, T=1)
        code, out, _ = run(capsys, model, "--text", "aa\na")
        assert code == 0
        assert "100% at 1" in out
        assert "100.0% ±0.0 at 1" in run(capsys, model, "--text", "aa\na", "--full")[1]
        assert run(capsys, model, "--html", str(tmp_path / "p.html"), "--force")[0] == 0


def test_long_texts_are_truncated_and_unknown_characters_counted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / "long.txt"
    long.write_text("aa \n" * 2000, encoding="utf-8")
    model = saved(tmp_path, "hybrid-relative")
    code, _, err = run(capsys, model, "--file", str(long), "--html", str(tmp_path / "p.html"))
    assert (code, err) == (0, "knock: only the first 4,096 of 8,000 characters are inspected\n")
    code, out, err = run(capsys, model, "--text", "azya", "--unknown", "skip")
    assert (code, err) == (0, "knock: skipped 2 characters that the model does not know\n")
    assert "the text, 2 characters" in out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a a")))
    assert "standard input, 3 characters" in run(capsys, model, "--file", "-")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--text", "az"], 1, "unknown character 'z' (U+007A) at offset 1"),
        (["--char", "z"], 1, "unknown character 'z'"),
        (["--char", "aa"], 2, "must be one character, got 2"),
        (["--char", ""], 2, "must be one character, got 0"),
        (["--text", ""], 1, "the text is empty"),
        (["--file", "empty.txt"], 1, "empty.txt is empty"),
        (["--text", "zz", "--unknown", "skip"], 1, "no character that the model knows"),
        (["--file", "nowhere.txt"], 1, "no such file"),
        (["--text", "a", "--file", "empty.txt"], 2, "not allowed with"),
        (["--plot", "p.pdf"], 2, "must end in .png or .svg"),
        (["--html", "p"], 2, "must end in .html or .htm"),
        (["--html", "folder.html"], 1, "'folder.html' is a folder; pass the path of a file"),
        (["--plot", "folder.png"], 1, "'folder.png' is a folder; pass the path of a file"),
        (["--html", "none/p.html"], 1, "the folder 'none' does not exist"),
        (["--html", "empty.txt/p.html"], 1, "the folder 'empty.txt' does not exist"),
        (["--html", "a" * 500 + ".html"], 1, "name too long"),
        (["--html", "a\0.html"], 1, "cannot write"),
    ],
)
def test_invalid_input_is_reported_on_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("folder.html").mkdir()
    Path("folder.png").mkdir()
    exit_code, out, err = run(capsys, saved(tmp_path, "hybrid-relative"), *arguments)
    assert (exit_code, out, err.count("\n")) == (code, "", 1)
    assert says in err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = saved(tmp_path, "hybrid-relative")
    tmp_path.chmod(0o500)
    code, out, err = run(capsys, model, "--html", str(tmp_path / "p.html"))
    tmp_path.chmod(0o700)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "permission denied" in err


# --- the picture ------------------------------------------------------------------------------------------------------


def test_plot_draws_every_head_and_the_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    model, svg, png = saved(tmp_path, "hybrid-relative"), Path("p.svg"), Path("p.png")
    Path("a $x$.txt").write_text(ODD * 3, encoding="utf-8", newline="")
    for path in (svg, png):
        code, out, err = run(capsys, model, "--file", "a $x$.txt", "--char", "<", "--plot", str(path))
        assert (code, err) == (0, "")
        assert out == f"{path}: {path.stat().st_size:,} bytes\n"
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = ["".join(text.itertext()) for text in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    gates = small("hybrid-relative").model.weights["blocks.1.gate"]
    for h, gate in enumerate(gates):
        assert f"block 2, head {h + 1}, gate {gate:.2f}" in drawn
    assert "on a $x$.txt, 33 characters" in drawn
    axis = "distance in characters back (1 is the last one read)"
    for said in (axis, "attention when reading <, mean over 3 positions", "bits"):
        assert said in drawn
    for term in ("reweight", "content", "gate", "distance"):
        assert any(text.startswith(f"{term}: ") for text in drawn)
    assert drawn.count("□") == 2 * 3  # characters that the font lacks, or whose label is too long


@pytest.mark.parametrize(("T", "scale"), [(6, "linear"), (70, "log")])
def test_panels_have_one_scale_and_long_windows_a_log_axis(T: int, scale: str) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from knock.cli.inspect.plot import _draw_patterns
    from knock.cli.inspect.subject import Subject

    model = small("hybrid-relative", T=T)
    subject = Subject(name="m", vocab=model.vocab, source="s", is_own=False, inspection=inspect_text(model, ODD * 8))
    panels = _draw_patterns(Figure(), subject)
    tops = [each.patterns.mean.max() for each in subject.series]
    for axes in panels.flat:
        assert axes.get_xscale() == scale
        assert axes.get_ylim() == panels[0, 0].get_ylim()
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylim()[1] >= max(tops)
        assert axes.lines[0].get_xdata().tolist() == list(range(1, T + 1))


@pytest.mark.parametrize("kind", EVERY)
def test_plot_of_every_kind_of_model(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "p.svg"
    assert run(capsys, saved(tmp_path, kind, T=1), "--plot", str(path)) == (
        0,
        f"{path}: {path.stat().st_size:,} bytes\n",
        "",
    )
    assert ("no reweight patterns" in path.read_text(encoding="utf-8")) == kind.startswith("content")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_plot_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    """From one process to the next; inside one, Matplotlib numbers clip paths by their address in memory."""
    pytest.importorskip("matplotlib")
    plots = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for path in plots:
        command = [sys.executable, "-m", "knock", "inspect", "shakespeare-nano", "--text", "To be", "--plot", str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert plots[0].read_bytes() == plots[1].read_bytes()


def test_plot_without_matplotlib_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = run(capsys, "shakespeare-hybrid", "--plot", "p.png")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "pip install '.[plot]'" in err


# --- the page ---------------------------------------------------------------------------------------------------------


class Scripts(HTMLParser):
    """Collects the scripts of a page as a browser parses them, and the URLs that it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.fetched: list[str] = []
        self._is_inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_inside = tag == "script"
        self.scripts += [""] * self._is_inside
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href") and value != "data:,"]

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = False

    def handle_data(self, data: str) -> None:
        if self._is_inside:
            self.scripts[-1] += data


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


class Browser:
    """Headless Chromium, driven through the W3C WebDriver protocol."""

    def __init__(self, port: str, folder: Path) -> None:
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._url = f"http://127.0.0.1:{port}/session"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        wanted = {"goog:chromeOptions": {"args": options}, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._url += f"/{session['sessionId']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        with self._open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def show(self, path: Path, width: int = 1100) -> None:
        self.call("POST", "/window/rect", {"width": width, "height": 900})
        self.call("POST", "/url", {"url": path.as_uri()})

    def element(self, selector: str) -> dict[str, str]:
        return self.call("POST", "/element", {"using": "css selector", "value": selector})

    def hover(self, selector: str) -> None:
        move = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": self.element(selector)}
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self.call("POST", "/actions", {"actions": [pointer]})

    def press(self, selector: str, key: str) -> None:
        (element,) = self.element(selector).values()
        self.call("POST", f"/element/{element}/value", {"text": key})

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def console(self) -> list[Any]:
        return self.call("POST", "/se/log", {"type": "browser"})


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("needs Chromium and chromedriver")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = next(found[1] for line in process.stdout if (found := re.search(r"on port (\d+)\.", line)))
        browser = None
        try:
            browser = Browser(port, tmp_path / "profile")
            yield browser
        finally:
            if browser is not None:
                browser.call("DELETE", "")
            process.terminate()


SHOWN = """
const texts = selector => [...document.querySelectorAll(selector)].map(each => each.textContent);
const marked = [...document.querySelectorAll("#text span")].map(span => span.style.getPropertyValue("--look-at"));
return {title: texts("#detail .title")[0], facts: texts(".facts dd"), expected: texts("#expected span"),
        looked: texts("#looked span"), marked: marked, current: texts("#text .current"), name: document.title,
        panels: texts("#patterns figcaption"), terms: texts("#terms dt"), key: texts("#key"),
        scales: [...document.querySelectorAll("#patterns svg")].map(svg =>
            [...svg.querySelectorAll("text")].map(each => each.textContent).join(" ")),
        papers: [...document.querySelectorAll("#text span[data-place]")].map(each => each.style.background),
        wide: document.documentElement.scrollWidth, inner: innerWidth};
"""


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
