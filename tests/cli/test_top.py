"""Tests of `knock top`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from knock import LanguageModel, Vocab
from knock.cli.main import main
from knock.gpt import ReweightGPT
from knock.language_model import load

NANO = "shakespeare-nano"


@pytest.fixture(scope="module")
def nano() -> LanguageModel:
    return load(NANO)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of items."""
    path = tmp_path_factory.mktemp("top") / "items.safetensors"
    vocab = Vocab("\nab c", boundary=True)
    gpt = ReweightGPT(vocab.vocab_size, T=8, n_emb=16, nodes=16, n_blocks=2, n_heads=2, seed=3)
    LanguageModel(gpt, vocab).save(path)
    return path


class Command:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = main(["top", *arguments])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def top(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_the_table_has_the_likeliest_texts(top: Command, nano: LanguageModel) -> None:
    code, out, err = top("-m", NANO, "KING ", "--pattern", "[A-Z ]+:", "-n", "4")
    expected = nano.most_likely(4, "KING ", pattern="[A-Z ]+:")
    assert (code, err) == (0, "")
    head, *rows = out.splitlines()
    assert head.split() == ["probability", "bits", "text"]
    assert len(rows) == 4
    for row, text in zip(rows, expected, strict=True):
        percent, bits, written = row.split(maxsplit=2)
        assert float(percent.removesuffix("%")) == pytest.approx(100 * text.probability, abs=1e-3)
        assert float(bits) == pytest.approx(text.bits, abs=0.01)
        assert written == text.text


def test_json_has_the_same_texts_with_all_digits(top: Command, nano: LanguageModel) -> None:
    code, out, _ = top("-m", NANO, "--stop", r"\n", "--min-length", "3", "--ban", "ING", "--keep-stop", "--json",
                       "--count", "6", "--length", "20")  # fmt: skip
    expected = nano.most_likely(6, stop="\n", min_length=3, ban="ING", keep_stop=True, max_new_tokens=20)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(row["text"], row["log_prob"]) for row in rows] == list(expected)
    assert all(row["text"].endswith("\n") for row in rows)
    for row in rows:
        assert row["is_proved"] is True
        assert row["bits"] == pytest.approx(-row["log_prob"] / math.log(2))
        assert row["probability"] == pytest.approx(math.exp(row["log_prob"]))


def test_items_are_whole_and_begin_with_the_prompt(top: Command, items: Path) -> None:
    _, out, _ = top("-m", str(items), "-e", r"a\n", "--json", "-n", "5", "--length", "6")
    texts = [json.loads(line)["text"] for line in out.splitlines()]
    assert texts == [text for text, _ in load(items).most_likely(5, "a\n", max_new_tokens=6)]
    assert all(text.startswith("a\n") for text in texts)
    _, out, _ = top("-m", str(items), "-e", r"a\n", "-n", "5", "--length", "6")
    assert [line.split(maxsplit=2)[2] for line in out.splitlines()[1:]] == [text.replace("\n", r"\n") for text in texts]


def test_what_is_missing_is_said(top: Command, items: Path) -> None:
    code, out, err = top("-m", str(items), "--pattern", "a|b", "-n", "5")
    assert (code, out.count("\n"), err) == (0, 3, "there are no others: 2 texts in all\n")
    code, out, err = top("-m", str(items), "-n", "50", "--limit", "30", "--length", "9", "--json")
    proved = [json.loads(line)["is_proved"] for line in out.splitlines()]
    assert code == 0
    assert proved == sorted(proved, reverse=True)
    assert 1 < sum(proved) < len(proved)
    assert f"stopped after 30 beginnings: only the first {sum(proved)} are proved to be the most probable" in err
    code, out, err = top("-m", NANO, "--stop", r"\n", "--min-length", "60", "--limit", "20")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "stopped after 20 beginnings: no whole text was found; raise --limit" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing says where a text ends; give a stop string"),
        (("--pattern", "("), "not a regular expression"),
        (("--pattern", "[a-z]+"), "nothing says where a text ends"),
        (("--pattern", "é"), "it does not know 'é'"),
        (("--count", "0"), "argument -n/--count: must be a whole number of at least 1"),
        (("--limit", "0"), "argument --limit: must be a whole number of at least 1"),
        (("--exact",), "unknown option '--exact'"),
        (("--temperature", "1"), "unknown option '--temperature'"),
    ],
)
def test_bad_options_are_usage_errors(top: Command, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = top("-m", NANO, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_progress_is_shown_on_a_terminal(top: Command, items: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knock.cli.ui.progress.is_live", lambda: True)
    monkeypatch.setattr("knock.cli.ui.progress._PATIENCE", 0)
    err = top("-m", str(items), "-n", "1000", "--limit", "600", "--length", "9")[2]
    assert "\rlooked at 256 beginnings\rlooked at 512 beginnings\r" in err


def test_an_unknown_character_is_an_error_with_a_hint(top: Command) -> None:
    code, out, err = top("-m", NANO, r"a\n", "--max-length", "2")
    assert (code, out) == (1, "")
    assert "If it begins an escape such as \\n, pass --escapes" in err
    assert top("-m", NANO, "\u00e9a", "--max-length", "2", "--unknown", "skip")[0] == 0
