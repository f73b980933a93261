"""Tests of the table and the JSON of `knock score`, and of its errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from knock import LanguageModel
from knock.cli.score import pieces
from knock.generation.scoring import Scorer
from tests.cli.score.texts import LONG, ROMEO, table
from tests.cli.test_main import run


def test_table_matches_the_library(capsys: pytest.CaptureFixture[str], text: Path, default: LanguageModel) -> None:
    code, out, err = run(capsys, "score", str(text))
    assert (code, err) == (0, "")
    head, row = table(out)
    assert head == ["model", "chars", "nats/char", "bits/char", "perplexity/char"]
    expected = default.score(ROMEO)
    assert row[:2] == ["shakespeare-small", str(len(ROMEO))]
    numbers = [expected.nats_per_char, expected.bits_per_char, expected.perplexity]
    assert [float(cell) for cell in row[2:]] == pytest.approx(numbers, abs=6e-5)


def test_several_models_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str]) -> None:
    path = tmp_path / "t.txt"
    path.write_text("badge jé\n", encoding="utf-8")
    arguments = ["score", str(path), "--model", models[0], "--model", models[1], "--unknown", "skip"]
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert [row[:2] for row in table(out)[1:]] == [[models[0], "7"], [models[1], "7"]]
    assert len({len(line) for line in out.splitlines()}) == 1
    assert err == (
        f"knock: skipped 2 characters that {models[0]!r} does not know: ' ' 1, 'é' 1\n"
        f"knock: skipped 2 characters that {models[1]!r} does not know: ' ' 1, 'j' 1\n"
    )
    rows = [json.loads(line) for line in run(capsys, *arguments, "--chars")[1].splitlines()]
    assert [(row["index"], row["char"], models.index(row["model"])) for row in rows] == [
        (index, char, model) for index, char in enumerate("badge jé\n") for model in (0, 1)
        if char != " " and (char, model) not in {("é", 0), ("j", 1)}
    ]  # fmt: skip
    for summary in map(json.loads, run(capsys, *arguments, "--json")[1].splitlines()):
        bits = [row["bits"] for row in rows if row["model"] == summary["model"]]
        assert summary["characters"] == len(bits) == 7
        assert summary["bits_per_char"] == pytest.approx(np.mean(bits), abs=1e-6)
        assert summary["perplexity"] == pytest.approx(2 ** summary["bits_per_char"])
        assert summary["unknown"] == 2
        assert len(summary["digest"]) == 64


def test_replaced_characters_are_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str]
) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abc" + "ABCDEFGHIJKLM" + "\x1b", encoding="utf-8")
    code, out, err = run(capsys, "score", str(path), "--model", models[0], "--unknown", "replace")
    assert code == 0
    assert table(out)[1][1] == "17"
    assert err.endswith("'I' 1, 'J' 1 and 4 more\n")
    path.write_text("abc\x1b", encoding="utf-8")
    _, _, err = run(capsys, "score", str(path), "--model", models[0], "--unknown", "replace")
    assert err == f"knock: replaced 1 character that {models[0]!r} does not know: '\\x1b' 1\n"


def test_a_long_text_is_scored_in_pieces(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(LONG[:-1] + "b", encoding="utf-8")
    arguments = ["score", str(path), "--model", models[0]]
    whole = [run(capsys, *arguments, *form) for form in ([], ["--chars"], ["--heat"])]
    assert [json.loads(line)["index"] for line in whole[1][1].splitlines()] == list(range(len(LONG)))
    fed = []
    monkeypatch.setattr(pieces, "_PIECE", 100)
    monkeypatch.setattr(
        Scorer, "feed", lambda self, text, *more, feed=Scorer.feed: (fed.append(len(text)), feed(self, text, *more))[1]
    )
    assert [run(capsys, *arguments, *form) for form in ([], ["--chars"], ["--heat"])] == whole
    assert fed == [100] * 27


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "FILE"),
        (["nowhere.txt"], 1, "cannot read 'nowhere.txt': no such file"),
        (["."], 1, "cannot read '.'"),
        (["a\0b"], 1, "cannot read"),
        (["empty.txt"], 1, "the text is empty"),
        (["bom.txt"], 1, "the text is empty"),
        (["binary.txt"], 1, "'binary.txt' is not UTF-8 text: byte 0xff at offset 3"),
        (["cafe.txt"], 1, "unknown character 'é' (U+00E9) at offset 3; 'shakespeare-small' knows"),
        (["cafe.txt", "--chars"], 1, "unknown character 'é'"),
        (["accents.txt", "--unknown", "skip"], 1, "no character that 'shakespeare-small' knows"),
        (["cafe.txt", "--model", "nowhere"], 1, "neither a file nor a shipped model"),
        (["cafe.txt", "--model", "empty.txt"], 1, "not a valid knock model file"),
        (["cafe.txt", "--unknown", "x"], 2, "invalid choice: 'x'"),
        (["cafe.txt", "--heat", "--json"], 2, "not allowed with argument"),
        (["cafe.txt", "cafe.txt"], 2, "2 files are a corpus, which --held-out measures; give one FILE"),
        (["cafe.txt", "--held-out", "--heat"], 2, "--held-out measures losses; drop --heat"),
        (["cafe.txt", "--held-out", "--chars"], 2, "drop --chars"),
        (["--held-out", "cafe.txt", "-"], 2, "- (standard input) must be the only FILE"),
        (["--held-out", "nowhere.txt"], 1, "cannot read 'nowhere.txt': no such file"),
        (["--held-out", "empty.txt"], 1, "corpus 'empty.txt' is empty"),
        (["--held-out", "cafe.txt"], 1, "unknown character 'é' (U+00E9) at offset 3 of 'cafe.txt'"),
        (["--held-out", "cafe.txt", "--unknown", "skip"], 1, "at least 2 characters, got 0; use a longer text"),
    ],
)
def test_invalid_input_is_reported_on_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "empty": b"", "bom": b"\xef\xbb\xbf", "binary": b"abc\xff\0", "cafe": "café".encode(), "accents": "é".encode(),
    }.items():  # fmt: skip
        Path(f"{name}.txt").write_bytes(content)
    exit_code, out, err = run(capsys, "score", *arguments)
    assert (exit_code, out) == (code, "")
    assert says in err
    assert err.startswith("knock")
    assert err.count("\n") == 1


def test_table_too_wide_for_the_terminal_has_a_line_per_figure(
    tmp_path: Path, models: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abc\n", encoding="utf-8")
    arguments = ["score", str(path), *(f"--model={model}" for model in models[:2]), "--unknown=skip"]
    monkeypatch.setenv("COLUMNS", "500")
    table = run(capsys, *arguments)[1].splitlines()
    monkeypatch.setenv("COLUMNS", "40")
    first, second = run(capsys, *arguments)[1].rstrip("\n").split("\n\n")
    for row, block in zip(table[1:], (first, second), strict=True):
        assert [line.split() for line in block.splitlines()] == [
            list(pair) for pair in zip(table[0].split(), row.split(), strict=True)
        ]
