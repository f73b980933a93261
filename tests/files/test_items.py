"""Tests of how a corpus is cut into items, and of the streams of tokens that they become."""

from __future__ import annotations

import csv
import functools
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import Vocab
from knock.errors import TextError, VocabError
from knock.files import sources, tokenizing
from knock.files import text as text_module
from knock.files.corpus import TokenizedText, recorded_settings
from knock.files.corpus_files import CorpusFile
from knock.files.items import Items, batches
from knock.files.split import Split

LINES = Items(kind="lines")
TEXTS = st.lists(st.text(st.sampled_from("aAbé \n\ufeff"), max_size=5), max_size=30)


def chunks_of(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def read(kind: str, *texts: str, size: int = 4) -> list[str]:
    files = [CorpusFile(f"{i}.txt", lambda text=text: chunks_of(text, size)) for i, text in enumerate(texts)]
    return list(Items(kind=kind).read(files))


def items_of(tokens: np.ndarray, vocab: Vocab) -> list[str]:
    """Return the items of a stream, by a loop."""
    assert tokens[0] == tokens[-1] == vocab.boundary
    items, item = [], []
    for token in tokens[1:].tolist():
        if token == vocab.boundary:
            items.append(vocab.decode(item))
            item = []
        else:
            item.append(token)
    return items


def all_items(corpus: TokenizedText) -> list[str]:
    return items_of(corpus.train, corpus.vocab) + items_of(corpus.held_out, corpus.vocab)


# Cutting


@given(st.lists(st.text(st.sampled_from("ab\v\u2028 "), max_size=6)), st.integers(1, 9), st.booleans())
def test_lines(lines: list[str], size: int, ends: bool) -> None:
    r"""Only `\n` ends a line, whatever the chunks."""
    text = "\n".join(lines) + "\n" * ends
    expected = text.split("\n")
    assert read("lines", text, size=size) == (expected[:-1] if not expected[-1] else expected)


@given(st.text(st.sampled_from("ab \n"), max_size=40), st.integers(1, 9))
def test_paragraphs(text: str, size: int) -> None:
    expected, lines = [], []
    for line in [*text.split("\n"), ""]:
        if line.strip():
            lines.append(line)
        elif lines:
            expected.append("\n".join(lines))
            lines = []
    assert read("paragraphs", text, size=size) == expected


def test_files_are_separate() -> None:
    assert read("lines", "a\nb", "c\n") == ["a", "b", "c"]
    assert read("paragraphs", "a\nb", "c\n\nd") == ["a\nb", "c", "d"]
    assert read("files", "a\n\nb\n", "", "c\n\n") == ["a\n\nb", "", "c\n"]


@given(st.lists(st.text(max_size=9)), st.integers(1, 20))
def test_batches_hold_all_items(items: list[str], size: int) -> None:
    found = list(batches(items, size))
    assert [item for batch in found for item in batch] == items
    assert all(sum(len(item) + 1 for item in batch[:-1]) < size for batch in found)


def test_a_folder_of_files(tmp_path: Path) -> None:
    names = {"b.py": "two", "10.txt": "last", "9.md": "first\n", ".hidden": "no", ".git/x.txt": "no", "deep/c": "three"}
    for name, text in names.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    corpus = TokenizedText.read(tmp_path, items=Items(kind="files"))
    assert sorted(all_items(corpus)) == ["first", "last", "three", "two"]
    (tmp_path / "none").mkdir()
    with pytest.raises(TextError, match="has no files; pass the files themselves"):
        TokenizedText.read(tmp_path / "none", items=Items(kind="files"))


ROWS = [["Anna", "1"], ['Bert, "B"', "2"], ["two\nlines", ""], ["Anna", "3"]]


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    """The same table in three formats."""
    paths = [tmp_path / f"t.{suffix}" for suffix in ("csv", "tsv", "jsonl")]
    for path, delimiter in zip(paths[:2], ",\t", strict=True):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows([["name", "n"], *ROWS])
    paths[2].write_text("".join(json.dumps({"name": name, "n": n}) + "\n" for name, n in ROWS), encoding="utf-8")
    return paths


def test_cells_of_a_column(tables: list[Path]) -> None:
    for path in tables:
        corpus = TokenizedText.read(path, items=Items(kind="column", column="name"))
        assert sorted(all_items(corpus)) == sorted(name for name, _ in ROWS)
        corpus = TokenizedText.read(path, items=Items(kind="column", column="n"))
        assert (sorted(all_items(corpus)), corpus.empty_count) == (["1", "2", "3"], 1)
        with pytest.raises(TextError, match=r"has no column 'nme'; did you mean 'name'\?"):
            TokenizedText.read(path, items=Items(kind="column", column="nme"))


def test_rows(tables: list[Path]) -> None:
    for path in tables[:2]:
        corpus = TokenizedText.read(path, items=Items(kind="rows"))
        rows = [next(csv.reader(io.StringIO(item, newline=""))) for item in all_items(corpus)]
        assert sorted(rows) == sorted(ROWS)
    corpus = TokenizedText.read(tables[2], items=Items(kind="rows"))
    assert sorted(list(json.loads(item).values()) for item in all_items(corpus)) == sorted(ROWS)
    assert '{"name":"Anna","n":"1"}' in all_items(corpus)


def test_rows_of_several_tables(tables: list[Path], tmp_path: Path) -> None:
    corpus = TokenizedText.read(tables[:2], items=Items(kind="rows"))
    assert len(all_items(corpus)) == 2 * len(ROWS)
    other = tmp_path / "other.csv"
    other.write_text("name,m\na,1\n")
    for second in (other, tables[2]):
        with pytest.raises(TextError, match="have different columns"):
            TokenizedText.read([tables[0], second], items=Items(kind="rows"))


def test_a_table_must_be_a_file() -> None:
    for items in (Items(kind="rows"), Items(kind="column", column="name")):
        with pytest.raises(TextError, match="standard input is a stream, but a table must be a file"):
            TokenizedText.read_stream(io.BytesIO(b"name\na\n"), "standard input", items=items)


# Tokens


@given(TEXTS, st.booleans(), st.integers(1, 40))
def test_streams_hold_all_items(texts: list[str], lowercase: bool, size: int) -> None:
    """Each side begins with a boundary and has one after each item; empty items are dropped and counted."""
    clean = [text.replace("\ufeff", "") for text in texts]
    expected = sorted(text.lower() if lowercase else text for text in clean if text.strip())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "batches", functools.partial(batches, size=size))
        if len(set(expected)) < 2:
            with pytest.raises(TextError, match=r"has no items|has 1 item;|are all equal;"):
                TokenizedText.from_items(texts, "x", lowercase=lowercase)
            return
        corpus = TokenizedText.from_items(texts, "x", lowercase=lowercase)
    assert sorted(all_items(corpus)) == expected
    assert corpus.train_items + corpus.held_out_items == len(expected)
    assert min(corpus.train_items, corpus.held_out_items) >= 1
    assert len(corpus) == sum(len(item) + 1 for item in expected)  # the end of an item is a character
    assert corpus.empty_count == len(texts) - len(expected)
    assert corpus.longest == max(map(len, expected))
    assert corpus.different_items == len(set(expected))
    assert list(corpus.vocab.characters) == sorted(set("".join(expected)))
    assert corpus.vocab.has_boundary


