"""Tests of corpora: how files are joined, which characters are kept, and the memory that reading takes."""

from __future__ import annotations

import io
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import Vocab
from knock.errors import OutputError, TextError, VocabError
from knock.files import text as text_module
from knock.files.corpus import TokenizedText
from knock.files.corpus_files import files_at

MARK = "\ufeff"


def write(folder: Path, **files: str) -> list[Path]:
    paths = [folder / f"{name}.txt" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_bytes(text.encode())
    return paths


def decoded(corpus: TokenizedText) -> str:
    return corpus.vocab.decode(np.concatenate([corpus.train, corpus.held_out]))


@pytest.mark.parametrize("size", [1, 5, 2**20])
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["The end of it", "Title"], "The end of it\nTitle"),
        (["one\n", "two\r\n", "three"], "one\ntwo\nthree"),
        (["one", "", "two", ""], "one\ntwo"),
        (["", "one"], "one"),
    ],
)
def test_joined_files_are_separated_by_line_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], expected: str, size: int
) -> None:
    monkeypatch.setattr(text_module, "_CHUNK", size)
    corpus = TokenizedText.read(write(tmp_path, **{f"f{i}": text for i, text in enumerate(files)}))
    assert decoded(corpus) == expected
    assert corpus.sha256 == TokenizedText.from_text(expected, "x").sha256


def test_no_line_break_for_a_vocabulary_without_one(tmp_path: Path) -> None:
    """It is part of the text, and of its checksum, but is neither reported as unknown nor replaced."""
    for unknown in ("error", "skip", "replace"):
        corpus = TokenizedText.read(write(tmp_path, a="ab", b="ba"), vocab=Vocab("ab"), unknown=unknown)
        assert (decoded(corpus), corpus.unknown_count) == ("abba", 0)
        assert corpus.sha256 == TokenizedText.from_text("ab\nba", "x").sha256


def test_natural_order_of_names(tmp_path: Path) -> None:
    names = [
        "1",
        "2",
        "10",
        "02",
        "a1b",
        "a01b",
        "a10b2",
        "a10b10",
        "b²",
        "chapter 2/9",
        "chapter 2/10",
        "chapter 10/1",
    ]
    for name in names:
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).with_suffix("").as_posix() for path in files_at(tmp_path)]
    expected = [
        "1",
        "02",
        "2",
        "10",
        "a01b",
        "a1b",
        "a10b2",
        "a10b10",
        "b²",
        "chapter 2/9",
        "chapter 2/10",
        "chapter 10/1",
    ]
    assert found == expected


@pytest.mark.parametrize("size", [1, 4, 2**20])
def test_byte_order_marks_inside_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(text_module, "_CHUNK", size)
    paths = write(tmp_path, a=f"{MARK}one\n{MARK}two\n", b=f"{MARK}th{MARK}ree")
    corpus = TokenizedText.read(paths)
    assert (decoded(corpus), corpus.marks) == ("one\ntwo\nthree", 2)
    assert MARK not in corpus.vocab
    assert corpus.sha256 == TokenizedText.from_text("one\ntwo\nthree", "x").sha256
    known = Vocab("\nehnortw" + MARK)  # a model that was trained with them
    kept = TokenizedText.read(paths, vocab=known)
    assert (decoded(kept), kept.marks) == (f"one\n{MARK}two\nth{MARK}ree", 0)
    with pytest.raises(VocabError, match=r"'w' .* at offset 6 of '.*a\.txt'"):  # the mark counts, as in the file
        TokenizedText.read(paths, vocab=Vocab("\nehnort"))
    with pytest.raises(TextError, match="is empty"):
        TokenizedText.from_text(MARK * 3, "x")


@given(st.text(st.sampled_from("aAbBcdé\n" + MARK), min_size=1), st.integers(1, 4), st.booleans())
def test_rare_characters_are_left_out(text: str, min_count: int, lowercase: bool) -> None:
    folded = (text.lower() if lowercase else text).replace(MARK, "")
    counts = Counter(folded)
    kept = sorted(char for char, count in counts.items() if count >= min_count)
    for unknown in ("skip", "replace"):
        if not kept:
            with pytest.raises(TextError, match=r"is empty|occurs . times; lower the minimum count"):
                TokenizedText.from_text(text, "x", lowercase=lowercase, unknown=unknown, min_count=min_count)
            continue
        corpus = TokenizedText.from_text(text, "x", lowercase=lowercase, unknown=unknown, min_count=min_count)
        filler = "" if unknown == "skip" else kept[0]
        assert list(corpus.vocab.characters) == kept
        assert decoded(corpus) == "".join(char if char in kept else filler for char in folded)
        assert corpus.unknown_count == sum(char not in kept for char in folded)
        assert corpus.occurrences.tolist() == sorted(counts.values())
        assert corpus.min_count == min_count
        again = TokenizedText.from_text(text, "x", vocab=corpus.vocab, unknown=unknown)  # as a resumed run reads it
        assert decoded(again) == decoded(corpus)
        assert (again.sha256, again.unknown_count) == (corpus.sha256, corpus.unknown_count)


def test_rare_characters_need_a_way_to_leave_them_out() -> None:
    with pytest.raises(VocabError, match='min_count=2 leaves out characters; set unknown to "skip" or "replace"'):
        TokenizedText.from_text("aab", "x", min_count=2)


@pytest.mark.parametrize(
    ("distinct", "kind"), [(256, np.uint8), (257, np.int16), (2**15, np.int16), (2**15 + 1, np.int32)]
)
def test_smallest_type_of_tokens(distinct: int, kind: type) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + min(distinct, 2**15)))) + "a" * (distinct > 2**15)
    corpus = TokenizedText.from_text(text, "x")
    assert (corpus.vocab.vocab_size, corpus.train.dtype) == (distinct, kind)
    assert decoded(corpus) == text


def test_stream_is_read_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    text = f"{MARK}one\r\n{MARK}two"
    corpus = TokenizedText.read_stream(io.BytesIO(text.encode()), "standard input")
    assert (decoded(corpus), corpus.name, corpus.marks) == ("one\ntwo", "standard input", 1)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TextError, match=r"standard input is not UTF-8 text: it is compressed with gzip"):
        TokenizedText.read_stream(io.BytesIO(b"\x1f\x8b\x08\0"), "standard input")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="temporary folder"):
        TokenizedText.read_stream(io.BytesIO(b"abc"), "standard input")


@pytest.mark.parametrize("is_stream", [False, True])
def test_memory_is_that_of_the_tokens(tmp_path: Path, is_stream: bool) -> None:
    """One byte a character, and chunks of fixed size; the text itself is never in memory."""
    content = b"The quick brown fox jumps over the lazy dog.\n" * 1_000_000
    path = tmp_path / "long.txt"
    path.write_bytes(content)
    size = len(content)
    del content
    tracemalloc.start()
    with path.open("rb") as stream:
        corpus = TokenizedText.read_stream(stream, "it") if is_stream else TokenizedText.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(corpus) == size
    assert peak < 1.2 * size + 40 * 2**20
