"""Tests of output files: no command overwrites a file without --force, and writes are atomic."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from knock.cli.main import COMMANDS, build_parser
from knock.errors import OutputError
from knock.files.output import check_free, write_whole
from tests.cli.test_main import CORPUS, FAST, run

OLD = b"existing content"
# Commands that write a file, and the file.
WRITE = {
    "train": (["train", "corpus.txt", *FAST, "--out", "OUT"], "o.safetensors"),
    "train --metrics": (["train", "corpus.txt", *FAST, "--out", "m.safetensors", "--metrics", "OUT"], "o.jsonl"),
    "convert": (["convert", "shakespeare-nano", "OUT"], "o.npz"),
    "sample": (["sample", "A", "--length", "3", "--out", "OUT"], "o.jsonl"),
    "sample txt": (["sample", "A", "--length", "3", "--out", "OUT"], "o.txt"),
    "sample parquet": (["sample", "A", "--length", "3", "--out", "OUT"], "o.parquet"),
    "inspect --html": (["inspect", "shakespeare-nano", "--text", "A", "--html", "OUT"], "o.html"),
    "page": (["page", "shakespeare-nano", "--out", "OUT"], "o.html"),
    "inspect --plot": (["inspect", "shakespeare-nano", "--text", "A", "--plot", "OUT"], "o.svg"),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text(CORPUS, encoding="utf-8")


def command(name: str) -> tuple[list[str], Path]:
    arguments, file = WRITE[name]
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    return [file if argument == "OUT" else argument for argument in arguments], Path(file)


@pytest.mark.parametrize("name", WRITE)
def test_existing_file_is_kept_without_force(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, file = command(name)
    file.write_bytes(OLD)
    before = set(Path().iterdir())
    code, out, err = run(capsys, *arguments)
    resumable = name in ("sample", "sample txt")
    choices = "pass --resume to continue it, --force" if resumable else "pass --force"
    assert (code, out) == (1, "")
    assert err == f"knock: error: '{file}' already exists; {choices} to overwrite it, or choose another name\n"
    assert set(Path().iterdir()) == before
    assert file.read_bytes() == OLD
    code, _, err = run(capsys, *arguments, "--force")
    assert code == 0 or (name == "train" and "was not overwritten: the new weights are worse" in err), err
    assert (file.read_bytes() == OLD) == (code == 1)


@pytest.mark.parametrize("name", WRITE)
def test_new_and_empty_files_need_no_force(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, file = command(name)
    file.touch()
    assert run(capsys, *arguments)[0] == 0
    size = file.stat().st_size
    assert size > 0
    file.unlink()
    for left in Path().glob("m.safetensors*"):
        left.unlink()
    assert run(capsys, *arguments)[0] == 0
    assert file.stat().st_size > 0


def test_every_writing_command_has_force() -> None:
    names = {arguments[0] for arguments, _ in WRITE.values()}
    for name in COMMANDS:
        has_option = "--force" in build_parser(name).parse_args.__self__._actions[-1].choices[name].format_help()
        assert has_option == (name in names)


def test_forced_training_overwrites_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("m.safetensors")
    file.write_bytes(OLD)
    options = ["--steps", "120", "--learning-rate", "0.02", "--force"]
    code, _, err = run(capsys, "train", "corpus.txt", *FAST, *options, "--out", str(file))
    assert code == 0, err
    assert file.read_bytes() != OLD


def test_state_of_a_run_is_kept_without_force(capsys: pytest.CaptureFixture[str]) -> None:
    state = Path("m.safetensors.run")
    state.write_bytes(OLD)
    arguments = ["train", "corpus.txt", *FAST, "--out", "m.safetensors"]
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert err == (
        "knock: error: 'm.safetensors.run' holds an unfinished run; pass --resume to continue it, --force to overwrite "
        "it, or choose another name\n"
    )
    assert state.read_bytes() == OLD
    assert run(capsys, *arguments, "--force")[0] == 0
    assert not state.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "--prompts", "corpus.txt", "--out", "corpus.txt", "--force"],
        ["sample", "--prompts", "corpus.txt", "--out", "./corpus.txt", "--resume"],
        ["train", "corpus.txt", *FAST, "--out", "m.safetensors", "--metrics", "corpus.txt", "--force"],
        ["inspect", "shakespeare-nano", "--file", "text.html", "--html", "text.html", "--force"],
        ["convert", "shakespeare-nano.npz", "shakespeare-nano.npz", "--force"],
    ],
)
def test_inputs_are_never_overwritten(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "convert", "shakespeare-nano", "shakespeare-nano.npz")[0] == 0
    Path("text.html").write_text("A", encoding="utf-8")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    code, _, err = run(capsys, *arguments)
    assert (code, "is also an input of this command; choose another name" in err) == (1, True)
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("name", ["train", "sample"])
def test_force_and_resume_exclude_each_other(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, _ = command(name)
    code, _, err = run(capsys, *arguments, "--force", "--resume")
    assert (code, "give one of them" in err) == (2, True)


def test_check_free_accepts_paths_without_content(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "none", tmp_path / "empty", tmp_path, "a" * 5000, "a\0b", os.devnull):
        check_free(path, force=False)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(OutputError, match="already exists"):  # it may point anywhere
        check_free(link, force=False)
    write_whole(link, b"1")
    assert (link.is_symlink(), target.read_bytes()) == (True, b"1")


def test_write_whole_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fails(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert [each.name for each in tmp_path.iterdir() if each.name != "corpus.txt"] == ["file"]
    assert path.read_bytes() == b"old"
