"""Tests of the settings of the REPL: what commands make of them, and what has no effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import LanguageModel
from knock.cli.repl.commands import COMMANDS, handle
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.cli.ui.shape import sizes
from knock.errors import KnockError, SamplingError
from knock.sampling import PRESETS, Sampling
from tests.cli.repl.script import NANO, Script


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
    assert facts["shape"] == sizes(nano.model.config)
