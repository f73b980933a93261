"""Tests of the filters of `knock sample`: which rows are kept, that others replace them, and what is reported."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knock import LanguageModel, ReweightGPT, Vocab, load
from knock.engine.batch import Request
from knock.escapes import unescape
from knock.generation.requests import RequestBuilder
from knock.jobs.row_file import RowFile
from knock.models import DEFAULT
from tests.cli.test_main import run
from tests.cli.test_sample import FAST, rows

ALL = 10_000  # the least number of tries, unless --tries gives another


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a model of items, each some of the letters a, b and c."""
    vocab = Vocab("abc", boundary=True)
    gpt = ReweightGPT(vocab.vocab_size, T=8, n_emb=16, nodes=16, n_blocks=2, n_heads=2, seed=3)
    path = tmp_path_factory.mktemp("model") / "items.safetensors"
    LanguageModel(gpt, vocab).save(path)
    return str(path)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    path = tmp_path / "known" / "texts.txt"
    path.parent.mkdir()
    path.write_text("ab\nb\nabc\ncab\n", encoding="utf-8")
    return path


def drawn(items: str, count: int, **options: Any) -> list[str]:
    """Return the texts of the first rows, unfiltered."""
    texts = load(items).generate_batch([""], "balanced", count, 1, **options)
    return [text.text for text in texts]


def summary(drawn: int, kept: int, repeats: int = 0, copies: int = 0, cut: int = 0, not_accepted: int = 0) -> str:
    return (
        f"drawn {drawn:,}, kept {kept:,}; dropped: {repeats:,} repeats, {copies:,} copies, {cut:,} cut, "
        f"{not_accepted:,} not accepted\n"
    )


# Which rows


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("prompt", ["", "ab"])
def test_texts_are_those_of_the_library(
    capsys: pytest.CaptureFixture[str], items: str, known: Path, threads: str, prompt: str
) -> None:
    pattern = "[abc]{1,7}"
    arguments = ["sample", prompt, "-m", items, "-n", "50", "--seed", "1", "--unique", "--novel", str(known)]
    code, said, err = run(capsys, *arguments, "--pattern", pattern, "--threads", threads, "--format", "txt")
    lm = load(items)
    options = {"unique": True, "novel": known, "pattern": pattern, "seed": 1, "sampling": "balanced"}
    assert (code, said.splitlines()) == (0, lm.items(50, prompt, **options))
    assert err.startswith("drawn ")
    assert all(re.fullmatch(pattern, text) and text.startswith(prompt) for text in said.splitlines())


def test_rows_are_the_first_that_pass(capsys: pytest.CaptureFixture[str], items: str, known: Path) -> None:
    """Each is judged as if all rows had been drawn, and the summary counts those up to the last that is kept."""
    arguments = ["sample", "-m", items, "--count", "60", "--seed", "1", "--unique", "--novel", str(known)]
    code, said, err = run(capsys, *arguments, "--accept", r"(?=.*b)\w{1,6}")
    texts = drawn(items, 3000, max_new_tokens=1000)
    copies = set(known.read_text(encoding="utf-8").split())
    good = [i for i, text in enumerate(texts) if text not in copies and re.fullmatch(r"(?=.*b)\w{1,6}", text)]
    first = [i for i in good if texts.index(texts[i]) == i][:60]
    assert [row["index"] for row in map(json.loads, said.splitlines())] == first
    end = first[-1] + 1
    among = [text in copies for text in texts[:end]].count(True)
    bad = end - among - len([i for i in good if i < end])
    assert (code, err) == (0, summary(end, 60, end - among - bad - 60, among, 0, bad))


