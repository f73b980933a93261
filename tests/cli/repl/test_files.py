"""Tests of the files of the REPL: texts that are saved, and models."""

from __future__ import annotations

from pathlib import Path

import pytest

from knock import LanguageModel
from knock.cli.repl.commands import handle
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.errors import KnockError
from tests.cli.repl.script import BALANCED, NANO, Script


def test_save_writes_prompt_and_text_without_overwriting(script: Script, nano: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "a text.txt"
    _, _, err = script(f"/save {path}", "/len 30", "/seed 2", "ROMEO:", f"/save  {path} ", f"/save {path}")
    assert "nothing has been generated yet" in err
    text = nano.generate("ROMEO:", sampling=BALANCED, max_new_tokens=30, seed=2).text
    assert path.read_bytes().decode() == "ROMEO:" + text
    assert f"'{path}' already exists; pass --force to overwrite it" in err


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (".", "'.' is a folder"),
        ("x\0y", "null"),
        ("nowhere/x", "no such file"),
        ("a" * 5000, "too long"),
        ("", "/save: expected FILE, got nothing"),
    ],
)
def test_save_to_invalid_path(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = script("/len 0", "/seed 1", "A", f"/save {file}")
    last = err.splitlines()[-1]
    assert (code, out) == (1, "A\n")
    assert last.startswith("knock: line 4: /save: ")
    assert said in last
    assert len(last) < 500
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs POSIX files")
def test_save_does_not_follow_links_and_reports_a_full_device(script: Script, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    code, _, err = script("/len 5", "A", f"/save {tmp_path / 'link'}", "/save /dev/full")
    assert code == 1
    assert "link' already exists; pass --force to overwrite it" in err
    assert "cannot write '/dev/full': no space left" in err
    assert not (tmp_path / "nowhere").exists()


def test_model_switches_and_keeps_the_current_one_on_failure(
    script: Script, odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = script("/len 0", "ROMEO:", f"/model {odd}", "ROMEO:", "ab", f"/model {NANO}", "ROMEO:")
    assert (code, out) == (1, "ROMEO:\nab\nROMEO:\n")
    assert "line 4: unknown character 'R' (U+0052) at offset 0; the model knows 11 characters" in err
    session = Session(str(odd), Settings(length=5))
    odd.unlink()
    with pytest.raises(KnockError, match=r"neither a file .*; it is still .*odd\.safetensors"):
        handle(session, f"/model {odd}")
    handle(session, "ab")
    assert capsys.readouterr().out.startswith("ab")


def test_missing_model_is_reported_on_one_line(script: Script) -> None:
    code, out, err = script("A", options=("--model", "nowhere"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("knock: error: no model named 'nowhere'")
