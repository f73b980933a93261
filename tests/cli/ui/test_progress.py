"""Tests of the progress bar."""

from __future__ import annotations

import io

import pytest

from knock.cli.ui import progress
from knock.cli.ui.progress import Bar


def frame(bar: Bar) -> str:
    """Return what the bar shows on a terminal of 100 columns."""
    from rich.console import Console

    assert bar._progress is not None
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as captured:
        console.print(bar._progress.get_renderable())
    return captured.get()


def test_bar_counts_texts_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed is that of all characters so far, even between two writes to the file."""
    monkeypatch.setattr(progress, "is_live", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    bar = Bar(20_000, 1_000)
    assert "1,000/20,000 texts" in frame(bar)
    assert "characters/s" not in frame(bar)
    assert frame(bar).rstrip().endswith("left")
    bar.texts(256)
    monkeypatch.setattr(progress.time, "monotonic", lambda: bar._started + 2.0)
    for chars in (300, 76_800):
        bar.chars(chars)
    assert "1,256/20,000 texts" in frame(bar)
    assert "38,400 characters/s" in frame(bar)


def test_narrow_bar_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "is_live", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    bar = Bar(20_000, 0)
    bar.chars(76_800)
    assert "characters/s" not in frame(bar)
    assert "0/20,000 texts" in frame(bar)


def test_bar_without_a_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "is_live", lambda: True)
    bar = Bar(None, 0)
    bar.texts(1_000)
    assert "1,000 texts" in frame(bar)
    assert "left" not in frame(bar)