@pytest.mark.parametrize("form", ["jsonl", "txt", "parquet"])
def test_unique_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    out = tmp_path / f"out.{form}"
    few = ("sample", "A", "--length", "1", "--seed", "1")
    texts = [row["text"] for row in map(json.loads, run(capsys, *few, "--count", "300")[1].splitlines())]
    firsts = list(dict.fromkeys(texts))
    end = texts.index(firsts[-1]) + 1
    arguments = [*few, "--unique", "--out", str(out), "--count", str(len(firsts))]
    assert run(capsys, *arguments) == (0, "", summary(end, len(firsts), end - len(firsts)))
    if form == "parquet":
        import pyarrow.parquet as pq

        result = [row["text"] for row in pq.read_table(out).to_pylist()]
    elif form == "jsonl":
        result = [row["text"] for row in rows(out)]
        assert [row["index"] for row in rows(out)] == [texts.index(text) for text in firsts]
    else:
        result = [line[1:].replace("\\n", "\n") for line in out.read_text(encoding="utf-8").splitlines()]
    assert result == firsts


def test_items_are_lines_of_text(capsys: pytest.CaptureFixture[str], items: str) -> None:
    """Whole ones, with the prompt, of any length below the generous default."""
    _, said, _ = run(capsys, "sample", "ab", "-m", items, "--count", "300", "--seed", "1", "--format", "txt")
    texts = load(items).generate_batch(["ab"], "balanced", 300, 1, max_new_tokens=1000)
    assert said.splitlines() == ["ab" + text.text for text in texts]
    assert {text.finish_reason for text in texts} == {"end"}


def test_texts_that_were_cut_are_dropped(capsys: pytest.CaptureFixture[str], items: str) -> None:
    arguments = ["sample", "-m", items, "--count", "40", "--seed", "1", "--length", "4"]
    plain = [json.loads(line) for line in run(capsys, *arguments)[1].splitlines()]
    assert {row["finish_reason"] for row in plain} == {"end", "length"}  # without filters, all are kept
    code, said, err = run(capsys, *arguments, "--accept", "[abc]*")
    kept = [json.loads(line) for line in said.splitlines()]
    assert {row["finish_reason"] for row in kept} == {"end"}
    assert (code, err) == (0, summary(kept[-1]["index"] + 1, 40, cut=kept[-1]["index"] - 39))
    code, said, err = run(capsys, *arguments, "--accept", "[abc]*", "--keep-cut")
    assert [json.loads(line) for line in said.splitlines()] == plain
    assert err == summary(40, 40)


def test_text_that_only_its_length_ends_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "sample", "A", "--count", "5", *FAST, "--unique")[2] == summary(5, 5)
    code, said, err = run(capsys, "sample", "A", "--count", "5", *FAST, "--unique", "--stop", "e")
    assert code == 0
    assert {json.loads(line)["finish_reason"] for line in said.splitlines()} == {"stop"}
    assert not err.endswith(" 0 cut, 0 not accepted\n")


def test_no_long_run_is_copied(capsys: pytest.CaptureFixture[str], items: str, tmp_path: Path) -> None:
    first, second = tmp_path / "1.txt", tmp_path / "2.txt"
    first.write_text("abcb\nca", encoding="utf-8")
    second.write_text("aaa", encoding="utf-8")
    arguments = ["sample", "-m", items, "--count", "80", "--seed", "1", "--format", "txt"]
    code, said, err = run(capsys, *arguments, "--max-overlap", "3", str(first), "--max-overlap", "3", str(second))
    copied = ("abc", "bcb", "cb\n", "b\nc", "\nca", "aaa")
    assert said.splitlines() == [text for text in drawn(items, 400) if not any(run_ in text for run_ in copied)][:80]
    assert (code, bool(re.search("0 copies, [1-9][0-9]* overlaps, 0 cut", err))) == (0, True)


def test_exact_draws_until_there_are_enough(capsys: pytest.CaptureFixture[str], items: str) -> None:
    arguments = ["sample", "-m", items, "--count", "30", "--seed", "1", "--pattern", "a[abc]*", "--exact"]
    code, said, err = run(capsys, *arguments, "--format", "txt")
    # A text that cannot match any more is over at once.
    assert said.splitlines() == [text for text in drawn(items, 300) if text.startswith("a")][:30]
    assert (code, "0 not accepted, " in err, err.endswith(" not matching\n")) == (0, True, True)


