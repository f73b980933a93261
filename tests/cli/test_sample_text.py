"""Tests of `knock sample`: .txt rows and prompts, stop strings, names of files, and rows on a terminal."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.jobs.prompt_file import PromptFile
from knock.jobs.rows import line_of
from tests.cli.test_main import KNOCK, run
from tests.cli.test_sample import FAST, POSIX, read, rows


def test_text_rows_can_be_read_as_prompts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, more = tmp_path / "o.txt", tmp_path / "more.jsonl"
    arguments = ["sample", "A\n", "--count", "20", "--length", "60", "--seed", "1"]
    _, full, _ = run(capsys, *arguments)
    run(capsys, *arguments, "--out", str(out))
    run(capsys, "sample", "--prompts", str(out), "--length", "1", "--out", str(more))
    assert [row["prompt"] for row in rows(more)] == [
        row["prompt"] + row["text"] for row in map(json.loads, full.splitlines())
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_rows_are_inverted_by_the_reader(text: str) -> None:
    line = line_of({"prompt": text, "text": ""}, "txt")
    assert line.count(b"\n") == 1
    text = text.removeprefix("\ufeff")  # a byte-order mark
    assert [prompt.text for prompt in PromptFile([line], "it", is_jsonl=False)] == [text]


def test_escapes_of_plain_prompts() -> None:
    line = r"a\nb\tc\rd\\n \x \ü C:\dir " + "\\\n"
    (prompt,) = PromptFile([line.encode()], "it", is_jsonl=False)
    assert prompt.text == "a\nb\tc\rd\\n \\x \\ü C:\\dir \\"


@pytest.mark.parametrize("unique", [[], ["--unique"]])
def test_only_new_leaves_the_prompt_out(capsys: pytest.CaptureFixture[str], tmp_path: Path, unique: list[str]) -> None:
    path, out = tmp_path / "p.txt", tmp_path / "o.txt"
    path.write_text("A\nB\n" * 40, encoding="utf-8")
    arguments = ["sample", "--prompts", str(path), *FAST, "--length", "1"]
    texts = [row["text"] for row in map(json.loads, run(capsys, *arguments)[1].splitlines())]
    run(capsys, *arguments, *unique, "--only-new", "--out", str(out))
    expected = list(dict.fromkeys(texts)) if unique else texts
    assert out.read_text(encoding="utf-8").splitlines() == [text.replace("\n", "\\n") for text in expected]
    assert "is complete" in run(capsys, *arguments, *unique, "--only-new", "--out", str(out), "--resume")[2]


def test_stop_string_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["sample", "A", "--count", "200", *FAST, "--stop", "e", "--stop", r"\n", "--stop", "th"]
    made = [json.loads(line) for line in run(capsys, *arguments)[1].splitlines()]
    assert {row["stop_string"] for row in made} == {"e", "\n", "th", None}
    free = [json.loads(line) for line in run(capsys, "sample", "A", "--count", "200", *FAST)[1].splitlines()]
    for row, whole in zip(made, free, strict=True):
        assert (row["stop_string"] is None) == (row["finish_reason"] == "length")
        assert whole["text"].startswith(row["text"] + (row["stop_string"] or ""))


def test_impossible_stop_strings_get_one_notice(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"stop": "É"}\n' * 20 + '{"stop": "ab", "max_new_tokens": 1}\n', encoding="utf-8")
    code, said, err = run(capsys, "sample", "--prompts", str(path), *FAST, "--stop", "€", "--stop", "e" * 13)
    assert (code, said.count("\n")) == (0, 21)
    assert err.splitlines() == [
        "knock: the stop string '€' can never end a text: the model does not know '€'",
        "knock: the stop string 'eeeeeeeeeeeee' can never end a text: it has 13 characters, and a text at most 12",
        "knock: the stop string 'É' can never end a text: the model does not know 'É'",
        "knock: the stop string 'ab' can never end a text: it has 2 characters, and a text at most 1",
    ]


@pytest.mark.parametrize("name", ["o.JSONL", "o.Txt", "o.PARQUET"])
def test_suffixes_of_any_case(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    (tmp_path / "P.JSONL").write_text('{"prompt": "A"}\n', encoding="utf-8")
    out, lower = tmp_path / name, tmp_path / f"lower.{name[2:].lower()}"
    for each in (out, lower):
        assert run(capsys, "sample", "--prompts", str(tmp_path / "P.JSONL"), *FAST, "--out", str(each))[0] == 0
    assert out.read_bytes() == lower.read_bytes()


@POSIX
def test_rows_on_a_terminal_have_no_progress_bar() -> None:
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen(
        [*KNOCK, "sample", "A", "--count", "1", *FAST], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b"".join(iter(lambda: read(ours), b"")).decode().splitlines()
    os.close(ours)
    assert running.wait() == 0
    assert json.loads(shown[0])["index"] == 0
    assert shown[1].startswith("1 text, ")
    assert len(shown) == 2
