"""Tests of `knock demo` on a terminal: it waits after each step, and shows styles and colours."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.cli.pseudo_terminal import CTRL_C, CTRL_D, STEERING, Terminal

WAITING = r"\nEnter: go on, q: stop $"
ARGUMENTS = ("demo", "--model", "shakespeare-nano", "--length", "30")


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for each in terminals:
        each.close()


def test_enter_goes_on_to_the_end(opened: list[Terminal]) -> None:
    opened.append(terminal := Terminal(*ARGUMENTS))
    for number in range(1, 7):
        assert f"\n{number} of 7. " in terminal.see(WAITING)
        terminal.type("\r")
    assert terminal.exit_code() == 0
    assert "To go on from here:" in terminal.raw
    assert "\x1b[1mROMEO:\x1b[0m" in terminal.raw
    assert re.search(r"\x1b\[38;5;\d+;48;5;\d+m", terminal.raw)


@pytest.mark.parametrize(("keys", "code"), [("q\r", 0), (CTRL_D, 0), (CTRL_C, 130)])
def test_the_tour_can_be_stopped(opened: list[Terminal], keys: str, code: int) -> None:
    opened.append(terminal := Terminal(*ARGUMENTS))
    terminal.see(WAITING)
    terminal.type(keys)
    assert terminal.exit_code() == code
    assert "2 of 7" not in terminal.raw
    assert "Traceback" not in terminal.raw


@pytest.mark.parametrize("option", ["--no-pause", "--quiet"])
def test_without_pauses_and_colours(opened: list[Terminal], option: str) -> None:
    opened.append(terminal := Terminal(*ARGUMENTS, option, columns=40, NO_COLOR="1"))
    assert terminal.exit_code() == 0
    assert "Enter" not in terminal.raw
    assert "\x1b" not in terminal.raw
    assert "7 of 7" in terminal.raw
    lines = [line for line in STEERING.sub("", terminal.raw).split("\n") if not line.startswith("  knock ")]
    assert max(map(len, lines)) <= 40
