"""Tests of the REPL on standard input, and of its parts: commands, settings, pages, history, completion."""

from __future__ import annotations

import io
import math
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import LanguageModel, Vocab
from knock.choices import UNKNOWN
from knock.cli.main import COMMANDS as PROGRAM
from knock.cli.main import main
from knock.cli.repl.commands import COMMANDS, Quit, handle
from knock.cli.repl.page import Page
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.errors import KnockError, SamplingError
from knock.files.checkpoint import write_checkpoint
from knock.language_model import load
from knock.models import shipped
from knock.sampling import PRESETS, Sampling
from tests.cases import SMALL, random_weights

NANO = "shakespeare-nano"
COMMAND = [sys.executable, "-m", "knock", "repl", "--model", NANO]
CHARACTERS = "\n /abcdAB\x1bé"
BALANCED = "balanced"


@pytest.fixture(scope="module")
def nano() -> LanguageModel:
    return load(NANO)


@pytest.fixture
def session() -> Session:
    return Session(NANO, Settings(length=20, stats=False))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Save a model whose vocabulary includes a slash and an escape character."""
    path = tmp_path / "odd.safetensors"
    write_checkpoint(path, random_weights(SMALL["hybrid-relative"], 0), Vocab(CHARACTERS))
    return path


class Script:
    """Runs `knock repl` in this process on the given lines."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *lines: str | bytes, options: tuple[str, ...] = ("--model", NANO)) -> tuple[int, str, str]:
        content = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
        code = main(["repl", *options])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(capsys, monkeypatch)


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


@pytest.mark.parametrize(
    ("lines", "controls"),
    [
        ([], {"temperature": 0.8, "top_p": 0.95}),
        (["/temp 0.5"], {"temperature": 0.5, "top_p": 0.95}),
        (["/temp 0"], {"temperature": 0}),
        (["/sampling basic"], {}),
        (["/sampling top_k"], {"top_k": 40}),
        (["/sampling top_k", "/topk 3", "/temp 2"], {"top_k": 3, "temperature": 2}),
        (["/topk 3", "/topp 0.2"], {"temperature": 0.8, "top_k": 3, "top_p": 0.2}),
        (["/topp 0.4", "/sampling top_p"], {"top_p": 0.9}),
        (["/minp 0.3"], {"temperature": 0.8, "top_p": 0.95, "min_p": 0.3}),
        (["/topk 3", "/mirostat 3", "/sampling balanced"], {"temperature": 0.8, "top_p": 0.95}),
        (["/entropy 2"], {"target_entropy": 2, "top_p": 0.95}),
        (["/temp 0.2", "/entropy 2", "/rule ratio"], {"target_entropy": 2, "entropy_rule": "ratio", "top_p": 0.95}),
        (["/temp 0.2", "/entropy 2", "/entropy off"], {"temperature": 0.2, "top_p": 0.95}),
        (["/sampling entropy", "/entropy 3", "/rule exact", "/bounds 0.9 1.1", "/topp 0.9", "/minp 0.1"],
         {"target_entropy": 3, "min_temp": 0.9, "max_temp": 1.1, "min_p": 0.1, "top_p": 0.9}),
        (["/mirostat 3"], {"temperature": 0.8, "mirostat": 3}),
        (["/sampling top_k", "/minp 0.5", "/mirostat 3"], {"mirostat": 3}),
        (["/entropy 2", "/mirostat 3"], {"target_entropy": 2, "mirostat": 3}),
        (["/mirostat 3", "/mirostat off"], {"temperature": 0.8, "top_p": 0.95}),
        (["/norepeat 5"], {"temperature": 0.8, "top_p": 0.95, "no_repeat_ngram": 5}),
        (["/dry 0.8", "/sampling basic", "/dry 2"], {"dry_multiplier": 2}),
        (["/pattern [A-Z]{3,30}[a-z: ]*", "/minlen 5", "/maxlen 9"],
         {"temperature": 0.8, "top_p": 0.95, "pattern": "[A-Z]{3,30}[a-z: ]*", "min_length": 5, "max_length": 9}),
        (['/ban e "th " \\n'], {"temperature": 0.8, "top_p": 0.95, "ban": ["e", "th ", "\n"]}),
        (["/ban a b", "/ban off", "/pattern [a-z]+", "/pattern off", "/maxlen 3", "/maxlen off"],
         {"temperature": 0.8, "top_p": 0.95}),
    ],
)  # fmt: skip
def test_commands_set_the_pipeline(
    script: Script, nano: LanguageModel, lines: list[str], controls: dict[str, Any]
) -> None:
    code, out, _ = script(*lines, "/len 40", "/seed 9", "KING")
    expected = "KING" + nano.generate("KING", max_new_tokens=40, seed=9, **controls).text
    assert (code, out.removesuffix("\n")) == (0, expected.removesuffix("\n"))


