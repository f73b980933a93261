"""Tests of `knock score` with models of items: one item per line, each scored alone with its end."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knock import LanguageModel, Vocab, load
from knock.cli.score import pieces
from knock.files.checkpoint import write_checkpoint
from tests.cases import SMALL, random_weights
from tests.cli.score.texts import LETTERS as PLAIN
from tests.cli.score.texts import table
from tests.cli.test_main import run

LETTERS = "abcdefghij"
TEXT = "badge\n\nface\n  \na"  # five lines, two of them blank, and no newline at the end
ITEMS = ["badge", "face", "a"]


def write_model(path: Path, letters: str = LETTERS, **record: Any) -> str:
    corpus = {"corpus": {"items": record}} if record else None
    write_checkpoint(path, random_weights(SMALL["hybrid-relative"], 0), Vocab(letters, boundary=True), corpus)
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_model(tmp_path / "items.npz", kind="lines")


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "t.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def bits_of(model: LanguageModel, items: list[str]) -> list[np.ndarray]:
    return [model.score(item).log_probs / -math.log(2) for item in items]


def test_table_has_characters_and_items(capsys: pytest.CaptureFixture[str], text: str, model: str) -> None:
    code, out, err = run(capsys, "score", text, "--model", model)
    assert (code, err) == (0, "knock: skipped 2 blank items\n")
    head, row = table(out)
    assert head == ["model", "chars", "nats/char", "bits/char", "perplexity/char", "items", "bits/item"]
    bits = np.concatenate(bits_of(load(model), ITEMS))
    assert row[:2] == [model, str(len(bits))]
    assert row[5] == "3"
    expected = [bits.mean() * math.log(2), bits.mean(), 2 ** bits.mean()]
    assert [float(cell.replace(",", "")) for cell in row[2:5]] == pytest.approx(expected, rel=1e-4, abs=6e-5)
    assert float(row[6]) == pytest.approx(bits.sum() / 3, abs=6e-3)


def test_json(capsys: pytest.CaptureFixture[str], text: str, model: str) -> None:
    facts = json.loads(run(capsys, "score", text, "--model", model, "--json")[1])
    bits = np.concatenate(bits_of(load(model), ITEMS))
    assert (facts["characters"], facts["items"]) == (len(bits), 3)
    assert facts["bits_per_item"] == pytest.approx(bits.sum() / 3)
    assert facts["nats_per_item"] == pytest.approx(bits.sum() / 3 * math.log(2))
    assert facts["nats_per_char"] == pytest.approx(bits.mean() * math.log(2))


@pytest.mark.parametrize("piece", [2**17, 6])
def test_chars_have_their_item_and_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str, model: str, piece: int
) -> None:
    monkeypatch.setattr(pieces, "_PIECE", piece)
    rows = [json.loads(line) for line in run(capsys, "score", text, "--model", model, "--chars")[1].splitlines()]
    assert [(row["item"], row["index"], row["char"]) for row in rows] == [
        (number, index, char) for number, item in enumerate(ITEMS) for index, char in enumerate([*item, None])
    ]
    assert [row["bits"] for row in rows] == pytest.approx(np.concatenate(bits_of(load(model), ITEMS)), abs=1e-6)


@pytest.mark.parametrize("piece", [2**17, 6])
def test_items(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, piece: int
) -> None:
    monkeypatch.setattr(pieces, "_PIECE", piece)
    path = tmp_path / "t.txt"
    path.write_text("badge\nfaxe\na\n", encoding="utf-8")
    code, out, err = run(capsys, "score", str(path), "--model", model, "--items", "--unknown", "skip")
    assert code == 0
    assert err == f"knock: skipped 1 character that {model!r} does not know: 'x' 1\n"
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["model"], row["item"], row["text"], row["characters"]) for row in rows] == [
        (model, 0, "badge", 6), (model, 1, "faxe", 4), (model, 2, "a", 2),
    ]  # fmt: skip
    expected = [bits.sum() for bits in bits_of(load(model), ["badge", "fae", "a"])]
    assert [row["bits"] for row in rows] == pytest.approx(expected, abs=1e-5)


def test_heat_shows_the_end_of_items(capsys: pytest.CaptureFixture[str], text: str, model: str) -> None:
    code, out, _ = run(capsys, "score", text, "--model", model, "--heat")
    assert code == 0
    _, _, *rows, _, _, _ = out.splitlines()
    assert rows[::2] == ["badge∎", "face∎", "a∎"]
    digits = ["".join(str(min(9, int(bits))) for bits in each) for each in bits_of(load(model), ITEMS)]
    assert rows[1::2] == digits


def test_several_models_of_items(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, model: str) -> None:
    other = write_model(tmp_path / "other.npz", "jihgfedcba", kind="lines")
    out = run(capsys, "score", text, "--model", model, "--model", other, "--items")[1]
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["item"], row["model"]) for row in rows] == [(n, name) for n in range(3) for name in (model, other)]
    expected = [
        each.sum() for pair in zip(*(bits_of(load(m), ITEMS) for m in (model, other)), strict=True) for each in pair
    ]
    assert [row["bits"] for row in rows] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("record", "content", "expected"),
    [
        ({}, "ab\nc", ["ab", "c"]),  # a model that was not made by knock train
        ({"kind": "texts"}, "ab\nc", ["ab", "c"]),
        ({"kind": "lines"}, "\ufeffab\r\nc\r\n", ["ab", "c"]),
        ({"kind": "paragraphs"}, "ab\n\n\nc\n", ["ab", "c"]),
        ({"kind": "files"}, "abc\n", ["abc"]),
        ({"kind": "column", "column": "a"}, "ab\nc", ["ab", "c"]),  # not a table, although trained on one
        ({"kind": "rows"}, "ab\nc", ["ab", "c"]),
    ],
)
def test_an_item_is_what_the_model_was_trained_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, record: dict[str, str], content: str, expected: list[str]
) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(content.encode())
    model = write_model(tmp_path / "m.npz", **record)
    code, out, _ = run(capsys, "score", str(path), "--model", model, "--items")
    assert code == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == expected


def test_a_column_of_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,bad\n2,cafe\n", encoding="utf-8")
    model = write_model(tmp_path / "m.npz", kind="column", column="y")
    out = run(capsys, "score", str(path), "--model", model, "--items")[1]
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["bad", "cafe"]
    path.write_text("x,z\n1,bad\n", encoding="utf-8")
    code, out, err = run(capsys, "score", str(path), "--model", model)
    assert (code, out) == (1, "")
    assert "'y'" in err


def test_models_of_different_kinds_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, model: str
) -> None:
    plain = str(tmp_path / "plain.npz")
    write_checkpoint(plain, random_weights(SMALL["hybrid-relative"], 0), Vocab(PLAIN))
    paragraphs = write_model(tmp_path / "p.npz", kind="paragraphs")
    for other, described in ((plain, "plain text"), (paragraphs, "paragraphs")):
        code, out, err = run(capsys, "score", text, "--model", model, "--model", other)
        assert (code, out) == (1, "")
        assert err == f"knock: error: {model!r} reads lines and {other!r} {described}; score them one at a time\n"


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_no_items(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, content: str) -> None:
    path = tmp_path / "t.txt"
    path.write_text(content, encoding="utf-8")
    code, out, err = run(capsys, "score", str(path), "--model", model)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "knock: error: the text has no items; there is nothing to score"


@pytest.mark.parametrize(
    ("record", "name", "content", "place"),
    [
        ({"kind": "lines"}, "t.txt", "bad\n\ncafé\n", "line 3 of '{path}'"),
        ({"kind": "paragraphs"}, "t.txt", "bad\n\n\ncafé\n", "paragraph 2 of '{path}'"),
        ({"kind": "files"}, "t.txt", "café\n", "'{path}'"),
        ({"kind": "column", "column": "y"}, "t.csv", "x,y\n1,bad\n2,\n3,café\n", "row 3 of '{path}'"),
    ],
)
def test_unknown_character_is_reported_with_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, record: dict[str, str], name: str, content: str, place: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    model = write_model(tmp_path / "m.npz", **record)
    code, out, err = run(capsys, "score", str(path), "--model", model)
    assert (code, out) == (1, "")
    assert f"unknown character 'é' (U+00E9) at offset 3 of {place.format(path=path)}; " in err


def test_items_are_of_models_of_items(capsys: pytest.CaptureFixture[str], text: str) -> None:
    code, out, err = run(capsys, "score", text, "--items")
    assert (code, out) == (2, "")
    assert "--items is for models of items; use --chars" in err
    code, _, err = run(capsys, "score", text, "--items", "--held-out")
    assert code == 2
    assert "drop --items" in err


# Held out


def test_held_out_items_are_those_of_training(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The split depends on the seed in the training record, not on the order of the items."""
    from knock.files.corpus import TokenizedText
    from knock.files.items import Items
    from knock.files.split import Split

    rng = np.random.default_rng(0)
    items = ["".join(rng.choice(list(LETTERS), rng.integers(1, 8))) for _ in range(300)]
    path = tmp_path / "t.txt"
    path.write_text("\n".join(items), encoding="utf-8")
    split = Split(how="items", seed=7)
    vocab = Vocab(LETTERS, boundary=True)
    text = TokenizedText.read(path, vocab=vocab, items=Items(kind="lines"), split=split)
    held_out = vocab.decode(text.held_out[text.held_out != vocab.boundary])
    model = str(tmp_path / "m.npz")
    record = {"corpus": {"items": {"kind": "lines"}}, "validation": split.to_record()}
    write_checkpoint(model, random_weights(SMALL["hybrid-relative"], 0), vocab, record)
    code, out, err = run(capsys, "score", "--held-out", str(path), "--model", model)
    assert (code, err) == (0, "")
    head, row = table(out)
    assert head[-2:] == ["items", "bits/item"]
    assert row[:3] == [model, "items", f"{len(text.held_out) - 1:,}"]
    chosen = [item for item in items if item in set(_split(text.held_out, vocab))]
    assert "".join(chosen) == held_out
    bits = np.concatenate(bits_of(load(model), chosen))
    assert float(row[4]) == pytest.approx(bits.mean(), abs=6e-5)
    assert row[6] == str(len(chosen))
    path.write_text("\n".join(reversed(items)), encoding="utf-8")
    assert run(capsys, "score", "--held-out", str(path), "--model", model)[1] == out
    facts = json.loads(run(capsys, "score", "--held-out", str(path), "--model", model, "--json")[1])
    assert facts["held_out"]["items"]["items"] == len(chosen)


def _split(tokens: np.ndarray, vocab: Vocab) -> list[str]:
    ends = np.flatnonzero(tokens == vocab.boundary)
    return [vocab.decode(tokens[a + 1 : b]) for a, b in itertools.pairwise(ends)]
