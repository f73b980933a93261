"""Tests of the view of `knock inspect` in the terminal."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from knock import LanguageModel, load
from knock.cli.inspect.subject import label
from knock.cli.ui.bars import bars_of, edges_of
from knock.inspection import character_patterns, inspect_text, own_text
from tests.cases import EVERY
from tests.cli.inspect.command import ODD, run, saved, small


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
    edges = edges_of(distances, cells)
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
    edges = edges_of(64, 20)
    bars = bars_of(values, edges)
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