@given(TEXTS, st.sampled_from(["skip", "replace"]))
def test_unknown_characters_in_items(texts: list[str], unknown: str) -> None:
    vocab = Vocab("Ab ", boundary=True)
    filler = "" if unknown == "skip" else " "
    # Replacing happens before empty items are dropped, but does not make one of nothing.
    clean = [text.replace("\ufeff", "") for text in texts]
    spelled = ["".join(char if char in "Ab " else filler for char in text) for text in clean]
    expected = sorted(text for text in spelled if text.strip())
    if len(set(expected)) < 2:
        return
    corpus = TokenizedText.from_items(texts, "x", vocab=vocab, unknown=unknown)
    assert sorted(all_items(corpus)) == expected
    assert corpus.unknown_count == sum(char not in "Ab " for text in clean for char in text)


def test_unknown_character_is_an_error_that_shows_the_item() -> None:
    with pytest.raises(VocabError, match=r"unknown character 'é' \(U\+00E9\) at offset 3 of 'José'"):
        TokenizedText.from_items(["Jos", "Ann", "José"], "x", vocab=Vocab("AJnos", boundary=True))
    with pytest.raises(TextError, match="no item of corpus 'x' has a character that the model knows"):
        TokenizedText.from_items(["a", "b"], "x", vocab=Vocab("xy", boundary=True), unknown="skip")


