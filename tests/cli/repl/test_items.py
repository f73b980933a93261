"""Tests of the REPL with a model of items, and of its constraints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from knock.cli.repl.commands import CommandError, handle
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.language_model import load
from tests.cases import save_items

BALANCED = "balanced"


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of items."""
    return save_items(tmp_path_factory.mktemp("items"), "abc")


class Terminal:
    """Handles lines as a session on a terminal does, and returns what is written."""

    def __init__(self, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
        self.session, self._capsys = session, capsys

    def __call__(self, *lines: str) -> tuple[str, str]:
        self._capsys.readouterr()
        for line in lines:
            handle(self.session, line)
        captured = self._capsys.readouterr()
        return captured.out, captured.err


@pytest.fixture
def terminal(items: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(Session(str(items), Settings(seed=5, stats=False), is_terminal=True), capsys)


def test_a_prompt_begins_an_item_and_an_empty_line_is_a_new_one(terminal: Terminal, items: Path) -> None:
    lm = load(items)
    for prompt in ("ab", "", "c", ""):
        item = lm.generate(prompt, sampling=BALANCED, seed=5)
        out, err = terminal(prompt)
        assert out == prompt + item.text + "\n"
        count = len(item.text)
        bits = f"{item.stats['mean_surprise']:.2f} bits, " if count else ""
        assert err == f"{count} character{'s' * (count != 1)}, item ended, {bits}seed 5\n"
    out, _ = terminal("ab", "/again")
    assert out == "".join(f"ab{lm.generate('ab', sampling=BALANCED, seed=seed).text}\n" for seed in (5, 6))


def test_why_an_item_ended_is_said(terminal: Terminal, items: Path) -> None:
    lm = load(items)
    seed = next(seed for seed in range(99) if len(lm.generate("", sampling=BALANCED, seed=seed).text) > 1)
    assert "\n1 character, cut by /len, " in terminal(f"/seed {seed}", "/len 1", "")[1]
    assert "Ended by:         cut by /len " in terminal("/stats on", "")[1]
    assert "Ended by:         end of item " in terminal("/len 300", "")[1]


def test_greedy_sampling_has_no_notice_of_blank_lines(terminal: Terminal) -> None:
    assert "blank" not in terminal("/temp 0", "")[1]


def test_constraints_concern_the_whole_item(terminal: Terminal) -> None:
    out, _ = terminal("/pattern [ab]{4,6}", "ab", "")
    assert all(re.fullmatch("[ab]{4,6}", line) for line in out.splitlines())
    assert out.startswith("ab")
    out, _ = terminal("/pattern off", "/minlen 5", "/maxlen 7", "/ban aa", "", "b", "a")
    assert all(5 <= len(line) <= 7 and "aa" not in line for line in out.splitlines())
    assert "no effect" not in terminal("/minlen 2", "/maxlen 400", "/pattern off")[1]


def test_a_length_that_fits_no_text_is_refused(terminal: Terminal) -> None:
    terminal("/pattern [ab]{4,6}")
    with pytest.raises(CommandError, match=r"takes 5 characters, its end included, .* it is still 300"):
        terminal("/len 4")
    terminal("/len 5")
    with pytest.raises(CommandError, match=r"/pattern: .* it is still \[ab\]\{4,6\}"):
        terminal("/pattern [ab]{5}")


@pytest.mark.parametrize("given", ["a", '"a b" c', "\"a'b\" 'c\"d'", r"\n \t \\", '"off" b', "' '"])
def test_banned_strings_are_shown_as_they_can_be_entered(terminal: Terminal, given: str) -> None:
    terminal(f"/ban {given}")
    strings = terminal.session.settings.ban
    _, err = terminal("/config")
    shown = next(line.split(maxsplit=1)[1] for line in err.splitlines() if line.startswith("/ban "))
    terminal("/ban off")
    assert terminal.session.settings.ban == ()
    terminal(f"/ban {shown}")
    assert terminal.session.settings.ban == strings


def test_strings_to_ban_are_read_with_quotes_and_escapes(terminal: Terminal) -> None:
    terminal(r"""/ban a\n "b c" 'd"' "off" """)
    assert terminal.session.settings.ban == ("a\n", "b c", 'd"', "off")
