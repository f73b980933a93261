"""Fixtures of the tests of the REPL."""

from __future__ import annotations

from pathlib import Path

import pytest

from knock import LanguageModel, Vocab
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.files.checkpoint import write_checkpoint
from knock.language_model import load
from tests.cases import SMALL, random_weights
from tests.cli.repl.script import NANO, Script

CHARACTERS = "\n /abcdAB\x1bé"


@pytest.fixture(scope="module")
def nano() -> LanguageModel:
    return load(NANO)


@pytest.fixture
def session() -> Session:
    return Session(NANO, Settings(length=20, stats=False))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Save a model whose vocabulary includes a slash and an escape character."""
    path = tmp_path / "odd.safetensors"
    write_checkpoint(path, random_weights(SMALL["hybrid-relative"], 0), Vocab(CHARACTERS))
    return path


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(capsys, monkeypatch)
