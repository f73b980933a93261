"""Tests of what the REPL writes beside its texts: statistics, heat maps, notices."""

from __future__ import annotations

import io
import re

import pytest

from knock import LanguageModel
from knock.cli.repl.commands import handle
from knock.cli.repl.page import Page
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from tests.cli.repl.script import BALANCED, NANO, Script


@pytest.mark.parametrize(
    ("length", "expected"), [(0, "0 characters, seed 5"), (1, "1 character, {:.2f} bits, seed 5"),
                             (2000, "2,000 characters, {:.2f} bits, seed 5")],
)  # fmt: skip
def test_a_line_replaces_the_box_of_statistics_on_a_terminal(
    nano: LanguageModel, capsys: pytest.CaptureFixture[str], length: int, expected: str
) -> None:
    session = Session(NANO, Settings(length=length, seed=5, stats=False), is_terminal=True)
    handle(session, "A")
    bits = nano.generate("A", sampling=BALANCED, max_new_tokens=length, seed=5).stats["mean_surprise"]
    assert capsys.readouterr().err == expected.format(bits) + "\n"


def test_quiet_leaves_errors_and_what_was_asked_for(script: Script) -> None:
    code, _, err = script("/len 5", "A", "/nonsense", options=("--model", NANO, "--quiet"))
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("knock: line 3: unknown command")
    _, _, err = script("/config", "/help", "/stats", "A", options=("--model", NANO, "--quiet"))
    for wanted in ("/len       300", "vocabulary", "Each line is a prompt", "/quit  ", "Mean entropy"):
        assert wanted in err
    assert "seed " not in err.split("Mean entropy")[1]


def test_statistics_are_shown_on_request(script: Script) -> None:
    assert "Mean entropy" not in script("/len 10", "A")[2]
    assert "Mean entropy" in script("/len 10", "/stats", "A")[2]
    assert "No characters were generated." in script("/len 0", "/stats", "A")[2]
    assert "Mean entropy" not in script("/stats", "/stats", "A")[2]
    assert "Mean entropy" in script("/len 10", "/stats on", "/stats on", "A")[2]


def test_heat_in_a_script_does_not_change_the_text(script: Script, nano: LanguageModel) -> None:
    _, out, err = script("/len 50", "/seed 3", "/heat", "ROMEO:")
    whole = nano.generate("ROMEO:", sampling=BALANCED, max_new_tokens=50, seed=3, token_stats=True)
    assert out.removesuffix("\n") == ("ROMEO:" + whole.text).removesuffix("\n")
    assert whole.token_stats is not None
    lines = err.split("heat on\n")[1].splitlines()[:-1]  # without the line with the seed
    assert "".join(lines[::2]) == whole.text.replace("\n", "↵")
    assert "".join(lines[1::2]) == "".join(str(min(9, int(bits))) for bits in whole.token_stats.surprise)


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.mark.parametrize("width", [8, 20, 80])
def test_coloured_lines_wrap_at_the_width(width: int) -> None:
    from rich.console import Console

    from knock.cli.repl.heat_page import ColourPage

    file = io.StringIO()
    page = ColourPage(Console(file=file, width=width, force_terminal=True, color_system="truecolor", no_color=False))
    text = "a text of several words\n\nand 日本語 \x1b[31m"
    page.begin("PROMPT\nmore ")
    for start in range(0, len(text), 7):
        piece = text[start : start + 7]
        page.write(piece, [9.0] * len(piece))
    page.end()
    shown = ESCAPES.sub("", file.getvalue())
    assert shown.replace("\n", "").endswith(text.replace("\n", "↵").replace("\x1b", "^["))
    assert shown.startswith("PROMPT\nmore ")
    from rich.cells import cell_len

    assert max(map(cell_len, shown.split("\n"))) <= width
    # Rich caches the escape codes of a style, so its colours may have been rendered in another colour system before.
    assert re.search(r"\x1b\[38;(2;0;0;0;48;2;249;125;22|5;\d+;48;5;\d+)m", file.getvalue())


def test_text_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Page(is_terminal=True).write("a\x1b[31m\tb\nc\x07")
    Page(is_terminal=False).write("a\x1b")
    assert capsys.readouterr().out == "a^[[31m\tb\nc^G" + "a\x1b"
