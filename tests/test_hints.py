"""Tests of hints for misspelt names."""

from __future__ import annotations

from knock.cli.main import COMMANDS
from knock.hints import suggestion


def test_suggestions_are_close() -> None:
    assert suggestion("genrate", COMMANDS) == "generate"
    assert suggestion("ROMEO:", COMMANDS) is None