def test_exact_draws_for_each_prompt_until_a_text_matches(
    capsys: pytest.CaptureFixture[str], items: str, tmp_path: Path
) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a\nb\n", encoding="utf-8")
    arguments = [
        "sample",
        "--prompts",
        str(path),
        "--count",
        "3",
        "-m",
        items,
        "--seed",
        "1",
        "--pattern",
        "[abc]{4,9}",
    ]
    code, said, _ = run(capsys, *arguments, "--exact")
    expected = load(items).generate_batch(
        ["a", "b"], "balanced", 3, 1, pattern="[abc]{4,9}", exact=True, max_new_tokens=None
    )  # fmt: skip
    assert code == 0
    assert [row["text"] for row in map(json.loads, said.splitlines())] == [row.text for row in expected]


def test_constraints_without_filters(capsys: pytest.CaptureFixture[str], items: str) -> None:
    arguments = ["sample", "-m", items, "--count", "30", "--seed", "1", "--pattern", "[abc]+", "--max-length", "4"]
    code, said, err = run(capsys, *arguments, "--ban", "aa", "--format", "txt")
    texts = drawn(items, 30, pattern="[abc]+", max_length=4, ban="aa", max_new_tokens=1000)
    assert (code, said.splitlines(), err) == (0, texts, "")