@pytest.mark.parametrize("name", PRESETS)
def test_sampling_sets_every_control_to_the_preset(session: Session, name: str) -> None:
    for line in ("/topk 7", "/minp 0.4", "/bounds 0.6 0.7", "/entropy 1", "/rule ratio", "/mirostat 2"):
        handle(session, line)
    assert session.settings.preset == "custom"
    handle(session, f"/sampling {name}")
    assert session.settings.controls() == Sampling.preset(name)
    assert session.settings.preset == name


def test_a_session_starts_with_the_default_preset_of_the_command_line() -> None:
    assert Settings().controls() == Sampling.preset("balanced")
    assert Settings().preset == "balanced"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["/entropy 2", "/temp 0.5"], "temp has no effect now: the entropy rule sets the temperature"),
        (["/temp 0.5", "/entropy 2"], "temp has no effect now: the entropy rule"),
        (["/rule ratio"], "rule has no effect now: the entropy rule is off"),
        (["/bounds 1 2"], "bounds has no effect now: the entropy rule is off"),
        (["/sampling top_k", "/mirostat 3"], "topk has no effect now: mirostat replaces the filters"),
        (["/mirostat 3", "/topk 5"], "topk has no effect now: mirostat replaces the filters"),
        (["/minp 0.1", "/mirostat 3"], "minp has no effect now: mirostat"),
        (["/mirostat 3", "/minp 0.1"], "minp has no effect now: mirostat"),
        (["/minp 0.1", "/temp 0"], "minp has no effect now: temperature 0"),
        (["/minlen 5"], "minlen has no effect now: texts of this model end only after /len characters"),
        (["/pattern [a-z ]+", "/minlen 5", "/pattern off"], "minlen has no effect now: texts of this model end only"),
        (["/maxlen 20"], "maxlen has no effect now: texts end after 20 characters; /len allows more"),
        (["/maxlen 15", "/len 10"], "maxlen has no effect now: texts end after 10 characters"),
    ],
)  # fmt: skip
def test_settings_without_effect_are_reported(
    session: Session, capsys: pytest.CaptureFixture[str], lines: list[str], said: str
) -> None:
    for line in lines[:-1]:
        handle(session, line)
    capsys.readouterr()
    handle(session, lines[-1])
    assert said in capsys.readouterr().err


def test_settings_with_effect_are_not_reported(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("/sampling top_k", "/topk 5", "/temp 0.5", "/minp 0.1", "/len 5", "/seed 1", "/temp 1",
                 "/topk 0", "/minp 0", "/mirostat 3", "/sampling basic", "/sampling entropy", "/norepeat 5", "/dry 1",
                 "/len 20", "/pattern [a-z ]+", "/minlen 5", "/maxlen 9", "/ban e"):  # fmt: skip
        handle(session, line)
    assert "no effect" not in capsys.readouterr().err


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


WORDS = st.one_of(
    st.sampled_from([*PRESETS, "on", "off", "random", "exact", "ratio", "skip"]),
    st.sampled_from(["0", "1", "2", "0.5", "-1", "nan", "1e400", "10" * 200, "\0", "é"]),
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=5),
)
HARMLESS = st.sampled_from([name for name in COMMANDS if name not in ("/again", "/save", "/model", "/quit")])


@given(st.lists(st.tuples(HARMLESS, st.lists(WORDS, max_size=3)), max_size=6))
def test_settings_stay_valid_after_any_commands(commands: list[tuple[str, list[str]]]) -> None:
    session = _session()
    for name, words in commands:
        before = session.settings
        try:
            handle(session, " ".join((name, *words)))
        except KnockError:
            assert session.settings == before
        assert replace(session.settings) == session.settings  # validates them again
    session.settings.controls()


_MADE: list[Session] = []


