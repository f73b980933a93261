"""Known texts and runs are those of their sources, however these are read and compared."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.errors import SamplingError, TextError
from knock.escapes import escape
from knock.generation import known_texts
from knock.generation.known_texts import KnownRuns, KnownTexts

CHARS = "abé\n\\\U0001f600"
TEXTS = st.lists(st.text(CHARS, max_size=12), max_size=12)


def has_run(texts: list[str], text: str, length: int) -> bool:
    """Return whether a text has a run of one of the others."""
    runs = {each[i : i + length] for each in texts for i in range(len(each) - length + 1)}
    return any(text[i : i + length] in runs for i in range(len(text) - length + 1))


def test_lines_of_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "known.txt"
    path.write_text("ab\ncd", encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        known = KnownTexts(file)
    assert known.digest == KnownTexts(["ab", "cd"]).digest
    with path.open(encoding="utf-8") as file:
        assert KnownRuns(2, file).digest == KnownRuns(2, ["ab", "cd"]).digest


@pytest.mark.parametrize("source", [3, [3], [b"ab"], [None]])
def test_sources_that_are_not_texts(source: object) -> None:
    for make in (KnownTexts, lambda given: KnownRuns(2, given)):
        with pytest.raises(SamplingError, match=r"known texts must be .*strings, got"):
            make(source)


def test_a_length_and_its_texts_are_one_argument() -> None:
    expected = KnownRuns(2, ["abc"], ["cde"]).digest
    assert KnownRuns.of((2, ["abc"]), lambda source: [source, ["cde"]]).digest == expected
    for wrong in (4, "ab", (4,), (4, ["a"], 3), None):
        with pytest.raises(SamplingError, match=r"max_overlap must be a number of characters and texts, .* got"):
            KnownRuns.of(wrong, lambda source: [source])


@pytest.fixture(params=[1, 3, 2**20])
def read_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files in chunks of some characters, and hash as many characters together."""
    size = request.param

    def chunks(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        return [text[i : i + size] for i in range(0, len(text), size)]

    monkeypatch.setattr(known_texts, "read_chunks", chunks)
    monkeypatch.setattr(known_texts, "_CHARS_AT_ONCE", size)


# Texts and runs in memory


@given(TEXTS)
def test_known_texts(texts: list[str]) -> None:
    known = KnownTexts(texts)
    assert all(text in known for text in texts)
    assert len(known) == len(set(texts))
    assert "xyz" not in known
    assert known.digest == KnownTexts(reversed(texts), texts).digest


@given(TEXTS, st.text(CHARS, max_size=30), st.integers(1, 6), st.sampled_from([0, 10, 100]))
def test_runs_are_those_of_the_texts(texts: list[str], text: str, length: int, short: int) -> None:
    """Whether the runs of a text are hashed as arrays or one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_texts, "_SHORT", short)
        assert KnownRuns(length, texts).has_run_of(text) == has_run(texts, text, length)


@given(st.text(CHARS, min_size=65, max_size=90), st.integers(60, 92), st.data())
def test_long_runs(text: str, length: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    other = data.draw(st.text(CHARS, max_size=9)) + text[start : start + length]
    assert KnownRuns(length, [text]).has_run_of(other) == has_run([text], other, length)


def test_texts_are_hashed_in_parts(read_by: None) -> None:
    texts = ["abcdefgh", "", "xyz", "abq", "uvw"]
    runs = KnownRuns(3, iter(texts))
    assert all(runs.has_run_of(run) for run in ["abc", "cde", "fgh", "xyz", "abq"])
    assert not any(runs.has_run_of(run) for run in ["ghx", "hxy", "yza", "zab", "bqu"])
    assert runs.digest == KnownRuns(3, ["uvw", "xyz", "abcd", "bcdefgh", "abq", "abq"]).digest


def test_a_set_survives_pickling() -> None:
    known, runs = KnownTexts(["Anna"]), KnownRuns(3, ["Anna"])
    for _ in range(2):  # before it is used, and after
        known, runs = pickle.loads(pickle.dumps((known, runs)))
        assert "Anna" in known
        assert "Bert" not in known
        assert runs.has_run_of("xnna")
        assert not runs.has_run_of("xnnb")


@pytest.mark.parametrize("length", [0, -1, 2.0, True, "3", 10**6 + 1, 10**30])
def test_length_of_runs(length: object) -> None:
    with pytest.raises(SamplingError, match="max_overlap must be a whole number from 1 to 1000000, got"):
        KnownRuns(length, ["a"])  # type: ignore[arg-type]


# Files


def test_files_are_read_by_line_and_runs_cross_lines(tmp_path: Path, read_by: None) -> None:
    path = tmp_path / "known.txt"
    path.write_bytes(b"Anna\n\nBert\r\nCarl".replace(b"\r\n", b"\n"))
    known = KnownTexts(path)
    assert len(known) == 3
    assert all(name in known for name in ["Anna", "Bert", "Carl"])
    runs = KnownRuns(3, path)
    assert all(runs.has_run_of(run) for run in ["xt\nCx", "Ann", "a\n\n", "arl"])
    assert not any(runs.has_run_of(run) for run in ["aBe", "a\nB", "nnb"])


@pytest.mark.parametrize("form", [KnownTexts, lambda path: KnownRuns(2, path)])
def test_line_ends_of_windows(tmp_path: Path, form: Callable[[Path], KnownTexts | KnownRuns]) -> None:
    paths = [tmp_path / name for name in ("unix", "windows")]
    for path, end in zip(paths, (b"\n", b"\r\n"), strict=True):
        path.write_bytes(end.join([b"Anna", b"", b"Bert", b""]))
    assert form(paths[0]).digest == form(paths[1]).digest


@given(st.lists(st.text(CHARS, max_size=8), min_size=1, max_size=6).filter(any))
def test_escaped_lines_stand_for_their_texts(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """Lines as they are count, too: the file may be one that knock did not write."""
    path = tmp_path_factory.mktemp("known") / "rows.txt"
    lines = [escape(text) for text in texts]
    path.write_text("\n".join(lines), encoding="utf-8")
    known, runs = KnownTexts(path), KnownRuns(3, path)
    assert all(text in known for text in [*texts, *lines] if text)
    assert len(known) == len({*texts, *lines} - {""})
    for text in texts:
        for start in range(len(text) - 2):
            assert runs.has_run_of(text[start : start + 3])


def test_escapes_are_read_whole(tmp_path: Path, read_by: None) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("a\\nb\nc\\\\nd\ne\\\nf\n", encoding="utf-8")
    known, runs = KnownTexts(path), KnownRuns(3, path)
    assert all(text in known for text in ["a\nb", "a\\nb", "c\\nd", "c\\\\nd", "e\\", "f"])
    assert len(known) == 6
    assert all(runs.has_run_of(run) for run in ["a\nb", "a\\n", "c\\n", "\\nd", "c\\\\", "e\\\n"])
    assert not any(runs.has_run_of(run) for run in ["c\nd", "\nb\n", "\n\nd"])


def test_rows_stand_for_prompt_and_text(tmp_path: Path, read_by: None) -> None:
    rows = [{"index": 0, "prompt": "O: ", "text": 'a\n"b"', "seed": 1}, {"index": 1, "prompt": "", "text": "xyz"}]
    others = ['{"prompt": "p", "text": "q"}', '{"index": 3, "prompt": 1, "text": null}', "[1]", "nothing", "9" * 5000]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), *others]), encoding="utf-8")
    known, runs = KnownTexts(path), KnownRuns(4, path)
    assert all(text in known for text in ['O: a\n"b"', "xyz", *others])
    assert not any(text in known for text in ['a\n"b"', "pq", "q"])
    assert runs.has_run_of(' a\n"')
    path.rename(tmp_path / "rows.txt")
    assert "xyz" not in KnownTexts(tmp_path / "rows.txt")


def test_a_line_may_be_as_long_as_the_file(tmp_path: Path) -> None:
    path, line = tmp_path / "line.txt", "ab\\n" * 10**6
    path.write_text(line, encoding="utf-8")
    known = KnownTexts(path)
    assert line in known
    assert "ab\n" * 10**6 in known


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), (b"", "is empty"), (b"\xff", "not UTF-8")])
@pytest.mark.parametrize("form", [KnownTexts, lambda path: KnownRuns(2, path)])
def test_files_that_cannot_be_used(
    tmp_path: Path, content: bytes | None, message: str, form: Callable[[Path], KnownTexts | KnownRuns]
) -> None:
    path = tmp_path / "known.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        form(path)
