"""The model of the tests of the REPL, and a script of lines on its standard input."""

from __future__ import annotations

import io
import sys

import pytest

from knock.cli.main import main

NANO = "shakespeare-nano"


BALANCED = "balanced"


class Script:
    """Runs `knock repl` in this process on the given lines."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *lines: str | bytes, options: tuple[str, ...] = ("--model", NANO)) -> tuple[int, str, str]:
        content = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
        code = main(["repl", *options])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err
