"""Tests of `/pick`: what is offered, what is chosen, written, taken back and refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from knock import LanguageModel, Vocab
from knock.cli.repl.candidates import UNITS, draw, joint
from knock.cli.repl.commands import CommandError, handle
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.errors import SamplingError
from tests.cases import save_items
from tests.cli.repl.script import NANO, Script

OFFER = re.compile(r"^ *(\d+) +(\d+\.\d)  (.*)$", re.MULTILINE)
BEFORE = "ROMEO:\nWhat"
ENDED = "ROMEO:\nWhat light through yonder window is the king"


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of items with several words."""
    return save_items(tmp_path_factory.mktemp("items"), "ab \n")


class Writer:
    """A session in which a text is picked; returns what is written to each stream."""

    def __init__(self, model: str | Path, capsys: pytest.CaptureFixture[str], **settings: object) -> None:
        self.session = Session(str(model), Settings(seed=5, stats=False, **settings))  # type: ignore[arg-type]
        self._capsys = capsys

    def __call__(self, *lines: str) -> tuple[str, str]:
        self._capsys.readouterr()
        for line in lines:
            handle(self.session, line)
        captured = self._capsys.readouterr()
        return captured.out, captured.err

    def offered(self, *lines: str) -> list[str]:
        """Return the candidates that are shown last."""
        _, err = self(*lines)
        return [text for _, _, text in OFFER.findall(err.rpartition("  bits  ")[2])]

    @property
    def text(self) -> str:
        last = self.session.last
        return "" if last is None else last.prompt + last.text


@pytest.fixture
def writer(capsys: pytest.CaptureFixture[str]) -> Writer:
    return Writer(NANO, capsys)


def words(text: str) -> str:
    found = re.match(r"\s*\S+", text)
    return found[0] if found else text


def lines(text: str) -> str:
    found = re.match(r"\n*[^\n]+", text)
    return found[0] if found else text


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("step", [0, 3])
def test_candidates_are_the_first_different_pieces_of_what_the_library_draws(
    nano: LanguageModel, unit: str, step: int
) -> None:
    settings = Settings(temperature=1.1)
    drawn = draw(nano, settings, unit, "ROMEO:", "\nWhat", 9, step, count=6)
    texts = nano.sample_iter(
        [BEFORE] * 60, settings.controls(), seed=9, first=1000 * step, max_new_tokens=200, token_stats=True
    )
    expected: dict[str, float] = {}
    for text in texts:
        assert text.token_stats is not None
        piece = {"word": words, "line": lines}[unit](text.text)
        expected.setdefault(piece, float(text.token_stats.surprise[: len(piece)].sum()))
    assert len(drawn.candidates) == 6
    assert {each.text for each in drawn.candidates} == set(list(expected)[:6])
    assert all(each.bits == pytest.approx(expected[each.text]) for each in drawn.candidates)
    assert [each.bits for each in drawn.candidates] == sorted(each.bits for each in drawn.candidates)
    assert all(each.is_whole for each in drawn.candidates)


def test_others_are_different_and_follow_in_the_order_of_the_draws(nano: LanguageModel) -> None:
    def draw_(count: int, **more: object) -> set[str]:
        found = draw(nano, Settings(), "word", BEFORE, "", 2, 0, count=count, **more)  # type: ignore[arg-type]
        return {each.text for each in found.candidates}

    first = draw(nano, Settings(), "word", BEFORE, "", 2, 0, count=4)
    others = draw_(4, first=first.next_draw, known=first.candidates)
    assert others.isdisjoint(each.text for each in first.candidates)
    assert others | {each.text for each in first.candidates} == draw_(8)


@pytest.mark.parametrize(("unit", "begins"), [("word", r"\s"), ("line", r"\n")])
def test_what_has_ended_is_not_lengthened(nano: LanguageModel, unit: str, begins: str) -> None:
    found = draw(nano, Settings(temperature=1.2), unit, ENDED, "", 2, 1, count=8, ended=unit)
    assert len(found.candidates) == 8
    assert all(re.match(begins, each.text) for each in found.candidates)
    free = draw(nano, Settings(temperature=1.2), unit, ENDED, "", 2, 1, count=8)
    assert not all(re.match(begins, each.text) for each in free.candidates)