def test_items_known_in_another_normal_form() -> None:
    """Each item is read alone: a mark at its beginning does not belong to the item before it."""
    vocab = Vocab("ae\u0301", boundary=True)
    with pytest.warns(UserWarning, match="normal form"):
        corpus = TokenizedText.from_items(["ae", "\u0301a", "é"], "x", vocab=vocab)
    assert sorted(all_items(corpus)) == ["ae", "e\u0301", "\u0301a"]


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([], "corpus 'x' has no items"),
        (["", " \t", "\n"], "corpus 'x' has no items: nothing but white space"),
        (["anna"], "corpus 'x' has 1 item; training needs at least 2 different ones"),
        (["anna"] * 5, "the 5 items of corpus 'x' are all equal; training needs at least 2 different ones"),
    ],
)
def test_too_few_items(items: list[str], says: str) -> None:
    with pytest.raises(TextError, match=says):
        TokenizedText.from_items(items, "x")


def test_vocabulary_and_corpus_must_agree() -> None:
    with pytest.raises(VocabError, match="that of items, but the corpus is read as plain text"):
        TokenizedText.from_text("ab\nba", "x", vocab=Vocab("\nab", boundary=True))
    with pytest.raises(VocabError, match="that of plain text, but the corpus is read as items"):
        TokenizedText.from_text("ab\nba", "x", vocab=Vocab("\nab"), items=LINES)


def test_large_corpus_of_items_is_memory_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"item {i}\n" for i in range(200))
    expected = TokenizedText.from_text(text, "x", items=LINES)
    monkeypatch.setattr(tokenizing, "_LARGE", 100)
    monkeypatch.setattr(text_module, "_CHUNK", 64)
    monkeypatch.setattr(sources, "batches", functools.partial(batches, size=50))
    corpus = TokenizedText.from_text(text, "x", items=LINES)
    assert isinstance(corpus.train, np.memmap)
    assert isinstance(corpus.held_out, np.memmap)
    assert corpus.sha256 == expected.sha256
    assert np.array_equal(corpus.train, expected.train)
    assert np.array_equal(corpus.held_out, expected.held_out)


def test_checksum_depends_on_where_items_end() -> None:
    def sha(*items: str) -> str:
        return TokenizedText.from_items(items, "x").sha256

    assert sha("ab", "c") == sha("ab", "", "c") != sha("a", "bc")
    assert sha("1:a", "b") != sha("1", ":ab")


# The training record


@pytest.mark.parametrize(
    "items", [None, LINES, Items(kind="column", column="name"), Items(kind="rows"), Items(kind="texts")]
)
@pytest.mark.parametrize(
    "split", [Split(), Split(how="items", seed=2**64 - 1), Split(how="blocks", seed=3), Split(how="file", file="v.txt")]
)
def test_record_round_trip(items: Items | None, split: Split) -> None:
    training = {"corpus": {"items": None if items is None else items.to_record()}, "validation": split.to_record()}
    assert recorded_settings(json.loads(json.dumps(training))) == {"items": items, "split": split}


def test_older_records_are_of_plain_text() -> None:
    expected = {"items": None, "split": Split()}
    assert recorded_settings({}) == recorded_settings({"corpus": {"name": "x"}}) == expected


@pytest.mark.parametrize(
    "training",
    [
        {"corpus": 3},
        {"corpus": {"items": "lines"}},
        {"corpus": {"items": {"kind": "words"}}},
        {"corpus": {"items": {"kind": "column"}}},
        {"corpus": {"items": {"kind": "lines", "column": "a"}}},
        {"validation": "end"},
        {"validation": {"how": "half"}},
        {"validation": {"how": ["end"]}},
        {"validation": {"how": "items", "seed": "x"}},
        {"validation": {"how": "items", "seed": -1}},
        {"validation": {"how": "file", "file": 3}},
        {"validation": {"how": "file"}},
    ],
)
def test_damaged_records_are_reported(training: dict[str, object]) -> None:
    with pytest.raises(TextError, match="the training record does not say how the corpus was read"):
        recorded_settings(training)
