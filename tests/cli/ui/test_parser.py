"""Tests of the argument parser: help at any width, and prompts that begin with a dash."""

from __future__ import annotations

import pytest

from knock.cli.main import COMMANDS, build_parser, main
from knock.cli.ui.parser import Parser

WIDTHS = (40, 57, 80, 200)


@pytest.mark.parametrize("width", WIDTHS)
def test_help_fits_the_terminal_and_splits_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    def words(columns: int, command: str) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main([command, "--help"] if command else ["--help"]) == 0
        out = capsys.readouterr().out
        if columns == width:
            for line in out.splitlines():
                assert len(line) <= width or len(line.split()) == 1, line  # a path cannot be broken
        return out.replace(" \\\n", "\n").split()

    for command in ("", *COMMANDS):
        assert words(width, command) == words(1000, command)


def test_continued_examples_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown = build_parser("generate").commands["generate"].format_help()
    command = shown[shown.index('  knock generate "ROMEO:" --seed') :].split("\n  knock")[0]
    assert command.replace("\\\n", " ").split() == [
        "knock", "generate", '"ROMEO:"', "--seed", "7", "--temperature", "1", "--top-p", "0.9", "--stop", '"\\n\\n"',
    ]  # fmt: skip
    assert "--stop \\\n" not in command  # an option and its value stay together


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="p")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("-n", "--number", type=int)
    parser.add_argument("prompt", nargs="?")
    return parser


@pytest.mark.parametrize("argument", ["-q", "-n3", "-qn3", "-n", "-qn", "-", "-5", "-.5", "--", "plain", "--quiet"])
def test_options_and_plain_arguments_pass(parser: Parser, argument: str) -> None:
    parser.check_options([argument])


@pytest.mark.parametrize("argument", ["-hello", "-nothing", "-qx", "-é", "-x"])
def test_other_arguments_with_a_dash_are_rejected(
    parser: Parser, argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.check_options([argument])
    assert f"p -- {argument!r}" in capsys.readouterr().err
    parser.check_options(["--", argument])
    assert parser.parse_args(["--", argument]).prompt == argument