def test_prompts_are_filtered_but_not_replaced(capsys: pytest.CaptureFixture[str], items: str, tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a\nx\nb\na\n", encoding="utf-8")
    arguments = ["sample", "--prompts", str(path), "--count", "40", "-m", items, "--seed", "1"]
    plain = [json.loads(line) for line in run(capsys, *arguments)[1].splitlines()]
    code, said, err = run(capsys, *arguments, "--unique")
    firsts: dict[str, dict[str, Any]] = {}
    for row in plain:
        firsts.setdefault(row["prompt"] + row["text"] if "error" not in row else str(row["index"]), row)
    assert [json.loads(line) for line in said.splitlines()] == list(firsts.values())  # with those with an error
    kept = len(firsts) - 40
    assert (code, err.splitlines()[-2:]) == (1, [summary(120, kept, 120 - kept).strip(), "rows with an error: 40"])
    _, lines, _ = run(capsys, *arguments, "--unique", "--format", "txt")
    assert lines.splitlines() == [row["prompt"] + row["text"] for row in firsts.values() if "error" not in row]


def test_repeats_are_rows_that_are_written_alike(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Equal texts after different prompts are no repeats, unless the prompt is left out."""
    path = tmp_path / "p.txt"
    path.write_text("A\nB\nA\n", encoding="utf-8")
    arguments = ["sample", "--prompts", str(path), "--length", "0", "--seed", "1", "--unique", "--format", "txt"]
    assert run(capsys, *arguments) == (0, "A\nB\n", summary(3, 2, 1))
    assert run(capsys, *arguments, "--only-new") == (0, "\n", summary(3, 1, 2))


@pytest.mark.parametrize("form", ["txt", "jsonl"])
@pytest.mark.parametrize(("prompt", "stop"), [("", "e"), ("A", "e")])
def test_rows_of_an_earlier_run_are_known(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str, prompt: str, stop: str
) -> None:
    """Also those with line breaks and backslashes, which are written as escapes, and with the prompt."""
    out = tmp_path / f"first.{form}"
    arguments = ["sample", prompt, "--count", "40", "--seed", "1", "--stop", stop]
    assert run(capsys, *arguments, "--unique", "--out", str(out))[0] == 0
    content = out.read_text(encoding="utf-8")
    assert "\\n" in content
    code, said, err = run(capsys, *arguments, "--unique", "--novel", str(out))
    first = {row["text"] for row in map(json.loads, run(capsys, *arguments, "--unique")[1].splitlines())}
    more = [row["text"] for row in map(json.loads, said.splitlines())]
    assert (code, len(first), len(more)) == (0, 40, 40)
    assert first.isdisjoint(more)
    lm = load(DEFAULT)
    assert more == lm.items(40, prompt, stop=stop, seed=1, novel=out, sampling="balanced")
    assert int(re.search("([0-9]+) copies", err)[1]) >= 40  # type: ignore[index]
    code, said, err = run(capsys, *arguments, "--max-overlap", "3", str(out), "--tries", "40")
    assert (code, all(len(json.loads(line)["text"]) < 3 for line in said.splitlines())) == (1, True)


def test_backslashes_of_items(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The line of an item may be the item itself, or as knock writes it."""
    vocab = Vocab("a\\\n", boundary=True)
    model, known, out = tmp_path / "m.safetensors", tmp_path / "known.txt", tmp_path / "o.txt"
    LanguageModel(ReweightGPT(vocab.vocab_size, T=8, n_emb=16, nodes=16, n_blocks=1, n_heads=2, seed=3), vocab).save(
        model
    )
    arguments = ["sample", "-m", str(model), "--seed", "1", "--min-length", "1", "--max-length", "3", "--unique"]
    whole = 3 + 9 + 27  # texts of up to three of the characters
    assert run(capsys, *arguments, "--count", str(whole), "--out", str(out))[0] == 0
    known.write_text("a\\a\n\\\\a\na\n", encoding="utf-8")
    code, said, err = run(capsys, *arguments, "--count", str(whole), "--novel", str(known))
    gone = {"a\\a", "\\\\a", "\\a", "a"}
    assert {row["text"] for row in map(json.loads, said.splitlines())} == {
        *map(unescape, out.read_text(encoding="utf-8").splitlines())
    } - gone
    assert (code, f"got {whole - len(gone)} of {whole}" in err) == (1, True)
    assert run(capsys, *arguments, "--count", "1", "--novel", str(out))[1] == ""


def test_large_files_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, items: str, known: Path
) -> None:
    arguments = ["sample", "-m", items, "--novel", str(known), "--max-overlap", "9", str(known)]
    monkeypatch.setattr("knock.cli.sample.filtering._LARGE", 3)
    assert "reading" not in run(capsys, *arguments)[2]
    monkeypatch.setattr("knock.cli.sample.filtering.is_live", lambda: True)
    assert run(capsys, *arguments)[2].startswith(f"reading {known}, {known}\n")


# Enough, or too few


def test_few_rows_are_drawn_in_vain(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, items: str, known: Path
) -> None:
    requests: list[Request] = []

    class Counting(RequestBuilder):
        def rows(self, *given: Any) -> Any:
            made = list(super().rows(*given))
            requests.extend(made)
            return iter(made)

    monkeypatch.setattr("knock.language_model.RequestBuilder", Counting)
    _, said, _ = run(capsys, "sample", "-m", items, "--count", "3000", "--seed", "1", "--novel", str(known))
    needed = json.loads(said.splitlines()[-1])["index"] + 1
    assert needed <= len(requests) < 1.1 * needed


@pytest.mark.parametrize("form", ["jsonl", "txt"])
def test_too_few_are_kept_and_can_be_continued(
    capsys: pytest.CaptureFixture[str], items: str, tmp_path: Path, form: str
) -> None:
    out, whole = tmp_path / f"o.{form}", tmp_path / f"w.{form}"
    arguments = ["sample", "-m", items, "--count", "100", "--seed", "1", "--unique", "--max-length", "4"]
    code, said, err = run(capsys, *arguments, "--out", str(out), "--tries", "120")
    kept = out.read_bytes().count(b"\n")
    assert (code, said) == (1, "")
    assert err == (
        f"knock: error: got {kept} of 100 texts: {summary(120, kept, 120 - kept).strip()}. Relax the filters, or raise "
        "--tries above 120 and pass --resume\n"
    )
    assert run(capsys, *arguments, "--out", str(out), "--tries", "120", "--resume") == (1, "", err)
    assert run(capsys, *arguments, "--out", str(whole))[0] == 0
    resumed = run(capsys, *arguments, "--out", str(out), "--resume")
    assert resumed[0] == 0
    assert out.read_bytes() == whole.read_bytes()
    assert resumed[2] == run(capsys, *arguments)[2]
    assert not out.with_name(out.name + ".run").exists()


def test_count_that_cannot_be_reached(capsys: pytest.CaptureFixture[str], items: str) -> None:
    arguments = ["sample", "-m", items, "--count", "5", "--seed", "1", "--unique", "--pattern", "a|b|cc"]
    code, said, err = run(capsys, *arguments, "--format", "txt")
    assert (code, sorted(said.splitlines())) == (1, ["a", "b", "cc"])
    assert err == (
        f"knock: error: got 3 of 5 texts: {summary(ALL, 3, ALL - 3).strip()}. Relax the filters, or raise --tries "
        f"above {ALL:,}\n"
    )


# Resuming


@pytest.mark.parametrize("form", ["jsonl", "txt"])
def test_truncated_run_is_resumed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    items: str,
    known: Path,
    tmp_path: Path,
    form: str,
) -> None:
    """The rows and the summary are those of an uninterrupted run, wherever the file ends."""
    out = tmp_path / f"o.{form}"
    arguments = ["sample", "-m", items, "--count", "60", "--seed", "1", "--unique", "--novel", str(known),
                 "--accept", "a.*", "--out", str(out)]  # fmt: skip
    monkeypatch.setattr("knock.cli.sample.output._FLUSH_SECONDS", -1)  # a journal line for every row
    with monkeypatch.context() as patch:
        patch.setattr(RowFile, "finish", lambda self: None)
        expected = run(capsys, *arguments)[2]
    content, journal = out.read_bytes(), out.with_name(out.name + ".run").read_bytes()
    for size in range(0, len(content), len(content) // 9):
        out.write_bytes(content[:size])
        out.with_name(out.name + ".run").write_bytes(journal)
        assert run(capsys, *arguments, "--resume") == (0, "", expected)
        assert out.read_bytes() == content


def test_interrupted_run_is_resumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, items: str, tmp_path: Path
) -> None:
    out, whole = tmp_path / "o.txt", tmp_path / "w.txt"
    arguments = ["sample", "-m", items, "--count", "3000", "--seed", "1", "--unique"]
    expected = run(capsys, *arguments, "--out", str(whole))
    calls = itertools.count()

    def work(job: Any, threads: int, progress: Callable[[int], None]) -> None:
        from knock.engine.batch import work_together

        work_together(job, threads, progress)
        if next(calls) % 3 == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("knock.engine.engine.work_together", work)
    code, said, err = run(capsys, *arguments, "--out", str(out), "--resume")
    kept = out.read_bytes().count(b"\n")
    assert (code, said) == (130, "")
    assert err.startswith(f"interrupted; {kept:,} rows are in {out}; pass --resume to continue\ndrawn ")
    assert f", kept {kept:,}; dropped: " in err
    while code == 130:
        code, _, err = run(capsys, *arguments, "--out", str(out), "--resume")
    assert (code, err) == (expected[0], expected[2])
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("form", ["jsonl", "txt"])
def test_finished_run_is_recognised_and_extended(
    capsys: pytest.CaptureFixture[str], items: str, known: Path, tmp_path: Path, form: str
) -> None:
    out, whole = tmp_path / f"o.{form}", tmp_path / f"w.{form}"
    arguments = ["sample", "-m", items, "--seed", "1", "--unique", "--novel", str(known), "--out", str(out)]
    _, _, first = run(capsys, *arguments, "--count", "100")
    content = out.read_bytes()
    code, _, err = run(capsys, *arguments, "--count", "100", "--resume")
    assert (code, err.splitlines()[0]) == (0, f"{out} is complete: 100 rows")
    if form == "txt":  # all rows were generated again
        assert err.splitlines()[1] == first.strip()
    else:
        count = re.match("drawn ([0-9,]+), kept 100;", first)[1]  # type: ignore[index]
        gone = int(count) - 100
        assert err.splitlines()[1] == f"{summary(int(count), 100).strip()}, {gone} in an earlier run"
    assert out.read_bytes() == content
    assert run(capsys, *arguments, "--count", "150", "--resume")[0] == 0
    run(capsys, *arguments, "--count", "150", "--out", str(whole))
    assert out.read_bytes() == whole.read_bytes()
    code, _, err = run(capsys, *arguments, "--count", "100", "--resume")
    assert (code, "has more than the 100 rows of this run" in err) == (1, True)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("more", [["--accept", "[ab]*"], ["--accept", ".*", "--novel", "{out}"], ["--unique"]])
