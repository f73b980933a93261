"""Tests of terminal output: no text, name or message can control the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from knock import LanguageModel, ReweightGPT, Vocab
from knock.cli.ui.terminal import printable, visible_lines
from tests.cli.test_main import KNOCK
from tests.cli.test_sample import read

HOSTILE = "\x1b\x07\x9b\x7f\r\u202ea\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model that generates control characters."""
    path = tmp_path_factory.mktemp("models") / "odd\x1b[31m.safetensors"
    vocab = Vocab.from_text(HOSTILE)
    LanguageModel(ReweightGPT(vocab.vocab_size, T=4, n_emb=8, nodes=8, n_blocks=1, n_heads=1), vocab).save(path)
    return path


@pytest.mark.parametrize(
    ("char", "shown"),
    [
        ("\x1b", "^["), ("\0", "^@"), ("\t", "^I"), ("\n", "^J"), ("\r", "^M"), ("\x7f", "^?"), ("\x85", "M-^E"),
        ("\x9b", "M-^["), ("\u202e", r"\u202e"), ("\u200b", r"\u200b"), ("\ud800", r"\ud800"), ("\ue000", r"\ue000"),
        ("\xa0", "\xa0"), ("\u3000", "\u3000"), ("\u200d", "\u200d"), ("é", "é"), ("日", "日"), ("🦜", "🦜"),
    ],
)  # fmt: skip
def test_visible_form_of_characters(char: str, shown: str) -> None:
    assert printable(f"a{char}b") == f"a{shown}b"
    assert visible_lines(f"a{char}b") == (f"a{char}b" if char in "\n\t" else f"a{shown}b")


ARGUMENTS = {
    "generate": ["generate", "\x1b[2J", "--length", "60", "--seed", "1", "--unknown", "skip", "--model"],
    "sample": ["sample", "\x1b", "--length", "60", "--seed", "1", "--format", "txt", "--model"],
    "score": ["score", "TEXT", "--chars", "--unknown", "skip", "--model"],
    "heat map": ["score", "TEXT", "--heat", "--unknown", "skip", "--model"],
    "info": ["info"],
    "inspect": ["inspect"],
    "a message": ["generate", "Ω\x1b[2J", "--model"],
}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal, and such a file name")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_output_cannot_control_the_terminal(name: str, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text(HOSTILE * 3, encoding="utf-8")
    shown = shown_by(*[str(text) if each == "TEXT" else each for each in ARGUMENTS[name]], str(model))
    assert not set(shown) & (set(HOSTILE) - set("a\r\n")), repr(shown)
    assert "^[" in shown or r"\x1b" in shown


def shown_by(*arguments: str) -> str:
    """Run a command on a dumb terminal; return its output."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "100"}
    running = subprocess.Popen([*KNOCK, *arguments], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b"".join(iter(lambda: read(ours), b""))
    os.close(ours)
    running.wait()
    return shown.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs such a file name")
def test_pipe_receives_the_text_unchanged(model: Path) -> None:
    arguments = ["generate", "\x1b", "--length", "200", "--seed", "1", "--model", str(model)]
    out = subprocess.check_output([*KNOCK, *arguments])
    assert set(HOSTILE) == set(out.decode())
    rows = subprocess.check_output([*KNOCK, "sample", *arguments[1:]])
    assert "\x1b" + json.loads(rows)["text"] == out.decode()
