"""Tests of the plot of `knock inspect`."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from knock.inspection import inspect_text
from tests.cases import EVERY
from tests.cli.inspect.command import ODD, run, saved, small


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
