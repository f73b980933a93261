"""Tests of the commands of the REPL: arguments, errors, suggestions and completion."""

from __future__ import annotations

from pathlib import Path

import pytest

from knock.cli.repl.commands import COMMANDS, Quit, handle
from knock.cli.repl.session import Session
from knock.models import shipped
from knock.sampling import PRESETS
from tests.cli.repl.script import NANO, Script

SET_BY = {
    "/len": "300", "/temp": "0.8", "/sampling": "balanced", "/topk": "0", "/topp": "0.95", "/minp": "0",
    "/norepeat": "0", "/dry": "0", "/pattern": "off", "/minlen": "0", "/maxlen": "off", "/ban": "off",
    "/entropy": "off", "/rule": "exact", "/bounds": "0.3 2", "/mirostat": "off", "/seed": "random", "/model": NANO,
    "/heat": "off", "/stats": "off", "/unknown": "error", "/escapes": "off",
}  # fmt: skip


WRONG = {
    "/len": ("-1", "1.5", "many", "1e3", "9" * 5000, "1 2", "nan", "10000000000"),
    "/temp": ("-1", "hot", "nan", "inf", "1e999", "1 2", "9" * 5000),
    "/sampling": ("nucleus", "top_k top_p", "1", "-", "custom"),
    "/topk": ("-1", "1.5", "few", "1 2", "inf"),
    "/topp": ("0", "1.01", "-1", "most", "nan", "0.5 0.5"),
    "/minp": ("-0.1", "1.1", "some", "0.1 0.1"),
    "/entropy": ("-1", "much", "inf", "1 2", "on"),
    "/rule": ("1", "exactly", "exact ratio"),
    "/bounds": ("1", "2 1", "0 1", "-1 1", "a b", "1 2 3", "1 inf"),
    "/mirostat": ("0", "-1", "on", "1 2", "inf"),
    "/norepeat": ("-1", "1.5", "x", "1 2", "inf"),
    "/dry": ("-1", "x", "1 2", "inf", "nan"),
    "/pattern": ("(", "(?=a)b", r"(a)\1", r"\bA", "\u00e9", "a{400}", "[ab]*a[ab]{20}", "(a?){3000}", "a{1000000}"),
    "/minlen": ("-1", "1.5", "x", "1 2", "400", "1000000", "9" * 5000),
    "/maxlen": ("-1", "1.5", "x", "1 2", "on"),
    "/ban": ('"', "'a", '""', "a b ''"),
    "/seed": ("-1", "1.5", "x", str(2**64), "1 2"),
    "/model": ("nowhere", "a" * 300, "x\0y", "/", "\x1b[31m"),
    "/unknown": ("drop", "skip replace", "1"),
    "/escapes": ("yes", "on off"),
    "/heat": ("maybe", "1", "on off"),
    "/stats": ("ON", "1"),
    "/save": ("/", "x\0y", "nowhere/x", "a" * 5000),
    "/again": ("1",),
    "/pick": ("0", "-1", "1.5", "21", "x", "9" * 5000, "5 page", "5 ROMEO:", "off now", "off"),
    "/undo": ("1", ""),
    "/config": ("x",),
    "/help": ("/len",),
    "/quit": ("now",),
}