def test_finished_run_of_other_filters_is_rejected(
    capsys: pytest.CaptureFixture[str], items: str, tmp_path: Path, more: list[str]
) -> None:
    """Whether they would have kept less than there is, or more."""
    out, other = tmp_path / "o.jsonl", tmp_path / "known.txt"
    arguments = ["sample", "-m", items, "--seed", "1", "--count", "150", "--out", str(out)]
    run(capsys, *arguments, "--accept", "[bc]*a[abc]*")
    content = out.read_bytes()
    other.write_text("\n".join(row["text"] for row in rows(out)), encoding="utf-8")
    code, _, err = run(capsys, *arguments, *(each.format(out=other) for each in more), "--resume")
    assert (code, err.count("\n")) == (1, 1)
    assert "is not the output of this run: line" in err
    assert out.read_bytes() == content


def test_filters_belong_to_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, items: str, known: Path, tmp_path: Path
) -> None:
    """A file of known texts may be sorted, but not changed."""
    monkeypatch.setattr(RowFile, "finish", lambda self: None)
    out = tmp_path / "o.jsonl"
    arguments = ["sample", "-m", items, "--seed", "1", "--count", "20", "--novel", str(known), "--out", str(out)]
    run(capsys, *arguments)
    content = out.read_bytes()
    known.write_text("cab\nabc\nb\nab\nb\n", encoding="utf-8")
    assert run(capsys, *arguments, "--resume")[0] == 0
    known.write_text("cab\n", encoding="utf-8")
    for more, difference in [
        ([], "--novel was '"),
        (["--keep-cut"], "--keep-cut was False and is True"),
        (["--max-overlap", "9", str(known)], "--max-overlap was None and is [9, '"),
        (["--max-length", "9"], "--max-length was None and is 9"),
    ]:
        code, _, err = run(capsys, *arguments, "--resume", *more)
        assert (code, err.count("\n")) == (1, 1)
        assert f"{str(out)!r} belongs to another run: " in err
        assert difference in err
    assert out.read_bytes() == content


