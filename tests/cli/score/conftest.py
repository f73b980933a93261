"""Fixtures of the tests of `knock score`."""

from __future__ import annotations

from pathlib import Path

import pytest

from knock import Vocab
from knock.cli.ui import progress
from knock.files.checkpoint import write_checkpoint
from tests.cases import SMALL, random_weights
from tests.cli.score.texts import LETTERS, LONG, ROMEO


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "romeo.txt"
    path.write_bytes(ROMEO.encode())
    return path


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "a.npz", tmp_path / "b.safetensors"]
    write_checkpoint(paths[0], random_weights(SMALL["hybrid-relative"], 0), Vocab(LETTERS))
    write_checkpoint(paths[1], random_weights(SMALL["content-absolute"], 1), Vocab(LETTERS[:-1] + "é"))
    return [str(path) for path in paths]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show progress at once, as on a terminal."""
    monkeypatch.setattr(progress, "is_live", lambda: True)
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "books" / "1.txt"
    path.parent.mkdir()
    path.write_text(LONG * 5, encoding="utf-8")
    path.with_name("2.txt").write_text("\nChief" * 90, encoding="utf-8")
    return path.parent
