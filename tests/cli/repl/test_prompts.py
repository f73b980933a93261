"""Tests of prompts in the REPL: seeds, slashes, escapes, unknown characters, words that look like commands."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from knock import LanguageModel
from knock.choices import UNKNOWN
from knock.cli.repl.commands import handle
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.sampling import Sampling
from tests.cli.repl.script import BALANCED, NANO, Script


def test_only_texts_go_to_standard_output_and_seeds_are_reported(script: Script, nano: LanguageModel) -> None:
    code, out, err = script("/len 30", "ROMEO:", "", "/again", "/again", "/seed 5", "To be", "", "/seed random", "")
    used = [int(line.removeprefix("seed ")) for line in err.splitlines() if re.fullmatch(r"seed \d+", line)]
    romeo, repeated, again, third, setting, to_be, same, fresh = used
    assert code == 0
    assert (again, third, setting, to_be, same) == (repeated + 1, repeated + 2, 5, 5, 5)
    texts = [("ROMEO:", romeo), ("ROMEO:", repeated), ("ROMEO:", again), ("ROMEO:", third), ("To be", 5), ("To be", 5),
             ("To be", fresh)]  # fmt: skip
    written = [nano.generate(prompt, sampling=BALANCED, max_new_tokens=30, seed=seed).text for prompt, seed in texts]
    expected = [prompt + text for (prompt, _), text in zip(texts, written, strict=True)]
    assert out == "".join(text if text.endswith("\n") else text + "\n" for text in expected)
    assert len({romeo, repeated, fresh}) == 3


def test_empty_line_before_any_prompt_starts_a_line(script: Script, nano: LanguageModel) -> None:
    _, out, _ = script("/len 30", "", options=("--model", NANO, "--seed", "1"))
    expected = nano.generate("", sampling=BALANCED, max_new_tokens=30, seed=1).text
    assert out.removesuffix("\n") == expected.removesuffix("\n")


def test_failed_lines_are_reported_and_skipped(script: Script, nano: LanguageModel) -> None:
    code, out, err = script(
        "/len 20", "caf\u00e9 \u2603", b"\xff", "/nonsense", "A\r", options=("--model", NANO, "--seed", "4")
    )
    assert code == 1
    assert out == "A" + nano.generate("A", sampling=BALANCED, max_new_tokens=20, seed=4).text.removesuffix("\n") + "\n"
    assert "line 2: unknown character '\u00e9' (U+00E9) at offset" in err
    assert "line 3: the line is not UTF-8 text: byte 0xff at offset 0" in err
    assert "line 4: unknown command '/nonsense'" in err


def test_two_slashes_start_a_prompt_with_one(script: Script, odd: Path) -> None:
    code, out, _ = script("/len 0", "//ab", "///", " /a", options=("--model", str(odd)))
    assert (code, out) == (0, "/ab\n//\n /a\n")


@pytest.mark.parametrize("is_on", [True, False])
def test_escapes_in_prompts(script: Script, is_on: bool) -> None:
    code, out, err = script("/len 0", *["/escapes"] * is_on, "a\\nb", "")
    if is_on:
        assert (code, out) == (0, "a\nb\na\nb\n")
    else:
        assert (code, out) == (1, "")
        assert "/escapes on makes \\n a newline" in err


@pytest.mark.parametrize("how", UNKNOWN)
def test_unknown_characters_in_prompts(script: Script, nano: LanguageModel, how: str) -> None:
    code, out, err = script("/len 30", "/seed 3", f"/unknown {how}", "caf\u00e9")
    if how == "error":
        assert (code, out) == (1, "")
        assert "unknown character '\u00e9' (U+00E9) at offset 3" in err
        assert f"the model knows {nano.vocab.vocab_size} characters: {''.join(nano.vocab.characters)!r}. " in err
        assert "/unknown skip or /unknown replace" in err
    else:
        text = nano.generate("caf\u00e9", sampling=BALANCED, max_new_tokens=30, seed=3, unknown=how).text
        assert (code, out.removesuffix("\n")) == (0, ("caf\u00e9" + text).removesuffix("\n"))


@pytest.mark.parametrize("word", ["quit", "exit", " q ", ":q", "help", "QUIT"])
def test_words_that_look_like_commands_are_hinted_at_once(
    nano: LanguageModel, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    session = Session(NANO, Settings(length=5, stats=False), is_terminal=True)
    handle(session, word)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"{'/help lists the commands' if word == 'help' else '/quit or Ctrl-D ends the session'}; "
        f"enter {word.strip()} again to use it as a prompt\n"
    )
    handle(session, "/len 6")
    handle(session, word)
    assert capsys.readouterr().out == ""
    handle(session, word)
    assert capsys.readouterr().out.startswith(word)


def test_words_that_look_like_commands_are_prompts_in_a_script(script: Script) -> None:
    assert script("/len 0", "quit", "help")[:2] == (0, "quit\nhelp\n")


@pytest.mark.parametrize(
    ("lines", "remedy"), [(["/temp 0"], "set /temp above 0"), (["/topk 1"], "set /topk to another value than 1")]
)
def test_greedy_sampling_from_an_empty_prompt(
    script: Script, capsys: pytest.CaptureFixture[str], lines: list[str], remedy: str
) -> None:
    code, out, err = script(*lines, "/len 50", "")
    assert (code, out) == (0, "\n" * 50)
    assert "greedy sampling from an empty prompt gives only blank lines" in err
    assert remedy in err
    session = Session(NANO, Settings(length=50, stats=False), is_terminal=True)
    for line in lines:
        handle(session, line)
    capsys.readouterr()
    handle(session, "")
    assert capsys.readouterr().out == ""
    handle(session, "A")
    assert capsys.readouterr().out.startswith("A")


def test_an_empty_prompt_has_no_notice_if_the_text_is_not_blank(nano: LanguageModel) -> None:
    from knock.cli.ui.greedy import blank_notice

    assert blank_notice(nano, "", Sampling(temperature=0)) is not None
    assert blank_notice(nano, "", Sampling(temperature=0, logit_bias={"\n": -math.inf})) is None
    assert blank_notice(nano, "", Sampling()) is None
    assert blank_notice(nano, "\n", Sampling(temperature=0)) is None