def test_a_banned_string_does_not_arise_between_pieces(nano: LanguageModel) -> None:
    settings = Settings(temperature=1.2)
    free = {each.text for each in draw(nano, settings, "word", "", "the ", 2, 0, count=20).candidates}
    banned = {f"he {text[0]}" for text in free if text.startswith(("s", "c"))}
    assert banned
    found = draw(nano, replace(settings, ban=tuple(banned)), "word", "", "the ", 2, 0, count=20)
    assert not any(text in f"the {each.text}" for text in banned for each in found.candidates)
    in_prompt = draw(nano, replace(settings, ban=tuple(banned)), "word", "the ", "", 2, 0, count=20)
    assert any(text in f"the {each.text}" for text in banned for each in in_prompt.candidates)


@pytest.mark.parametrize(
    ("text", "addition", "unit", "expected"),
    [
        ("my", "sword", "word", " "), ("my ", "sword", "word", ""), ("", "sword", "word", ""), ("my", ",", "word", ""),
        ("my", " sword", "word", ""), ("my", "'s", "word", ""), ("my", "\nsword", "word", ""), ("my", "8", "word", " "),
        ("To be", "or not", "line", "\n"), ("To be\n", "or not", "line", ""), ("To be", " or not", "line", ""),
        ("To be", "'Tis", "line", "\n"), ("", "To be", "line", ""),
    ],
)  # fmt: skip
def test_own_words_are_joined_to_the_text(text: str, addition: str, unit: str, expected: str) -> None:
    assert joint(text, addition, unit, Vocab("a \n")) == expected
    assert joint(text, addition, unit, Vocab("a")) == ""


def test_choices_are_appended_and_the_text_goes_to_standard_output(script: Script) -> None:
    def run(*choices: str, seed: int = 7) -> tuple[int, str, str]:
        return script(f"/seed {seed}", "/pick 4 word ROMEO:", *choices)

    code, out, err = run("2", "1", "", "3")
    assert code == 0
    offers = OFFER.findall(err)
    assert len(offers) == 4 * 5
    shown = [offers[1], offers[4], offers[8 + 4 + 2]]
    chosen = "".join(text if "↵" in text else f" {text}" for *_, text in shown).replace("↵", "\n")
    assert out == f"ROMEO:{chosen}\n"
    assert f"{len(out) - 7} characters, 3 choices, seed 7\n" in err
    assert run("2", "1", "", "3") == (code, out, err)
    assert run("2", "1", "", "3", seed=8)[2] != err


def test_undo_offers_what_was_offered_before(writer: Writer) -> None:
    first = writer.offered("/pick 3 word ROMEO:")
    second = writer.offered("1")
    assert writer.offered("", "2", "/undo") == second
    assert writer.offered("/undo") == first
    with pytest.raises(CommandError, match=r"/undo: nothing has been chosen yet; /pick off ends the text"):
        writer("/undo")
    assert writer.offered("1") == second


def test_own_words_and_unknown_characters(writer: Writer) -> None:
    writer("/pick", "ROMEO:", "/pick line", "What light")
    assert writer.text == "ROMEO:\nWhat light"
    with pytest.raises(Exception, match=r"unknown character '€' .*/unknown skip or /unknown replace"):
        writer("w€")
    assert writer.text == "ROMEO:\nWhat light"
    writer("/unknown skip", "/pick word", "is€ this", " 5", "/undo", "/escapes", "\\nBut")
    assert writer.text == "ROMEO:\nWhat light is this\nBut"


def test_numbers_without_a_candidate_are_refused(script: Script) -> None:
    code, out, err = script("/seed 1", "/pick 3 word A", "4", "0", "9" * 500, "1")
    assert code == 1
    messages = [line for line in err.splitlines() if line.startswith("knock: line ")]
    assert len(messages) == 3
    assert messages[0] == (
        "knock: line 3: there is no candidate '4'; enter a number from 1 to 3, or an empty line for others"
    )
    assert max(map(len, messages)) < 200
    assert out.startswith("A")
    assert "1 choice, seed 1" in err


def test_the_last_text_goes_on(writer: Writer) -> None:
    writer("/len 20", "ROMEO:")
    before = writer.text
    choice = writer.offered("/pick 2")[0]
    out, _ = writer("1", "/pick off")
    assert out.removesuffix("\n") == writer.text
    assert writer.text.startswith(before)
    assert writer.text[len(before) :].replace("\n", "↵").strip() == choice.removeprefix("…")
    with pytest.raises(CommandError, match="/undo: no text is being written; /pick 5 begins one"):
        writer("/undo")