# Invalid input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep-cut"], "--keep-cut is for rows that are filtered; give --unique, --novel"),
        (["--tries", "9"], "--tries is for rows that are filtered"),
        (["--unique", "--tries", "9", "--count", "10"], "--tries 9 is below --count 10; raise it"),
        (["--unique", "--tries", "0"], "argument --tries: must be a whole number of at least 1, got '0'"),
        (["--accept", "("], "argument --accept: not a regular expression: missing )"),
        (["--max-overlap", "x", "f"], "argument --max-overlap: N must be a whole number from 1 to 1000000, got 'x'"),
        (["--count", "1" + 30 * "0"], "-n/--count: must be a whole number from 1 to 1000000000000000, got '1000"),
        (["--unique", "--tries", "1" + 30 * "0"], "--tries: must be a whole number from 1 to 1000000000000000, got"),
        (["--max-overlap", "3", "f", "--max-overlap", "4", "f"], "--max-overlap must have the same N for each FILE"),
        (["--pattern", "("], "("),
        (["--pattern", "[abc]{9}", "--length", "8"], "the shortest text that matches the constraints takes"),
        (["--min-length", "5", "--max-length", "4"], "--min-length=5 is above --max-length=4"),
    ],
)
def test_usage(
    capsys: pytest.CaptureFixture[str], items: str, tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, said, err = run(capsys, "sample", "-m", items, "--out", str(tmp_path / "o.txt"), *arguments)
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_tries_are_for_one_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "sample", "--prompts", "-", "--unique", "--tries", "5")
    assert (code, "--tries is for one PROMPT" in err) == (2, True)