def test_every_command_has_test_cases() -> None:
    assert set(WRONG) == set(COMMANDS)
    assert set(SET_BY) == {name for name, command in COMMANDS.items() if command.now}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_arguments_are_reported_with_what_stays(script: Script, name: str) -> None:
    missing = [name] if COMMANDS[name].required else []
    lines = [*missing, *(f"{name} {argument}" for argument in WRONG[name])]
    code, out, err = script(*lines, "/config")
    messages = err.splitlines()
    assert (code, out) == (1, "")
    for number, line in enumerate(messages[: len(lines)], 1):
        assert line.startswith(f"knock: line {number}: {name}: ")
        assert line.endswith(f"; it is still {SET_BY[name]}" if name in SET_BY else "")
        assert len(line) < 700
        assert line.isprintable()
    config = dict(line.split(maxsplit=1) for line in messages[len(lines) :])
    assert {command: config[command].split(" (")[0] for command in SET_BY} == SET_BY


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/bounds 1", "/bounds: expected MIN and MAX, got '1'; it is still 0.3 2"),
        ("/len", "/len: expected N, got nothing; it is still 300"),
        ("/again 1", "/again: expected no argument, got '1'"),
        ("/again", "/again: nothing has been generated yet; enter a prompt first"),
        ("/pick 21", "/pick: N must be a whole number from 1 to 20, got 21"),
        ("/pick ROMEO:", "/pick: N must be a whole number from 1 to 20, got 'ROMEO:'"),
        ("/pick 5 ROMEO:", "/pick: expected word or line, got 'ROMEO:'; a prompt comes after it"),
        ("/pick off", "/pick: no text is being written; /pick 5 begins one"),
        ("/heat red", "/heat: expected on, off or no argument, got 'red'; it is still off"),
        ("/sampling nucleus", "/sampling: sampling must be one of balanced, basic, top_k, top_p, entropy, "
                              "got 'nucleus'; it is still balanced"),
    ],
)  # fmt: skip
def test_message(script: Script, line: str, expected: str) -> None:
    assert script(line)[2] == f"knock: line 1: {expected}\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/temprature", "/temp"), ("/temperature 0.5", "/temp"), ("/Temp", "/temp"), ("/length 5", "/len"),
        ("/len5", "/len"),
        ("/top-p 1", "/topp"), ("/top_k 1", "/topk"), ("/target-entropy 1", "/entropy"), ("/max_temp 1", "/bounds"),
        ("/exit", "/quit"), ("/q", "/quit"), ("/?", "/help"), ("/modle x", "/model"), ("/retry", "/again"),
        ("/done", "/pick"), ("/more", "/pick"), ("/pikc 5", "/pick"),
    ],
)  # fmt: skip
def test_misspelt_command(script: Script, typed: str, meant: str) -> None:
    err = script(typed)[2]
    assert f"unknown command '{typed.partition(' ')[0]}'; did you mean {meant}? /help lists the commands" in err


def test_names_of_settings_lead_to_their_commands(script: Script) -> None:
    for name, command in COMMANDS.items():
        for setting in command.settings:
            if f"/{setting}" not in COMMANDS:
                assert f"did you mean {name}?" in script(f"/{setting}")[2]


@pytest.mark.parametrize("line", ["/", "/nonsense", "/Len 5", "/len5", "/\x1b[31m", "/" + "x" * 9999, "/ len 5"])
def test_unknown_command(script: Script, line: str) -> None:
    code, out, err = script(line)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "/help lists the commands" in err
    assert "\x1b" not in err
    assert len(err) < 300


def test_help_lists_every_command(script: Script) -> None:
    code, out, err = script("/help")
    assert (code, out) == (0, "")
    shown = " ".join(err.split())
    for name, command in COMMANDS.items():
        assert " ".join((name, *command.arguments, command.summary)) in shown
    assert max(map(len, err.splitlines())) <= 80


def test_quit_ignores_the_remaining_lines(script: Script) -> None:
    assert script("/len 5", "/quit", "ROMEO:") == (0, "", "len 5\n")


def test_completion(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from knock.cli.repl.prompt import CommandCompleter

    monkeypatch.chdir(tmp_path)
    for name in ("mine.safetensors", "older.npz", "notes.txt", "mine.md"):
        Path(name).touch()
    Path("folder").mkdir()
    completer = CommandCompleter(session)

    def completed(line: str) -> set[str]:
        found = completer.get_completions(Document(line), CompleteEvent())
        return {line[: len(line) + each.start_position] + each.text for each in found}

    assert completed("/") == set(COMMANDS)
    assert completed("/to") == {"/topk", "/topp"}
    assert completed("/sampling ") == {f"/sampling {name}" for name in PRESETS}
    assert completed("/sampling top_") == {"/sampling top_k", "/sampling top_p"}
    assert completed("/mirostat o") == {"/mirostat off"}
    assert completed("/seed r") == {"/seed random"}
    assert completed("/temp ") == {"/temp 0.8"}
    assert completed("/bounds ") == {"/bounds 0.3 2"}
    assert completed("/stats ") == {"/stats on", "/stats off"}
    assert completed("/unknown s") == {"/unknown skip"}
    assert completed("/pick 5 l") == {"/pick 5 line"}
    assert completed("/model shakespeare-n") == {f"/model {NANO}"}
    files = ("mine.safetensors", "older.npz", "folder")
    assert completed("/model ") == {f"/model {name}" for name in (*shipped(), *files)}
    assert completed("/save mi") == {"/save mine.safetensors", "/save mine.md"}
    for nothing in ("ROMEO", "", "ROMEO: /le", "/nonsense ", "/quit ", "/save \0/", "/model " + "x" * 9999):
        assert completed(nothing) == set()


def test_quit_raises(session: Session) -> None:
    with pytest.raises(Quit):
        handle(session, "/quit")
