"""Tests of `knock score --held-out`."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import sys
from pathlib import Path

import pytest

from knock import Vocab, load
from knock.files.checkpoint import write_checkpoint
from knock.generation import evaluation
from knock.generation import scoring as scorer
from tests.cases import SMALL, random_weights
from tests.cli.score.texts import LETTERS, LONG, Input, table
from tests.cli.test_main import process, run


@pytest.mark.parametrize("lowercase", [False, True])
def test_held_out_part_is_that_of_training(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, corpus: Path, lowercase: bool
) -> None:
    """The table has the losses of the tokens that training holds out, with the same treatment of unknown characters."""
    data = pytest.importorskip("knock_training.data")
    vocab = Vocab(LETTERS, lowercase=lowercase)
    paths = [tmp_path / "a.npz", tmp_path / "b.safetensors"]
    for path, kind in zip(paths, ("hybrid-relative", "content-absolute"), strict=True):
        write_checkpoint(path, random_weights(SMALL[kind], 0), vocab)
    given = [str(corpus / "1.txt"), str(corpus)]
    models = ["--model", str(paths[0]), "--model", str(paths[1])]
    code, out, err = run(capsys, "score", "--held-out", *given, *models, "--unknown", "replace")
    read = data.Corpus.read(given, vocab=vocab, unknown="replace")
    held_out = read.validation.numpy()
    assert code == 0
    head, *rows = table(out)
    assert head == ["model", "loss", "chars", "nats/char", "bits/char", "perplexity/char"]
    assert [row[:3] for row in rows] == [
        [str(path), loss, f"{len(held_out) - 1:,}"] for path in paths for loss in ("block 256", "stream")
    ]
    for (*_, nats, bits, perplexity), (path, block) in zip(
        rows, itertools.product(paths, (256, len(held_out))), strict=True
    ):
        engine = load(path).model.engine
        parts = [held_out[at : at + block + 1] for at in range(0, len(held_out) - 1, block)]
        expected = -sum(engine.log_probs(part[:-1], part[1:]).sum() for part in parts) / (len(held_out) - 1)
        assert float(nats) == pytest.approx(expected, abs=6e-5)
        assert float(bits) == pytest.approx(expected / math.log(2), abs=6e-5)
        assert float(perplexity.replace(",", "")) == pytest.approx(math.exp(expected), rel=1e-4)
    assert err.splitlines() == [
        f"knock: replaced {read.text.unknown_count} characters that {str(path)!r} does not know"
        for path in paths
        if not lowercase
    ]
    assert read.text.unknown_count == (0 if lowercase else 90)


def test_held_out_as_json(capsys: pytest.CaptureFixture[str], corpus: Path, models: list[str]) -> None:
    arguments = ["score", "--held-out", str(corpus), "--model", models[0], "--unknown", "skip"]
    rows = table(run(capsys, *arguments)[1])[1:]
    code, out, _ = run(capsys, *arguments, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["model"], result["digest"]) == (models[0], load(models[0]).digest)
    for row, key in zip(rows, ("block_256", "stream"), strict=True):
        facts = result["held_out"][key]
        assert f"{facts['characters']:,}" == row[2]
        assert [f"{facts[name]:.4f}" for name in ("nats_per_char", "bits_per_char")] == row[3:5]


def test_held_out_part_of_standard_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.txt"
    path.write_text(LONG, encoding="utf-8")
    expected = run(capsys, "score", "--held-out", str(path), "--model", models[0])
    assert expected[0] == 0
    monkeypatch.setattr(sys, "stdin", Input(LONG.encode()))
    assert run(capsys, "score", "--held-out", "-", "--model", models[0]) == expected


def test_held_out_part_of_another_corpus_is_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str]
) -> None:
    for name in ("own", "other"):
        (tmp_path / f"{name}.txt").write_text(LONG + "a" * (name == "other"), encoding="utf-8")
    sha256 = hashlib.sha256(LONG.encode()).hexdigest()
    write_checkpoint(
        models[0], random_weights(SMALL["hybrid-relative"], 0), Vocab(LETTERS),
        {"corpus": {"name": "own.txt", "sha256": sha256}},
    )  # fmt: skip
    errors = {
        name: run(capsys, "score", "--held-out", str(tmp_path / f"{name}.txt"), "--model", models[0])[2]
        for name in ("own", "other")
    }
    assert errors["own"] == ""
    assert errors["other"] == (
        f"knock: {models[0]!r} was trained on another text, own.txt; training may have seen what this one holds out\n"
    )


def test_progress_of_the_held_out_part(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    models: list[str],
    monkeypatch: pytest.MonkeyPatch,
    live: None,
) -> None:
    path = tmp_path / "t.txt"
    path.write_text(LONG.replace("j", "c") * 6, encoding="utf-8")
    monkeypatch.setattr(evaluation, "MAX_CHARACTERS", 513)
    monkeypatch.setattr(scorer, "_SPAN", 4 * 256)
    code, out, err = run(capsys, "score", "--held-out", str(path), "--model", models[0], "--model", models[1])
    assert code == 0
    assert [row[2] for row in table(out)[1:]] == ["512"] * 4
    shown = re.findall(r"measured (\d+)%", err)
    assert shown == ["25", "50", "75", "100"]
    assert "knock: measured the first 512 characters of the 540 characters held out\n" in err


def test_held_out_needs_no_pytorch(tmp_path: Path, corpus: Path, models: list[str]) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no PyTorch here')", encoding="utf-8")
    done = process(
        "score", "--held-out", str(corpus), "--model", models[0], "--unknown", "skip",
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0
    assert b"block 256" in done.stdout
