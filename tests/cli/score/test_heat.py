"""Tests of the heat map of `knock score`."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knock import LanguageModel
from tests.cli.score.texts import ROMEO
from tests.cli.test_main import KNOCK, process, run


def test_heat_map_without_colours(capsys: pytest.CaptureFixture[str], text: Path, default: LanguageModel) -> None:
    code, out, err = run(capsys, "score", str(text), "--heat")
    assert (code, err) == (0, "")
    note, blank, *rows, blank_too, head, _ = out.splitlines()
    assert (blank, blank_too) == ("", "")
    assert "whole bits" in note
    assert head.startswith("model")
    assert rows[::2] == [f"{line}↵" for line in ROMEO.splitlines()]
    bits = default.score(ROMEO).log_probs / -math.log(2)
    assert "".join(rows[1::2]) == "".join(str(min(9, int(each))) for each in bits)


def test_heat_map_of_several_models(capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str]) -> None:
    path = tmp_path / "t.txt"
    path.write_text("badge jé\nab\n", encoding="utf-8")
    arguments = ["score", str(path), "--model", models[0], "--model", models[1], "--unknown", "skip", "--heat"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    _, first, second, blank, *rows = out.splitlines()[:10]
    assert [first, second, blank] == [f"1 {models[0]}", f"2 {models[1]}", ""]
    assert rows[::3] == ["  badge jé↵", "  ab↵"]
    assert [re.sub(r"\d", "n", row[2:]) for row in rows[1:3]] == ["nnnnn?n?n", "nnnnn??nn"]
    assert [row[:2] for row in rows] == ["  ", "1 ", "2 "] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="colours there depend on the console")
def test_heat_map_in_colours(text: Path, default: LanguageModel) -> None:
    from rich.color import Color

    from knock.cli.ui.heat import STEPS

    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color", "COLUMNS": "30"}
    done = process("score", str(text), "--heat", env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    colours = {Color.parse(paper).triplet: start for start, paper, _ in STEPS[1:]}
    coloured = done.stdout.decode().split("\n\n")[1]
    shown, starts = "", []
    for codes, painted, bare in re.findall(r"\x1b\[38;2;[\d;]+48;2;([\d;]+)m(.*?)\x1b\[0m|([^\x1b\n]+)", coloured):
        shown += painted + bare
        starts += [colours[tuple(map(int, codes.split(";")))] if codes else 0.0] * len(painted + bare)
    assert shown == ROMEO.replace("\n", "↵")
    bits = default.score(ROMEO).log_probs / -math.log(2)
    assert starts == [max(start for start, _, _ in STEPS if start <= each) for each in bits]
    plain = re.sub(r"\x1b\[[\d;]*m", "", done.stdout.decode()).split("\n\n")[1]
    assert max(map(len, plain.splitlines())) <= 30
    plain = process("score", str(text), "--heat", env=environment | {"NO_COLOR": "1"})
    assert b"\x1b" not in plain.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_heat_map_fits_the_terminal(tmp_path: Path, models: list[str]) -> None:
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    path = tmp_path / "t.txt"
    path.write_text("abcdefghij" * 8 + "\n", encoding="utf-8")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 33, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    running = subprocess.Popen(
        [*KNOCK, "score", str(path), "--model", models[0], "--heat"], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    )  # fmt: skip
    assert running.wait(60) == 0
    time.sleep(0.05)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert "\x1b[" in shown
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).split("\r\n")
    assert ("abcdefghij" * 4)[:33] in lines
    assert "j↵" in "".join(lines)
