"""Tests of the interactive REPL on a pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knock import LanguageModel
from knock.cli.repl.commands import COMMANDS
from knock.language_model import load
from tests.cli.pseudo_terminal import CTRL_C, CTRL_D, STEERING, TAB, UP, Terminal, pty, termios

NANO = "shakespeare-nano"
PROMPT = r"\n>"

Open = Callable[..., Terminal]


@pytest.fixture
def terminal() -> Iterator[Open]:
    """Return a function that starts a REPL in a terminal and waits for its prompt."""
    opened: list[Terminal] = []

    def open_(*arguments: str, **options: str | int) -> Terminal:
        new = Terminal("repl", "--model", NANO, *arguments, **options)
        opened.append(new)
        new.see(rf"/help\s+lists\s+the\s+commands{PROMPT}")
        return new

    yield open_
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def nano() -> LanguageModel:
    return load(NANO)


def test_knock_without_arguments_starts_the_repl() -> None:
    alone = Terminal()
    try:
        alone.see(rf"^shakespeare-small; /help lists the commands{PROMPT}")
        alone.type("/quit\r")
        assert alone.exit_code() == 0
    finally:
        alone.close()


def test_session_with_every_command(terminal: Open, nano: LanguageModel, tmp_path: Path) -> None:
    def text(prompt: str, seed: int, **controls: float | str) -> str:
        controls = controls or {"sampling": "balanced"}
        return re.escape(prompt + nano.generate(prompt, max_new_tokens=25, seed=seed, **controls).text)

    def line(seed: int) -> str:
        return rf"25 characters, \d\.\d\d bits, seed {seed}\n"

    box = r"\n┌─+┐\n│ +Generation Stats +│\n├─+┤\n(│.*│\n){5}└─+┘\n"
    repl = terminal("--seed", "3")
    repl.enter("/len 25", r"\nlen 25\n")
    repl.enter("ROMEO:", rf"\n{text('ROMEO:', 3)}\n?{box}seed 3\n")
    repl.enter("/stats", r"\nstats off\n")
    repl.enter("", rf"\n{text('ROMEO:', 3)}\n?{line(3)}")
    repl.enter("/again", rf"\n{text('ROMEO:', 4)}\n?{line(4)}")
    repl.enter("/again", rf"\n{text('ROMEO:', 5)}\n?{line(5)}")
    repl.enter("/seed 8", r"\nseed 8\n")
    repl.enter("/temp 0.5", r"\ntemp 0.5\n")
    repl.enter("A", rf"\n{text('A', 8, temperature=0.5, top_p=0.95)}\n?{line(8)}")
    repl.enter("/topk 2", r"\ntopk 2\n")
    repl.enter("A", rf"\n{text('A', 8, temperature=0.5, top_p=0.95, top_k=2)}\n?{line(8)}")
    repl.enter("/sampling top_k", r"\nsampling top_k\n")
    repl.enter("A", rf"\n{text('A', 8, top_k=40)}\n?{line(8)}")
    repl.enter("/sampling entropy", r"\nsampling entropy\n")
    repl.enter("/temp 0.5", r"\ntemp 0.5\ntemp has no effect now: the entropy rule sets")
    repl.enter("/entropy 1.5", r"\nentropy 1.5\n")
    repl.enter("/rule exact", r"\nrule exact\n")
    repl.enter("/bounds 0.5 1.5", r"\nbounds 0.5 1.5\n")
    repl.enter("/topp 0.8", r"\ntopp 0.8\n")
    repl.enter("/minp 0.01", r"\nminp 0.01\n")
    controls = {"target_entropy": 1.5, "min_temp": 0.5, "max_temp": 1.5, "top_p": 0.8, "min_p": 0.01}
    repl.enter("A", rf"\n{text('A', 8, **controls)}\n?{line(8)}")
    repl.enter("/mirostat 2", r"\nmirostat 2\n(.* has no effect now: mirostat replaces the filters.*\n.*\n?){2}")
    repl.enter("A", rf"\n{text('A', 8, target_entropy=1.5, min_temp=0.5, max_temp=1.5, mirostat=2)}\n?{line(8)}")
    repl.enter("/escapes", r"\nescapes on\n")
    repl.enter("/unknown skip", r"\nunknown skip\n")
    repl.enter("A\\nB", r"\nA\nB")
    saved = tmp_path / "text.txt"
    repl.enter(f"/save {saved}", r"\nsaved to ")
    assert saved.read_text(encoding="utf-8").startswith("A\nB")
    repl.enter(f"/save {saved}", r"already\s+exists")
    repl.enter(f"/save {tmp_path}", r"is\s+a\s+folder")
    repl.enter("/model nowhere", rf"(?s)no model named 'nowhere'.*it is still\s+{NANO}\n")
    repl.enter("/heat", r"\nsurprise in bits: .*\nheat on\n")
    repl.enter("/config", r"\n/model +shakespeare-nano\n/len +25\n.*\n/heat +on\n")
    repl.enter("/model shakespeare-small", r"\nmodel shakespeare-small\n")
    repl.enter("/seed random", r"\nseed random\n")
    repl.enter("B", r"\nB.*\n25 characters, .* seed \d+\n")
    assert "48;5;" in repl.raw
    repl.enter("/help", r"\n  /quit ")
    repl.type("/quit\r")
    assert repl.exit_code() == 0


@pytest.mark.parametrize(("columns", "term"), [(80, "xterm"), (40, "xterm"), (40, "dumb")])
def test_picking(terminal: Open, columns: int, term: str) -> None:
    repl = terminal("--seed", "3", columns=columns, TERM=term)
    offer = r"(?s)\n    bits  next {} \(few bits: likely\)\n 1 .*?\n 2 .*?1-2 or your own words; .*done\npick> ?$"

    def pick(line: str, unit: str = "word") -> str:
        repl.type(line + "\r")
        shown = repl.see(offer.format(unit)).partition("\n")[2].removesuffix("pick> ")
        assert max(map(len, shown.split("\n"))) <= columns
        return shown

    first = pick("/pick 2 word ROMEO:")
    assert first.startswith("ROMEO:\n")
    pick("1")
    pick("/pick line", "line")
    assert "my own line\n" in pick("my own line", "line")
    assert "my own line\n" not in pick("/undo", "line")
    repl.type("half a li" + CTRL_C)
    repl.see(rf"1 choice, seed 3{PROMPT}")
    pick("/pick 2 word ROMEO:")
    repl.type(CTRL_D)
    assert repl.exit_code() == 0
    assert STEERING.sub("", repl.raw).rstrip().endswith("ROMEO:\n0 characters, 0 choices, seed 3")


def test_only_quit_and_ctrl_d_end_the_session(terminal: Open) -> None:
    repl = terminal()
    for line in ("/len", "/len -1", "/len 1" + "0" * 400, "/temp x", "/bounds 1", "/quit now", "/nonsense", "/",
                 "caf\u00e9", "/model nowhere", "/save /", "/again", "\udcff", "quit", "exit", ":q"):  # fmt: skip
        repl.enter(line, r"\n\S")
    assert "Traceback" not in repl.raw
    repl.type(CTRL_C)
    repl.see(PROMPT)
    repl.type(CTRL_D)
    assert repl.exit_code() == 0


def test_ctrl_c_clears_the_line_and_stops_a_text(terminal: Open) -> None:
    repl = terminal()
    repl.type("half a line" + CTRL_C)
    repl.see(rf"half a line *{PROMPT}")
    repl.enter("/len 100000000", r"\nlen 100000000\n")
    repl.type("ROMEO:\r")
    repl.see(r"\nROMEO:[\s\S]{200}")
    repl.type(CTRL_C)
    shown = repl.see(rf"seed \d+, stopped after [\d,]+ characters{PROMPT}")
    assert "Generation Stats" in shown
    repl.enter("/len 0", r"\nlen 0\n")
    repl.enter("A", r"\nA\n")


def test_lines_are_recalled_in_the_next_session(terminal: Open, tmp_path: Path) -> None:
    variable = "HOME" if sys.platform == "darwin" else "XDG_STATE_HOME"
    for pressed in (0, 2):
        repl = terminal("--backend", "numpy", **{variable: str(tmp_path), "KNOCK_CACHE_DIR": str(tmp_path / "cache")})
        repl.enter("/len 0", r"\nlen 0\n")
        repl.enter(UP * pressed or "First words", r"\nFirst words\n")
        repl.type(CTRL_D)
        assert repl.exit_code() == 0


def test_completion_by_tab(terminal: Open) -> None:
    repl = terminal()
    repl.type("/sampling e" + TAB)
    repl.see("/sampling entropy")
    repl.enter("", r"\nsampling entropy\n")


def test_pasted_lines_form_one_prompt(terminal: Open) -> None:
    repl = terminal()
    repl.enter("/len 0", r"\nlen 0\n")
    repl.type("\x1b[200~First Citizen:\r\nSpeak, speak.\x1b[201~")
    repl.see("Speak, speak.")
    shown = repl.enter("", r"\nFirst Citizen:\nSpeak, speak\.\n")
    assert shown.count("seed ") == 1


def test_pasted_text_cannot_control_the_terminal(terminal: Open) -> None:
    repl = terminal()
    before = len(repl.raw)
    repl.type("\x1b[200~pink \x1b[35m bell \x07 \x9b35m\x1b[201~\r")
    repl.see(r"unknown\s+character\s+'\\x1b'")
    for steering in ("\x1b[35m", "\x07", "\x9b"):
        assert steering not in repl.raw[before:]


def test_twenty_columns(terminal: Open) -> None:
    repl = terminal(columns=20)
    repl.enter("/len 60", r"\nlen 60\n")
    repl.enter("/heat", r"\nheat on\n")
    before = len(repl.raw)
    shown = repl.enter("KING", r"Mean entropy:\s.*seed \d+\n")
    assert "│" not in shown
    text = STEERING.sub("", repl.raw[before:]).split("KING", 2)[2].split("Mean entropy")[0]
    assert max(map(len, ("KING" + text).splitlines())) <= 20
    assert len(text.replace("\n", "")) == 60


@pytest.mark.parametrize("columns", [80, 40, 30])
def test_no_line_is_wider_than_the_terminal_and_words_stay_whole(terminal: Open, columns: int) -> None:
    repl = terminal(columns=columns)
    said = {}
    for line in ("/help", "/config", "/sampling entropy", "/mirostat 2", "/config", "/temprature", "/temp x", "quit",
                 "help", "/temp 0", "/sampling basic", "/temp 0", "", "/stats", "/len 10", "A", "/heat",
                 "/sampling nucleus", "/save nowhere/x", "/save /"):  # fmt: skip
        said[line] = repl.enter(line, r"\n").partition("\n")[2].removesuffix(">")
        assert max(map(len, said[line].split("\n"))) <= columns, line
    words = {word for name, each in COMMANDS.items() for word in (name, *each.arguments, *each.summary.split())}
    assert words <= set(said["/help"].split())
    for each in repl.enter("caf\u00e9", r"\nerror: ").partition("\n")[2].split("\n"):
        assert len(each) <= columns or len(each.split()) == 1  # a word that fits nowhere has a line of its own
    name = "x" * 90
    assert f"\n  '{name}':\n" in repl.enter(f"/model {name}", r"\nerror: ")


def test_styles(terminal: Open) -> None:
    repl = terminal()
    repl.enter("/len 5", r"\nlen 5\n")
    repl.enter("/stats", r"\nstats off\n")
    repl.enter("ROMEO:", r"seed \d+\n")
    assert "\x1b[1mROMEO:\x1b[0m" in repl.raw
    assert re.search(r"\x1b\[2m5 characters, \d\.\d\d bits, seed \d+\x1b\[0m", repl.raw)
    repl.enter("/temp x", r"\nerror: /temp: temperature must be")
    assert "\x1b[31merror:\x1b[0m /temp: " in repl.raw
    repl.enter("/heat", r"\nheat on\n")
    before = len(repl.raw)
    repl.enter("KING", r"seed \d+\n")
    assert re.search(r"\x1b\[1mK", repl.raw[before:])


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours(terminal: Open, variables: dict[str, str]) -> None:
    repl = terminal(**variables)
    repl.enter("/len 30", r"\nlen 30\n")
    repl.enter("/heat", r"\neach text is repeated.*\nheat on\n")
    before = len(repl.raw)
    repl.enter("KING", r"\nKING[\s\S]*\n[0-9]+\n[\s\S]*seed \d+\n")
    repl.enter("/stats", r"\nstats off\n")
    repl.enter("ROMEO:", r"\nROMEO:[\s\S]*bits, seed \d+\n")
    repl.enter("/temp x", r"\nerror: /temp: ")
    assert "48;" not in repl.raw[before:]
    for style in (r"\x1b\[1mROMEO", r"\x1b\[2m30 characters", r"\x1b\[31m"):
        assert not re.search(style, repl.raw[before:])
    if "TERM" in variables:
        assert "\x1b" not in repl.raw
        repl.type("half a line" + CTRL_C)
        repl.see(PROMPT)
    repl.type(CTRL_D)
    assert repl.exit_code() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("where", ["at the prompt", "in a text", "at a plain prompt"])
def test_signal_ends_the_session_and_restores_the_terminal(terminal: Open, where: str, number: int, code: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the signal is ignored, as under nohup, which knock respects")
    outer, side = pty.openpty()
    before = termios.tcgetattr(outer)[:4]
    os.close(outer)
    os.close(side)
    session = terminal(**({"TERM": "dumb"} if where == "at a plain prompt" else {}))
    if where == "in a text":
        session.enter("/len 100000000", "len 100000000")
        session.type("A\r")
        session.see(r"A[^>]{20}")
    time.sleep(0.3)
    session.signal(number)
    assert session.exit_code() == code
    assert session.modes == before
