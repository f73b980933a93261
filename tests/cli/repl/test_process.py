"""Tests of the REPL as a process: Ctrl-C, closed streams, no terminal."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from knock import LanguageModel
from knock.cli.main import COMMANDS as PROGRAM
from knock.cli.main import main
from knock.cli.repl.commands import handle
from knock.cli.repl.page import Page
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from tests.cli.repl.script import BALANCED, NANO

COMMAND = [sys.executable, "-m", "knock", "repl", "--model", NANO]


def test_ctrl_c_stops_the_text_and_keeps_the_output(
    session: Session, nano: LanguageModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def write(_: Page, text: str, __: object = None) -> None:
        written.append(text)
        if len(written) == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Page, "begin", write)
    monkeypatch.setattr(Page, "write", write)
    session.settings = Settings(length=1000, seed=1)
    with pytest.raises(KeyboardInterrupt):
        handle(session, "ROMEO:")
    assert len(written) == 4
    assert session.last is not None
    assert "ROMEO:" + session.last.text == "".join(written)
    whole = nano.generate("ROMEO:", sampling=BALANCED, max_new_tokens=1000, seed=1).text
    assert whole.startswith(session.last.text)
    err = capsys.readouterr().err
    assert f"seed 1, stopped after {len(session.last.text)} characters" in err
    assert "Mean entropy" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_a_script() -> None:
    running = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(b"/len 100000000\nROMEO:\n")
    running.stdin.flush()
    first = running.stdout.read(100)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(b"A\n", timeout=60)
    assert running.returncode == 130
    assert first.startswith(b"ROMEO:")
    assert re.fullmatch(rb"len 100000000\nseed \d+, stopped after [\d,]+ characters\n", err)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_streams_and_broken_pipe() -> None:
    def shell(redirection: str) -> subprocess.CompletedProcess[bytes]:
        line = f"printf '/len 40\\nA\\nB\\n' | '{sys.executable}' -m knock repl --model {NANO} {redirection}"
        return subprocess.run(line, shell=True, capture_output=True, check=False, timeout=60)

    assert shell("<&-").stderr == b"knock: error: cannot read standard input; provide one prompt or command per line\n"
    assert b"standard output is closed" in shell(">&-").stderr
    assert (shell("| true").returncode, shell("2>&-").returncode) == (0, 0)


def test_knock_without_a_terminal_lists_the_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main([]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for name in PROGRAM:
        assert name in err
