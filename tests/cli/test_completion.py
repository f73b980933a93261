"""Tests of the completion scripts in the shells that are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from knock.choices import PRESET_NAMES
from knock.cli.completion import SHELLS
from knock.cli.main import COMMANDS, main
from knock.models import shipped


def script(shell: str, capsys: pytest.CaptureFixture[str], folder: Path) -> Path:
    assert main(["completion", shell]) == 0
    path = folder / f"_knock.{shell}"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


def run(shell: str, code: str, folder: Path) -> str:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here")
    done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False, cwd=folder, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_script_contains_every_command_and_model(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    content = script(shell, capsys, tmp_path).read_text(encoding="utf-8")
    for word in (*COMMANDS, *shipped()):
        assert word in content


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ge"], {"generate"}),
        ([""], set(COMMANDS)),
        (["generate", "--temp"], {"--temperature"}),
        (["generate", "--sampling", ""], set(PRESET_NAMES)),
        (["generate", "--model", "shakespeare-n"], {"shakespeare-nano"}),
        (["info", "m"], {"mine.safetensors"}),
        (["models", "--m"], {"--measure"}),
        (["models", "r"], {"runs"}),
        (["train", "mi"], {"mine.safetensors"}),
        (["completion", ""], set(SHELLS)),
    ],
)
def test_bash(words: list[str], expected: set[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = script("bash", capsys, tmp_path)
    (tmp_path / "mine.safetensors").touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / "row.txt").touch()
    given = " ".join(f"'{word}'" for word in ["knock", *words])
    code = (
        f"source {path.name}; COMP_WORDS=({given}); COMP_CWORD={len(words)}; _shtab_knock; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    found = set(run("bash", code, tmp_path).split())
    assert found == expected


def test_fish(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = script("fish", capsys, tmp_path)
    lines = {
        "knock ge": {"generate"},
        "knock generate --temp": {"--temperature"},
        "knock info shakespeare-n": {"shakespeare-nano"},
        "knock completion ": set(SHELLS),
    }
    for line, expected in lines.items():
        found = run("fish", f"source {path.name}; complete -C '{line}'", tmp_path)
        assert {word.split("\t")[0] for word in found.splitlines()} == expected


def test_zsh_parses_the_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = script("zsh", capsys, tmp_path)
    assert run("zsh", f"zsh -n {path.name} && echo read", tmp_path) == "read\n"


def test_unknown_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 2
    assert "invalid choice: 'csh'" in capsys.readouterr().err
