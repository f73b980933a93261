"""Tests of the progress of `knock score` on a terminal."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from knock.cli.main import main
from knock.cli.score import pieces
from knock.cli.ui import progress
from knock.generation import scoring as scorer
from tests.cli.score.texts import LONG, Input, table
from tests.cli.test_main import run


def lines_of(err: str) -> list[str]:
    """The lines that overwrote each other, without their times; the last one must have been cleared."""
    start, *shown, cleared, end = err.split("\r")
    assert (start, cleared.strip(), end) == ("", "", "")
    assert len(cleared) == len(shown[-1])
    return [re.sub(r"\d+ s", "n s", line.rstrip()) for line in shown if line.strip()]


def of_percentages(*shares: str) -> list[str]:
    return [f"scored {share}%, n s left" for share in shares]


@pytest.mark.parametrize("form", [[], ["--json"], ["--chars"], ["--heat"]])
def test_progress_is_shown_and_cleared_on_a_terminal(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    models: list[str],
    monkeypatch: pytest.MonkeyPatch,
    live: None,
    form: list[str],
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(LONG, encoding="utf-8")
    monkeypatch.setattr(pieces, "_PIECE", 300)
    monkeypatch.setattr(scorer, "_SPAN", 150)
    arguments = ["score", str(path), "--model", models[0], *form]
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert lines_of(err) == of_percentages("17", "33", "50", "67", "83", "100")
    monkeypatch.setattr(progress, "_PATIENCE", 60.0)
    assert run(capsys, *arguments) == (0, out, "")  # too fast to show progress


def test_progress_with_several_models(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str], live: None
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(LONG.replace("j", "c"), encoding="utf-8")
    _, _, err = run(capsys, "score", str(path), "--model", models[0], "--model", models[1])
    assert lines_of(err) == of_percentages("50", "100")


@pytest.mark.parametrize("form", ["--chars", "--heat"])
def test_progress_never_shares_a_line_with_the_output(
    tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch, live: None, form: str
) -> None:
    """On a terminal that shows both, the line is cleared before anything is written."""
    path = tmp_path / "long.txt"
    path.write_text("abc\n" * 250, encoding="utf-8")
    monkeypatch.setattr(pieces, "_PIECE", 300)
    screen = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        patch.setattr(sys, "stderr", screen)
        assert main(["score", str(path), "--model", models[0], form]) == 0
    assert "scored 30%" in screen.getvalue()
    for line in screen.getvalue().split("\n"):
        *overwritten, last = line.split("\r")
        assert "scored" not in last
        assert overwritten == [] or overwritten[-1].strip() == ""


def test_progress_of_standard_input_counts_characters(
    capsys: pytest.CaptureFixture[str], models: list[str], monkeypatch: pytest.MonkeyPatch, live: None
) -> None:
    monkeypatch.setattr(pieces, "_PIECE", 300)
    monkeypatch.setattr(scorer, "_SPAN", 150)
    monkeypatch.setattr(sys, "stdin", Input(LONG.encode()))
    code, out, err = run(capsys, "score", "-", "--model", models[0])
    assert (code, table(out)[1][1]) == (0, "900")
    assert lines_of(err) == [f"scored {count} characters" for count in (150, 300, 450, 600, 750, 900)]
