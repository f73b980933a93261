"""Tests of `knock info`: its labels, and its lines at any width."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from knock import ModelConfig, Vocab
from knock.cli.info import _duration
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.models import DEFAULT, shipped
from knock.weights import Weights
from tests.cases import SMALL, random_weights
from tests.cli.test_main import run


def facts(out: str) -> dict[str, str]:
    return {line[:16].rstrip(): line[16:] for line in out.splitlines()}


def test_labels_and_facts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    code, out, err = run(capsys, "info")
    assert (code, err) == (0, "")
    found, path = facts(out), shipped()[DEFAULT]
    checkpoint = read_checkpoint(path)
    assert found["file"] == str(path)
    assert found["size"] == f"{path.stat().st_size:,} bytes"
    assert found["receptive field"] == f"{checkpoint.weights.config.receptive_field:,} characters"
    assert found["vocabulary"] == "65 characters: ↵ ␣ ! $ & ' , - . 3 : ; ? A-Z a-z"
    assert found["training time"].endswith(" s")
    assert found["loss, block 256"].startswith(
        f"{checkpoint.training['evaluation']['block_256']['nats_per_char']:.4f} "
    )
    assert all(found.values())


def test_blocks_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ModelConfig(
        vocab_size=5, n_blocks=4, T=(2, 32, 32, 512), head_type=("reweight", "reweight", "reweight", "hybrid"),
        reweight_T=32,
    )  # fmt: skip
    write_checkpoint(tmp_path / "m.safetensors", Weights.random(config), Vocab("abcde"))
    found = facts(run(capsys, "info", str(tmp_path / "m.safetensors"))[1])
    assert found["heads"] == "reweight, hybrid, relative positions"
    assert found["shape"] == "T=2,32,32,512 reweight_T=32 n_emb=64 nodes=64 n_blocks=4 n_heads=4"
    assert found["block 1"] == "reweight heads, a window of 2 characters"
    assert found["blocks 2-3"] == "reweight heads, a window of 32 characters"
    assert found["block 4"] == "hybrid heads, a window of 512 characters, 32 of them with reweight logits"
    assert found["receptive field"] == "575 characters"


@pytest.mark.parametrize("columns", [40, 80])
def test_lines_fit_and_no_word_is_split(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    _, wide, _ = run(capsys, "info")
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = run(capsys, "info")
    lines = [line for line in out.splitlines() if not line.startswith(("file ", "digest "))]
    assert max(map(len, lines)) <= columns
    assert out.split() == wide.split()
    assert len(out.splitlines()) > len(wide.splitlines())
    if columns >= 80:
        assert max(len(line) for line in out.splitlines() if not line.startswith("file ")) <= columns


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_lines_are_wrapped_on_a_terminal_only(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pty

    from knock.cli.ui.terminal import is_wrapped

    monkeypatch.delenv("COLUMNS", raising=False)
    assert not is_wrapped()
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert is_wrapped()
    os.close(ours)


@pytest.mark.parametrize(
    ("vocab", "shown"),
    [
        ("abcdefghijk", "a-k"), ("abxyz012&%\n", "a b x-z 0-2 & % ↵"), ("#$%&'()*+,-", "# $ % & ' ( ) * + , -"),
        ("\x1b\u0301日月火水\u2028🦜a b", r"^[ ◌́ 日 月 火 水 \u2028 🦜 a ␣ b"),
    ],
)  # fmt: skip
def test_vocabulary_is_shown_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path, vocab: str, shown: str) -> None:
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, random_weights(SMALL["hybrid-relative"], 0), Vocab(vocab))
    assert f"vocabulary      11 characters: {shown}\n" in run(capsys, "info", str(path))[1]


def test_large_vocabularies_are_cut(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    vocab = "".join(chr(0x4E00 + 2 * i) for i in range(1234))
    config = ModelConfig(vocab_size=1234, T=4, n_emb=4, nodes=4, n_blocks=1, n_heads=1)
    write_checkpoint(tmp_path / "m.safetensors", random_weights(config, 0), Vocab(vocab))
    line = facts(run(capsys, "info", str(tmp_path))[1])["vocabulary"]
    assert line.startswith("1,234 characters: 一 丂 ")
    assert line.endswith(" ... and 1,034 more")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (5.25, "5.2 s"),
        (60, "1 min 0 s"),
        (2566.1, "42 min 46 s"),
        (3599.7, "1 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert _duration(seconds) == shown


def test_json_has_what_the_file_holds(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "info", "names", "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    found, path = json.loads(out), shipped()["names"]
    checkpoint = read_checkpoint(path)
    vocab = checkpoint.vocab
    assert vocab is not None
    assert found == {
        "name": "names",
        "path": str(path),
        "is_shipped": True,
        "bytes": path.stat().st_size,
        "digest": checkpoint.digest,
        "config": checkpoint.weights.config.to_dict(),
        "parameters": checkpoint.weights.n_parameters,
        "receptive_field": checkpoint.weights.config.receptive_field,
        "vocabulary": {"characters": "".join(vocab.characters), "lowercase": False, "has_boundary": True},
        "training": checkpoint.training,
    }


def test_json_of_a_model_without_a_vocabulary(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m.npz", random_weights(SMALL["hybrid-relative"], seed=0), None, {})
    found = json.loads(run(capsys, "info", str(tmp_path / "m.npz"), "--json")[1])
    assert (found["name"], found["is_shipped"], found["vocabulary"], found["training"]) == ("m", False, None, {})


def test_a_schema_to_edit_has_a_line_for_each_column(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    columns = [{"kind": "integer", "max": 9, "min": 1, "name": "é"}, {"kind": "empty", "name": "b"}]
    vocab = Vocab([chr(97 + i) for i in range(10)], boundary=True)
    for schema in ({"format": "csv", "columns": columns}, {"columns": "?"}):
        write_checkpoint(
            tmp_path / "m.npz", random_weights(SMALL["hybrid-relative"], seed=0), vocab, {"schema": schema}
        )
        code, out, _ = run(capsys, "info", str(tmp_path / "m.npz"), "--schema")
        assert (code, json.loads(out)) == (0, schema)
        if schema["columns"] != "?":
            assert '\n    {"name": "é", "kind": "integer", "min": 1, "max": 9},\n    {"name": "b", ' in out


def test_json_and_schema_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "info", "--json", "--schema")
    assert (code, "not allowed with argument --json" in err) == (2, True)
