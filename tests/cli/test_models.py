"""Tests of `knock models`: the shipped models and those of a folder, as a table and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from knock import Vocab
from knock.cli.main import main
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.models import DEFAULT, shipped
from tests.cases import SMALL, random_weights
from tests.cli.test_main import run

VOCAB = Vocab("\nabcdefghij")


def record(**losses: object) -> dict[str, object]:
    return {"evaluation": {name: {"nats_per_char": loss} for name, loss in losses.items()}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of models with and without losses and a vocabulary, and of other files."""
    path = tmp_path / "runs"
    path.mkdir()
    weights = random_weights(SMALL["hybrid-relative"], 0)
    write_checkpoint(path / "a.safetensors", weights, VOCAB, record(stream=2.5, block_256=2.75))
    write_checkpoint(path / "b.npz", weights, VOCAB, record(stream=2.5))
    write_checkpoint(path / "c.safetensors", weights)
    (path / "notes.txt").write_text("mine", encoding="utf-8")
    (path / "d.safetensors").mkdir()
    return path


def rows(out: str) -> dict[str, list[str]]:
    return {found[0]: found[1:] for line in out.splitlines() if len(found := line.split()) > 2 and "  " in line}


def test_shipped_models(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "models")
    assert (code, err) == (0, "")
    found = rows(out)
    assert found.pop("name") == ["parameters", "loss"]
    assert list(found) == list(shipped())
    for name, path in shipped().items():
        checkpoint = read_checkpoint(path)
        losses = checkpoint.training["evaluation"]
        loss = losses["block_256" if "block_256" in losses else "items"]["nats_per_char"]
        assert found[name] == [f"{checkpoint.weights.n_parameters:,}", f"{loss:.4f}"]
    assert str(shipped()[DEFAULT].parent) in out
    assert f"default: {DEFAULT}\n" in out


def test_models_of_a_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, err = run(capsys, "models", str(folder))
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == run(capsys, "models")[1].splitlines()[:2]
    count = f"{random_weights(SMALL['hybrid-relative'], 0).n_parameters:,}"
    found = rows(out.split(f"in {folder}\n")[1])
    assert found == {
        "name": ["parameters", "loss"],
        "a.safetensors": [count, "2.7500"],
        "b.npz": [count, "2.5000"],
        "c.safetensors": [count, "-"],
    }


def test_json_names_models_as_the_other_commands_take_them(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, err = run(capsys, "models", str(folder), "--json")
    assert (code, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert [each["name"] for each in found[: len(shipped())]] == list(shipped())
    for each in found:
        assert main(["info", each["name"]]) == 0
        digest = capsys.readouterr().out.split("digest")[1].split()[0]
        assert read_checkpoint(each["path"]).digest == digest
        assert each["characters_per_second"] is None
    assert [each["losses"] for each in found[len(shipped()) :]] == [
        {"stream": 2.5, "block_256": 2.75},
        {"stream": 2.5},
        {},
    ]


def test_measured_speed(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, err = run(capsys, "models", str(folder), "--measure", "--json")
    assert (code, err) == (0, "")
    speeds = [json.loads(line)["characters_per_second"] for line in out.splitlines()]
    assert speeds[-1] is None  # it has no vocabulary, so it cannot generate text
    assert all(speed > 0 for speed in speeds[:-1])
    table = rows(run(capsys, "models", str(folder), "--measure")[1].split(f"in {folder}\n")[1])
    assert table["name"][-1] == "characters/s"
    assert re.fullmatch(r"[\d,]+", table["a.safetensors"][-1])
    assert table["c.safetensors"][-1] == "-"


def test_invalid_files_are_reported_and_left_out(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "0.npz").write_bytes(b"mine\x1b")
    (folder / "e.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:-1])
    code, out, err = run(capsys, "models", str(folder))
    assert code == 0
    assert set(rows(out.split(f"in {folder}\n")[1])) == {"name", "a.safetensors", "b.npz", "c.safetensors"}
    assert [line.split(" is not")[0] for line in err.splitlines()] == [
        f"knock: {str(folder / name)!r}" for name in ("0.npz", "e.safetensors")
    ]


@pytest.mark.parametrize(
    "given", [{"mine": 1}, {"evaluation": [1]}, {"evaluation": {"block_256": 3, "a": {"nats_per_char": "x"}}}]
)
def test_records_of_other_programs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, given: dict[str, object]
) -> None:
    write_checkpoint(tmp_path / "m.safetensors", random_weights(SMALL["hybrid-relative"], 0), VOCAB, given)
    code, out, _ = run(capsys, "models", str(tmp_path))
    assert code == 0
    assert rows(out.split(f"in {tmp_path}\n")[1])["m.safetensors"][-1] == "-"


def test_empty_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "models", str(tmp_path))
    assert (code, err) == (0, "")
    assert f"in {tmp_path}\nno model files\n" in out


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("measure", [[], ["--measure"]])
def test_table_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, columns: int, measure: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(folder.parent)
    out = run(capsys, "models", "runs", *measure)[1].replace(str(shipped()[DEFAULT].parent), "FOLDER")
    assert max(map(len, out.splitlines())) <= columns
    parameters = read_checkpoint(shipped()[DEFAULT]).weights.n_parameters
    for word in ("shakespeare-small", f"{parameters:,}", "a.safetensors", "2.7500"):
        assert word in out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "is not there; pass the folder"),
        ("a.safetensors", "is a file; pass the folder"),
        ("a\0b", "pass "),
    ],
)
def test_invalid_folders_are_reported_on_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str, says: str
) -> None:
    code, out, err = run(capsys, "models", str(folder / name))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert says in err
