"""Tests of the history of the REPL: where it is saved, what it keeps, and how it moves out of the cache folder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from knock.cli.repl.history import NAME, FileHistory, history, state_folder
from knock_kernels.cache.folder import user_folder


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test a home, in which neither folder exists."""
    home = tmp_path / "home"
    home.mkdir()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    for variable in ("KNOCK_CACHE_DIR", "LOCALAPPDATA", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "", "home/.local/state/knock"),
        ("linux", "XDG_STATE_HOME", "given/knock"),
        ("freebsd14", "XDG_STATE_HOME", "given/knock"),
        ("darwin", "", "home/Library/Application Support/knock"),
        ("darwin", "XDG_STATE_HOME", "home/Library/Application Support/knock"),
        ("win32", "", "home/AppData/Local/knock"),
        ("win32", "LOCALAPPDATA", "given/knock"),
    ],
)
def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, expected: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "given"))
    assert state_folder() == tmp_path / expected
    assert not state_folder().is_relative_to(user_folder())


def test_relative_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    assert state_folder() == tmp_path / "home" / ".local" / "state" / "knock"


def test_entries_are_saved_privately() -> None:
    saved = history()
    typed = ["ROMEO:", "two\nlines", "\udcff\x00é\u2028"]
    for line in typed:
        saved.append_string(line)
    path = state_folder() / NAME
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    with path.open("ab") as file:
        file.write(b"\xff damaged\n[1]\n" + json.dumps("last").encode())
    again = history()
    assert isinstance(again, FileHistory)
    assert list(again.load_history_strings()) == ["last", *reversed(typed)]
    with path.open("wb") as file:
        file.write(b"".join(b'"%d"\n' % number for number in range(3000)))
    assert list(history().load_history_strings())[:2] == ["2999", "2998"]
    assert len(list(history().load_history_strings())) == 1000


@pytest.mark.parametrize("is_set", [True, False])
def test_history_moves_out_of_the_cache_folder_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_set: bool
) -> None:
    if is_set:
        monkeypatch.setenv("KNOCK_CACHE_DIR", str(tmp_path / "cache"))
    old = user_folder() / NAME
    old.parent.mkdir(parents=True)
    old.write_bytes(b'"from before"\n')
    assert list(history().load_history_strings()) == ["from before"]
    assert not old.exists()
    assert [path.name for path in state_folder().iterdir()] == [NAME]
    old.write_bytes(b'"left by an older version"\n')
    assert list(history().load_history_strings()) == ["from before"]
    assert old.exists()


def test_old_history_stays_where_it_is_if_it_cannot_be_moved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = user_folder() / NAME
    old.mkdir(parents=True)
    history().append_string("new")
    assert old.is_dir()
    assert list(history().load_history_strings()) == ["new"]
    old.rmdir()
    old.write_bytes(b'"from before"\n')
    (state_folder() / NAME).unlink()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.move", fail)
    assert list(history().load_history_strings()) == []
    assert old.read_bytes() == b'"from before"\n'
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_old_history_that_others_could_have_written_is_left_alone() -> None:
    old = user_folder() / NAME
    old.parent.mkdir(parents=True)
    old.parent.chmod(0o777)
    old.write_bytes(b'"by another user"\n')
    assert list(history().load_history_strings()) == []
    assert old.exists()


def test_unwritable_folder_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    state_folder().parent.mkdir(parents=True)
    state_folder().touch()
    without = history()
    without.append_string("ROMEO:")
    assert without.get_strings() == ["ROMEO:"]
    err = capsys.readouterr().err
    assert err.startswith("the history is not saved: ")
    assert err.count("\n") == 1


def test_no_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "gone"))
    history().append_string("ROMEO:")
    assert capsys.readouterr().err == f"the history is not saved: the home folder {tmp_path / 'gone'} does not exist\n"


def test_failed_write_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = FileHistory(tmp_path / NAME)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    kept.append_string("A")
    kept.append_string("B")
    assert kept.get_strings() == ["A", "B"]
    assert capsys.readouterr().err.count("no longer saved") == 1
