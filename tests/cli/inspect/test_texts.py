"""Tests of what `knock inspect` accepts: texts, characters and files, and the errors for others."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.cli.inspect.command import run, saved


def test_character_in_another_normal_form(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    composed, decomposed = saved(tmp_path, "hybrid-relative", "ae\u00e9\u030c\nbcdfgh"), tmp_path / "b"
    decomposed.mkdir()
    code, out, _ = run(capsys, composed, "--text", "ae\u0301a", "--char", "\u00e9")
    assert code == 0
    assert "Attention when reading \u00e9, mean over 1 position" in out
    model = saved(decomposed, "hybrid-relative", "ae\u0301\n\u030cbcdfgh")
    code, out, err = run(capsys, model, "--text", "ae", "--char", "\u00e9")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("knock: error: the model reads '\u00e9' as 2 characters, ")


def test_long_texts_are_truncated_and_unknown_characters_counted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / "long.txt"
    long.write_text("aa \n" * 2000, encoding="utf-8")
    model = saved(tmp_path, "hybrid-relative")
    code, _, err = run(capsys, model, "--file", str(long), "--html", str(tmp_path / "p.html"))
    assert (code, err) == (0, "knock: only the first 4,096 of 8,000 characters are inspected\n")
    code, out, err = run(capsys, model, "--text", "azya", "--unknown", "skip")
    assert (code, err) == (0, "knock: skipped 2 characters that the model does not know\n")
    assert "the text, 2 characters" in out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a a")))
    assert "standard input, 3 characters" in run(capsys, model, "--file", "-")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--text", "az"], 1, "unknown character 'z' (U+007A) at offset 1"),
        (["--char", "z"], 1, "unknown character 'z'"),
        (["--char", "aa"], 2, "must be one character, got 2"),
        (["--char", ""], 2, "must be one character, got 0"),
        (["--text", ""], 1, "the text is empty"),
        (["--file", "empty.txt"], 1, "empty.txt is empty"),
        (["--text", "zz", "--unknown", "skip"], 1, "no character that the model knows"),
        (["--file", "nowhere.txt"], 1, "no such file"),
        (["--text", "a", "--file", "empty.txt"], 2, "not allowed with"),
        (["--plot", "p.pdf"], 2, "must end in .png or .svg"),
        (["--html", "p"], 2, "must end in .html or .htm"),
        (["--html", "folder.html"], 1, "'folder.html' is a folder; pass the path of a file"),
        (["--plot", "folder.png"], 1, "'folder.png' is a folder; pass the path of a file"),
        (["--html", "none/p.html"], 1, "the folder 'none' does not exist"),
        (["--html", "empty.txt/p.html"], 1, "the folder 'empty.txt' does not exist"),
        (["--html", "a" * 500 + ".html"], 1, "name too long"),
        (["--html", "a\0.html"], 1, "cannot write"),
    ],
)
def test_invalid_input_is_reported_on_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("folder.html").mkdir()
    Path("folder.png").mkdir()
    exit_code, out, err = run(capsys, saved(tmp_path, "hybrid-relative"), *arguments)
    assert (exit_code, out, err.count("\n")) == (code, "", 1)
    assert says in err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = saved(tmp_path, "hybrid-relative")
    tmp_path.chmod(0o500)
    code, out, err = run(capsys, model, "--html", str(tmp_path / "p.html"))
    tmp_path.chmod(0o700)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "permission denied" in err