def _session() -> Session:
    """Return a session with default settings, whose model is loaded once for all examples."""
    if not _MADE:
        _MADE.append(Session(NANO, Settings()))
    _MADE[0].settings = Settings()
    return _MADE[0]


def test_settings_exclude_each_other() -> None:
    with pytest.raises(SamplingError, match="temperature above 0"):
        Settings(mirostat=2.0, temperature=0)
    assert Settings(mirostat=2.0, temperature=0, target_entropy=2.0).controls().mirostat == 2


def test_config_shows_every_setting_and_the_shape(script: Script, nano: LanguageModel) -> None:
    _, _, err = script("/len 7", "/seed 3", "/sampling entropy", "/bounds 0.5 1.5", "/config")
    facts = {line.split()[0]: " ".join(line.split()[1:]) for line in err.splitlines()}
    assert facts["/len"] == "7"
    assert facts["/seed"] == "3"
    assert facts["/bounds"] == "0.5 1.5"
    assert facts["/model"] == NANO
    assert facts["/sampling"] == "custom"  # other bounds than the preset's
    assert facts["/temp"].startswith("1 (no effect now: the entropy rule")
    assert facts["vocabulary"] == nano.vocab.describe(200)
    assert facts["parameters"] == f"{nano.model.weights.n_parameters:,}"
    assert facts["shape"].startswith(f"T={nano.model.config.T} n_emb={nano.model.config.n_emb} ")


def test_help_lists_every_command(script: Script) -> None:
    code, out, err = script("/help")
    assert (code, out) == (0, "")
    shown = " ".join(err.split())
    for name, command in COMMANDS.items():
        assert " ".join((name, *command.arguments, command.summary)) in shown
    assert max(map(len, err.splitlines())) <= 80


def test_quit_ignores_the_remaining_lines(script: Script) -> None:
    assert script("/len 5", "/quit", "ROMEO:") == (0, "", "len 5\n")


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


def test_ctrl_c_stops_the_text_and_keeps_the_output(
    session: Session, nano: LanguageModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def write(_: Page, text: str, __: object = None) -> None:
        written.append(text)
        if len(written) == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Page, "begin", write)
    monkeypatch.setattr(Page, "write", write)
    session.settings = Settings(length=1000, seed=1)
    with pytest.raises(KeyboardInterrupt):
        handle(session, "ROMEO:")
    assert len(written) == 4
    assert session.last is not None
    assert "ROMEO:" + session.last.text == "".join(written)
    whole = nano.generate("ROMEO:", sampling=BALANCED, max_new_tokens=1000, seed=1).text
    assert whole.startswith(session.last.text)
    err = capsys.readouterr().err
    assert f"seed 1, stopped after {len(session.last.text)} characters" in err
    assert "Mean entropy" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_a_script() -> None:
    running = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(b"/len 100000000\nROMEO:\n")
    running.stdin.flush()
    first = running.stdout.read(100)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(b"A\n", timeout=60)
    assert running.returncode == 130
    assert first.startswith(b"ROMEO:")
    assert re.fullmatch(rb"len 100000000\nseed \d+, stopped after [\d,]+ characters\n", err)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_streams_and_broken_pipe() -> None:
    def shell(redirection: str) -> subprocess.CompletedProcess[bytes]:
        line = f"printf '/len 40\\nA\\nB\\n' | '{sys.executable}' -m knock repl --model {NANO} {redirection}"
        return subprocess.run(line, shell=True, capture_output=True, check=False, timeout=60)

    assert shell("<&-").stderr == b"knock: error: cannot read standard input; provide one prompt or command per line\n"
    assert b"standard output is closed" in shell(">&-").stderr
    assert (shell("| true").returncode, shell("2>&-").returncode) == (0, 0)


def test_knock_without_a_terminal_lists_the_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main([]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for name in PROGRAM:
        assert name in err


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
    assert completed("/model shakespeare-n") == {f"/model {NANO}"}
    files = ("mine.safetensors", "older.npz", "folder")
    assert completed("/model ") == {f"/model {name}" for name in (*shipped(), *files)}
    assert completed("/save mi") == {"/save mine.safetensors", "/save mine.md"}
    for nothing in ("ROMEO", "", "ROMEO: /le", "/nonsense ", "/quit ", "/save \0/", "/model " + "x" * 9999):
        assert completed(nothing) == set()


def test_quit_raises(session: Session) -> None:
    with pytest.raises(Quit):
        handle(session, "/quit")
