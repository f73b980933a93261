"""Tests of `--precision`: every command that runs a model takes it."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knock import Vocab, gpt, load
from knock.choices import DEFAULT_PRECISION, PRECISIONS, Precision
from knock.cli.ui.options import add_precision_argument
from knock.engine.engine import Engine
from knock.files.checkpoint import write_checkpoint
from knock.jobs.rows import row_of
from knock.sampling import Sampling
from tests.cases import SMALL, random_weights
from tests.cli.test_main import run

TEXT = "abba\nbee\n" * 30

COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "generate": lambda model, text: ["generate", "a", "--model", str(model), "--length", "5"],
    "sample": lambda model, text: ["sample", "a", "--model", str(model), "--length", "5"],
    "repl": lambda model, text: ["repl", "--model", str(model)],
    "score": lambda model, text: ["score", str(text), "--model", str(model)],
    "score --held-out": lambda model, text: ["score", "--held-out", str(text), "--model", str(model)],
    "inspect": lambda model, text: ["inspect", str(model), "--text", "abba"],
    "top": lambda model, text: ["top", "--model", str(model), "--stop", "e", "--max-length", "3"],
    "models --measure": lambda model, text: ["models", str(model.parent), "--measure"],
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    write_checkpoint(folder / "m.safetensors", random_weights(SMALL["hybrid-relative"], 0), Vocab("\nabcdefghij"))
    return folder / "m.safetensors"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_engines_of_a_command_have_its_precision(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path, text: Path, command: str
) -> None:
    made: list[str] = []

    class Noted(Engine):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self.precision)

    monkeypatch.setattr(gpt, "Engine", Noted)
    arguments = COMMANDS[command](model, text)
    for options, precision in [([], DEFAULT_PRECISION), *((["--precision", each], each) for each in PRECISIONS)]:
        lines = f"/model {model}\n/len 5\na\n".encode()  # a model that the session loads later has it, too
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="ascii"))
        made.clear()
        code, _, err = run(capsys, *arguments, *options)
        assert code == 0, err
        assert set(made) == {precision}


@pytest.mark.parametrize("command", COMMANDS)
def test_others_are_rejected(capsys: pytest.CaptureFixture[str], model: Path, text: Path, command: str) -> None:
    code, out, err = run(capsys, *COMMANDS[command](model, text), "--precision", "float16")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "argument --precision: invalid choice: 'float16'" in err


def test_the_help_names_the_default() -> None:
    parser = argparse.ArgumentParser()
    add_precision_argument(parser)
    assert f"(default: {DEFAULT_PRECISION})" in " ".join(parser.format_help().split())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_text_rows_and_scores_are_those_of_the_library(
    capsys: pytest.CaptureFixture[str], model: Path, text: Path, precision: Precision
) -> None:
    lm = load(model, backend="compiled", precision=precision)
    options = ("--model", str(model), "--precision", precision, "--backend", "compiled")
    drawn = ("--length", "40", "--seed", "3", "--sampling", "basic")
    assert run(capsys, "generate", "a", *options, *drawn)[1] == (
        "a" + lm.generate("a", max_new_tokens=40, sampling=Sampling(), seed=3).text
    )
    (expected,) = lm.generate_batch(["a"], max_new_tokens=40, seed=3, token_stats=True)
    of_library = row_of(expected, log_probs=True, entropies=True)
    row = json.loads(run(capsys, "sample", "a", *options, *drawn, "--log-probs", "--entropies")[1])
    assert row == json.loads(json.dumps(of_library))
    scored = json.loads(run(capsys, "score", str(text), *options, "--json")[1])
    assert scored["nats_per_char"] == pytest.approx(lm.score(TEXT).nats_per_char, rel=1e-12)


def test_statistics_differ_by_precision(capsys: pytest.CaptureFixture[str], model: Path, text: Path) -> None:
    """So that the tests above can tell one from the other."""
    made = {
        precision: run(capsys, "score", str(text), "--model", str(model), "--precision", precision,
                       "--backend", "compiled", "--json")[1]
        for precision in PRECISIONS
    }  # fmt: skip
    assert len(set(made.values())) == len(PRECISIONS)