@pytest.mark.parametrize("end", ["/pick off", "/again", f"/model {NANO}", "/pick 3 word KING", "/pick 2 line A"])
def test_what_ends_a_text_writes_it(writer: Writer, end: str) -> None:
    writer("/len 0", "/pick 3 word ROMEO:", "1")
    text = writer.text
    out, err = writer(end)
    assert out.startswith(f"{text}\n")
    assert "1 choice, seed 5" in err
    assert (writer.session.picking is None) == (not end.startswith("/pick") or end == "/pick off")


def test_a_text_without_characters_is_not_written(writer: Writer) -> None:
    assert writer("/pick", "/pick off")[0] == ""
    assert writer("/pick 3 word A", "/pick off")[0] == "A\n"


def test_settings_count_at_once(writer: Writer, nano: LanguageModel) -> None:
    cold = writer.offered("/temp 0", "/pick 3 word ROMEO:")
    assert len(cold) == 1
    assert cold[0].replace("↵", "\n") == words(nano.generate("ROMEO:", max_new_tokens=24, temperature=0).text)
    assert "no others in 150 draws; /temp raises the temperature" in writer("/pick")[1]
    assert "no others were drawn" in writer("")[1]
    assert len(writer.offered("/temp 1")) == 3
    assert len(writer.offered("/pick 7")) == 7
    assert all("↵" in line for line in writer.offered("1", "/pick line", "1"))


def test_saved_text_is_that_so_far(writer: Writer, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    writer("/pick 3 word ROMEO:", "1", f"/save {path}", "2")
    saved = path.read_text(encoding="utf-8")
    assert len("ROMEO:") < len(saved) < len(writer.text)
    assert writer.text.startswith(saved)


@pytest.mark.parametrize("setting", ["/pattern [a-z ]+", "/maxlen 9"])
def test_constraints_on_a_whole_text_are_refused(writer: Writer, setting: str) -> None:
    writer(setting)
    with pytest.raises(CommandError, match="/pick: a text in pieces cannot be held to /pattern and /maxlen"):
        writer("/pick")
    assert writer.session.picking is None


def test_a_failed_choice_leaves_the_text(items: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer(items, capsys, pattern="a[ab ]*")
    assert all(text.startswith("a") for text in writer.offered("/pick 4"))
    before = writer.text
    with pytest.raises(SamplingError, match="no text that matches the constraints begins with this prompt"):
        writer("b")
    assert writer.text == before
    writer("aa")
    assert writer.text == "aa"


def test_an_item_ends_where_its_end_is_chosen(items: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer(items, capsys, temperature=1.0, top_p=1.0)
    offered = writer.offered("/pick 20")
    number = next(number for number, text in enumerate(offered, 1) if text.endswith("∎") and len(text) > 1)
    out, err = writer(str(number))
    assert out.removesuffix("\n") == writer.text
    assert "1 choice, seed 5" in err
    assert writer.session.picking is None
    finished = writer.text
    writer("/pick 3")  # a new item, not the end of the last one
    assert writer.session.picking is not None
    assert writer.session.picking.text == ""
    assert writer.text == finished


def test_on_a_terminal_words_that_mean_a_command_get_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(NANO, Settings(seed=5), is_terminal=True)
    handle(session, "/pick 3 word ROMEO:")
    meanings = {"more": "an empty line shows other candidates", "done": "/pick off ends the text",
                "quit": "/quit or Ctrl-D ends the session", "undo": "/undo takes the last choice back"}  # fmt: skip
    for word, meant in meanings.items():
        capsys.readouterr()
        handle(session, word)
        assert capsys.readouterr().err == f"{meant}; enter {word} again to write it\n"
    handle(session, "undo")
    assert session.last is not None
    assert session.last.text == " undo"


def test_heat_colours_only_what_was_chosen(script: Script) -> None:
    _, out, err = script("/seed 2", "/heat on", "/pick 3 word ROMEO:", "1", "sword", "/pick off")
    digits = err.splitlines()[-2]
    chosen = out.removeprefix("ROMEO:").removesuffix(" sword\n")
    assert re.fullmatch(r"[0-9]+", digits)
    assert len(digits) <= len(chosen)