@pytest.mark.parametrize("option", [["--novel"], ["--max-overlap", "5"]])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read '{path}': no such file or directory; check the path"),
        (b"", "'{path}' is empty, so nothing can be compared with it; pass a file with text"),
        (b"\n\n", "'{path}' is empty"),
        (b"caf\xe9\n", "'{path}' is not UTF-8 text: byte 0xe9 at offset 3"),
    ],
)
def test_files_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str],
    items: str,
    tmp_path: Path,
    option: list[str],
    content: bytes | None,
    message: str,
) -> None:
    path = tmp_path / "known.txt"
    if content is not None:
        path.write_bytes(content)
    code, said, err = run(capsys, "sample", "-m", items, *option, str(path), "--out", str(tmp_path / "o.txt"))
    assert (code, said, err.count("\n")) == (1, "", 1)
    assert message.format(path=path) in err
    assert not (tmp_path / "o.txt").exists()


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ({"kind": "column", "column": "x"}, "t.csv", 'y,x\n1,"{0}"\n2,{1}\n'),
        ({"kind": "paragraphs"}, "t.txt", "{0}\n\n\n{1}\n"),
        ({"kind": "lines"}, "t.txt", "{0}\n{1}\n"),
    ],
)
def test_novel_reads_the_items_that_the_model_learned(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, items: str, kind: dict[str, str], name: str, content: str
) -> None:
    lm = load(items)
    lm.training["corpus"] = {"items": kind}
    model, path = str(tmp_path / "m.safetensors"), tmp_path / name
    lm.save(model)
    first, second, *_ = filter(None, dict.fromkeys(drawn(items, 20, max_new_tokens=1000)))
    path.write_text(content.format(first, second), encoding="utf-8")
    _, said, err = run(capsys, "sample", "-m", model, "-n", "9", "--seed", "1", "--novel", str(path), "--format", "txt")
    assert not {first, second} & set(said.splitlines())
    assert not re.search(" 0 copies", err)
    assert not {first, second} & set(lm.items(9, seed=1, sampling="balanced", novel=path))


def test_max_overlap_reads_the_items_that_the_model_learned(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, items: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lm = load(items)
    lm.training["corpus"] = {"items": {"kind": "column", "column": "x"}}
    model, path, listed = str(tmp_path / "m.safetensors"), tmp_path / "t.parquet", tmp_path / "t.txt"
    lm.save(model)
    some = [text for text in drawn(items, 20, max_new_tokens=1000) if len(text) >= 3][:2]
    parquet.write_table(pyarrow.table({"y": ["abcabc", "bcabca"], "x": some}), path)
    listed.write_text("\n".join(some), encoding="utf-8")
    arguments = ["sample", "-m", model, "-n", "30", "--seed", "1", "--unique", "--max-overlap", "3"]
    made = [run(capsys, *arguments, str(file)) for file in (path, listed)]
    assert made[0] == made[1]
    assert " 0 overlaps" not in made[0][2]
    assert "overlaps" in made[0][2]
    expected = lm.items(30, seed=1, sampling="balanced", max_overlap=(3, path))
    assert [json.loads(line)["text"] for line in made[0][1].splitlines()] == expected
