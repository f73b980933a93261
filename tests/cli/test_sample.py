"""Tests of `knock sample`: sources of prompts, the order of rows, and resuming truncated files."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import Generation, LanguageModel, Prompt, Sampling
from knock.errors import PromptError
from knock.jobs.field_names import CONTROLS, FIELDS
from knock.jobs.parquet import RowTable
from knock.jobs.prompt_file import PromptFile
from knock.jobs.rows import LineWriter, Place, line_of
from tests.cli.test_main import KNOCK, process, run

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")
FAST = ["--length", "12", "--seed", "3", "--model", "shakespeare-hybrid", "--sampling", "basic"]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected(texts: list[Generation]) -> list[dict[str, Any]]:
    names = ("index", "prompt", "text", "finish_reason", "stop_string", "seed")
    return [{name: getattr(text, name) for name in names} for text in texts]


# Prompts


def test_rows_equal_those_of_the_library(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shakespeare: LanguageModel
) -> None:
    out = tmp_path / "rows.jsonl"
    assert run(capsys, "sample", "ROMEO:", "--count", "40", *FAST, "--out", str(out)) == (0, "", "")
    texts = shakespeare.generate_batch(["ROMEO:"], n=40, seed=3, max_new_tokens=12)
    assert rows(out) == expected(texts)
    code, said, _ = run(capsys, "sample", "ROMEO:", "--count", "40", *FAST)
    assert (code, said) == (0, out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["prompts.txt", "prompts.jsonl", "prompts.parquet", "-"])
def test_prompts_from_file(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shakespeare: LanguageModel,
    name: str,
) -> None:
    """One per line, with CRLF endings or no final newline; an empty line is a prompt, except in JSON."""
    prompts = ["ROMEO:", "", "to be", "ROMEO:"]
    path, content = tmp_path / name, "\r\n".join(prompts)
    if name.endswith("jsonl"):
        content = "\n\n".join(json.dumps({"prompt": prompt}) for prompt in prompts)
    if name.endswith("parquet"):
        write_parquet(path, {"prompt": prompts})
    elif name == "-":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    else:
        path.write_text(content, encoding="utf-8", newline="")
    source = name if name == "-" else str(path)
    code, said, err = run(capsys, "sample", "--prompts", source, "--count", "2", *FAST)
    assert (code, err) == (0, "")
    texts = shakespeare.generate_batch(prompts, n=2, seed=3, max_new_tokens=12)
    assert [json.loads(line) for line in said.splitlines()] == expected(texts)


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def test_controls_per_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, shakespeare: LanguageModel) -> None:
    lines = [
        {"prompt": "A", "temperature": 0, "max_new_tokens": 30},
        {"prompt": "A", "sampling": "top_k", "top_k": 2, "stop": ["e", " "]},
        {"prompt": "A", "logit_bias": {"e": -1e9}, "stop": " "},
        {"prompt": "A", "temperature": None},
        {"sampling": "entropy", "target_entropy": 1.0},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    code, said, _ = run(capsys, "sample", "--prompts", str(path), *FAST, "--top-p", "0.5")
    default = Sampling(top_p=0.5)
    prompts = [
        Prompt("A", sampling=Sampling(top_p=0.5, temperature=0), max_new_tokens=30),
        Prompt("A", sampling=Sampling(top_k=2), stop=["e", " "]),
        Prompt("A", sampling=Sampling(top_p=0.5, logit_bias={"e": -1e9}), stop=" "),
        Prompt("A"),
        Prompt(sampling=Sampling.preset("entropy", {"target_entropy": 1.0})),
    ]
    assert code == 0
    texts = shakespeare.generate_batch(prompts, default, seed=3, max_new_tokens=12)
    assert [json.loads(line) for line in said.splitlines()] == expected(texts)


BAD_LINES = [
    (b"no", "not JSON: Expecting value at column 1; write an object"),
    (b'["A"]', "expected a JSON object with a prompt, got ['A']"),
    (b"[" * 100_000, "not JSON"),
    (b'{"promt": "A"}', "unknown field 'promt'; did you mean prompt? To carry it into the rows, rename it"),
    (b'{"prompt": 5}', "prompt must be a string, got 5"),
    (b'{"prompt": 0}', "prompt must be a string, got 0"),
    (b'{"prompt": []}', "prompt must be a string, got []"),
    (b'{"prompt": "\\ud800"}', "prompt has a lone surrogate"),
    (b'{"stop": ["e", "\\ud800"]}', "stop has a lone surrogate"),
    (b'{"logit_bias": {"\\ud800": 1}}', "lone surrogate"),
    (b'{"temperature": -1}', "temperature must be 0 (greedy) or"),
    (b'{"sampling": "nucleus"}', "sampling must be a Sampling or one of balanced, basic"),
    (b'{"sampling": {"top_p": 1}}', "sampling must be a Sampling or one of balanced, basic"),
    (b'{"max_new_tokens": 1.5}', "max_new_tokens must be a whole number from 0 to 268435456, got 1.5"),
    (b'{"stop": [5]}', "stop"),
    (b'{"logit_bias": "e"}', "logit_bias must map tokens to numbers, got 'e'"),
    (b'{"id": "\\ud800"}', "id has a lone surrogate"),
    (b'{"id": {"a": ["\\ud800"]}}', "id has a lone surrogate"),
    (b'{"\\ud800": 1}', "a name has a lone surrogate"),
    (b'{"id": ' + b"[" * 200 + b"]" * 200 + b"}", "'id' has values nested more than 100 deep"),
    (b'{"prompt": "\xff"}', "not UTF-8 text: byte 0xff at offset 12"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_invalid_line_is_reported_after_earlier_rows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, line: bytes, message: str
) -> None:
    path, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(b'{"prompt": "A"}\n\n' + line + b'\n{"prompt": "B"}\n')
    code, said, err = run(capsys, "sample", "--prompts", str(path), *FAST, "--out", str(out))
    assert (code, said) == (1, "")
    assert err.startswith(f"knock: error: {str(path)!r}, line 3: ")
    assert message in err
    assert err.count("\n") == 1
    assert [row["prompt"] for row in rows(out)] == ["A"]
    code, _, err = run(capsys, "sample", "--prompts", str(path), *FAST, "--out", str(out), "--resume", "--skip-bad")
    assert (code, [row["index"] for row in rows(out)]) == (0, [0, 2])
    assert "line 3: " in err
    assert err.endswith("invalid prompt lines skipped: 1\n")


def test_invalid_lines_change_no_other_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good, bad, out = tmp_path / "good.jsonl", tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    lines = ['{"prompt": "A"}'] * 60
    good.write_text("\n".join(lines), encoding="utf-8")
    lines[20:35] = ["?"] * 15
    lines[-1] = "?"
    bad.write_text("\n".join(lines), encoding="utf-8")
    _, whole, _ = run(capsys, "sample", "--prompts", str(good), "--count", "2", *FAST)
    arguments = ("sample", "--prompts", str(bad), "--count", "2", *FAST, "--skip-bad", "--out", str(out))
    code, _, err = run(capsys, *arguments)
    expected = [json.loads(line) for line in whole.splitlines()]
    assert rows(out) == expected[:40] + expected[70:118]
    assert code == 0
    assert err.count(", line ") == 10
    assert "further errors are suppressed" in err
    assert "lines skipped: 16" in err
    assert "lines skipped: 16" in run(capsys, *arguments, "--resume")[2]  # nothing left to do
    assert rows(out) == expected[:40] + expected[70:118]


@pytest.mark.parametrize("form", ["jsonl", "txt", "parquet"])
def test_unknown_character_in_one_row(capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    path, out = tmp_path / "p.txt", tmp_path / f"out.{form}"
    path.write_text("A\n" * 300 + "é\n" + "A\n" * 300, encoding="utf-8")
    code, _, err = run(capsys, "sample", "--prompts", str(path), *FAST, "--out", str(out))
    assert code == 1
    assert "row 300: unknown character 'é'" in err
    assert err.endswith("rows with an error: 1\n")
    if form == "txt":
        texts = out.read_text(encoding="utf-8").split("\n")[:-1]
        assert [i for i, text in enumerate(texts) if not text] == [300]
        assert len(texts) == 601
        return
    if form == "parquet":
        import pyarrow.parquet as pq

        read = pq.read_table(out).to_pylist()
        assert [row["index"] for row in read if row["error"] is not None] == [300]
    else:
        read = rows(out)
        assert "error" not in read[299]
    assert [row["index"] for row in read] == list(range(601))
    assert (read[300]["text"], read[300]["finish_reason"]) == ("", "error")
    assert "unknown character 'é'" in read[300]["error"]
    assert run(capsys, "sample", "--prompts", str(path), *FAST, "--unknown", "skip")[0] == 0


def test_invalid_single_prompt_is_reported_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, said, err = run(capsys, "sample", "é", "--count", "1000")
    assert (code, said, err.count("\n")) == (1, "", 1)
    code, _, err = run(capsys, "sample", "A", "--bias", "é=1", "--out", str(tmp_path / "o.jsonl"))
    assert (code, err.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []


def test_fields_match_sampling_and_prompt() -> None:
    assert set(Sampling.__dataclass_fields__) == set(CONTROLS)
    assert {name for name in Prompt.__dataclass_fields__ if name not in ("_", "text", "index", "extra")} < set(FIELDS)


@given(st.lists(st.sampled_from([b"A\n", b"\n", b"B\r\n"]), max_size=8), st.integers(1, 3), st.integers(0, 30))
def test_skip_equals_reading(lines: list[bytes], n: int, index: int) -> None:
    whole = PromptFile(lines, "it", is_jsonl=False, n=n)
    prompts = list(whole)
    index = min(index, len(prompts))
    whole.confirm(len(prompts))
    rest = PromptFile(lines, "it", is_jsonl=False, n=n)
    rest.skip(index)
    rest.confirm(index)
    assert list(rest) == prompts[index:]
    rest.confirm(len(prompts))
    assert (rest.digest, rest.index, rest.skipped) == (whole.digest, len(prompts), 0)


# Rows


def test_statistics_per_character(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shakespeare: LanguageModel
) -> None:
    _, said, _ = run(capsys, "sample", "A", "--count", "3", *FAST, "--log-probs", "--entropies")
    table = tmp_path / "o.parquet"
    run(capsys, "sample", "A", "--count", "3", *FAST, "--log-probs", "--entropies", "--out", str(table))
    import pyarrow.parquet as pq

    read = [json.loads(line) for line in said.splitlines()]
    assert pq.read_table(table).drop_columns("error").to_pylist() == read
    texts = shakespeare.generate_batch(["A"], n=3, seed=3, max_new_tokens=12, token_stats=True)
    for row, text in zip(read, texts, strict=True):
        assert text.token_stats is not None
        np.testing.assert_allclose(row["log_probs"], text.token_stats.log_probs, atol=1e-6)
        np.testing.assert_allclose(row["entropies"], text.token_stats.entropy, atol=1e-6)


def test_txt_rows_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, said, _ = run(capsys, "sample", "A\n", "--count", "20", "--length", "60", "--seed", "1", "--format", "txt")
    _, full, _ = run(capsys, "sample", "A\n", "--count", "20", "--length", "60", "--seed", "1")
    texts = [row["prompt"] + row["text"] for row in map(json.loads, full.splitlines())]
    assert [line.replace("\\n", "\n") for line in said.splitlines()] == texts
    assert line_of({"prompt": "\\n", "text": "\n\r"}, "txt") == b"\\\\n\\n\\r\n"


def test_partial_writes_are_continued() -> None:
    parts: list[bytes] = []

    def write(data: memoryview) -> int:
        parts.append(bytes(data[:3]))
        return len(parts[-1])

    writer = LineWriter(write, "txt")
    writer.add({"index": 0, "prompt": "abc", "text": "defg"})
    writer.flush()
    assert b"".join(parts) == b"abcdefg\n"
    assert writer.place == Place(size=8, rows=1, index=1)


# The command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A", "--prompts", "x"], "give a PROMPT or --prompts FILE, not both"),
        (["A", "--skip-bad"], "--skip-bad needs --prompts FILE"),
        (["A", "--jsonl"], "--jsonl needs --prompts FILE"),
        (["A", "--resume"], "--resume needs --out FILE"),
        (["A", "--out", "x.doc"], ".jsonl, .txt, .csv, .tsv, .parquet, got 'x.doc'; rename it, or pass --format"),
        (["A", "--out", "x"], "--out must end in"),
        (["A", "--only-new", "--out", "x.jsonl"], "--only-new is for .txt rows"),
        (["A", "--out", "x.txt", "--log-probs"], "a .txt file cannot hold --log-probs"),
        (["A", "--out", "x.parquet", "--resume"], "a Parquet file can be neither streamed nor resumed"),
        (["A", "--format", "parquet"], "a Parquet file can be neither streamed nor resumed"),
        (["A", "--threads", "0"], "argument --threads: must be a whole number from 1 to 1024, got '0'"),
        (["A", "--threads", "10000"], "argument --threads: must be a whole number from 1 to 1024, got '10000'"),
        (["A", "--length", str(10**20)], "--length: must be a whole number from 0 to 268435456"),
        (["A", "--count", "0"], "--count: must be a whole number of at least 1"),
        (["A", "--engine", "spark"], "argument --engine: invalid choice"),
    ],
)
def test_usage(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, err = run(capsys, "sample", *arguments)
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", "none.txt"], "cannot read prompts from 'none.txt': no such file"),
        (["--prompts", "."], "cannot read prompts from '.': "),
        (["--prompts", "none.parquet"], "none.parquet"),
        (["--prompts", "text.parquet"], "cannot read 'text.parquet' as Parquet"),
        (["--prompts", "a\0b"], "cannot read prompts from 'a\\x00b': embedded null byte"),
        (["A", "--out", "none/o.jsonl"], "cannot write 'none/o.jsonl': no such file or directory"),
        (["A", "--out", "none/o.parquet"], "cannot write 'none/o.parquet'"),
        (["A", "--out", ".", "--format", "txt"], "'.' is a folder"),
        (["--prompts", ""], "cannot read prompts from ''"),
        (["A", "--out", "a\0b.txt"], "cannot write 'a\\x00b.txt'"),
        (["A", "--out", "text.parquet"], "'text.parquet' already exists; pass --force to overwrite it"),
        (["A", "--model", "none"], "none"),
    ],
)
def test_missing_and_unusable_files(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.parquet").write_text("A\n", encoding="utf-8")
    code, said, err = run(capsys, "sample", *arguments)
    assert (code, said, err.count("\n")) == (1, "", 1)
    assert message in err


def test_missing_pyarrow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for arguments in (["--prompts", "x.parquet"], ["A", "--out", "x.parquet"]):
        code, _, err = run(capsys, "sample", *arguments)
        assert (code, err.count("\n")) == (1, 1)
        assert (
            "Parquet needs pyarrow, which is not installed; in a clone of knock, run: pip install '.[parquet]'" in err
        )


def test_no_table_is_left_if_the_run_fails_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("no", encoding="utf-8")
    out = tmp_path / "o.parquet"
    assert run(capsys, "sample", "--prompts", str(tmp_path / "p.jsonl"), "--out", str(out))[0] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["p.jsonl"]


@POSIX
def test_output_to_a_device_or_pipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "sample", "A", "--count", "3", *FAST, "--out", "/dev/null") == (0, "", "")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    running = subprocess.Popen([*KNOCK, "sample", "A", "--count", "3", *FAST, "--out", str(pipe)])
    assert pipe.read_bytes().decode() == run(capsys, "sample", "A", "--count", "3", *FAST)[1]
    assert running.wait() == 0
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_closed_pipe_ends_the_command(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [*KNOCK, "sample", "A", "--count", "100000000", *FAST], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    assert running.stderr is not None
    assert json.loads(running.stdout.readline())["index"] == 0
    running.stdout.close()
    assert running.wait(timeout=60) == 0
    assert running.stderr.read() == b""
    running.stderr.close()


def test_closed_standard_input() -> None:
    code = "import sys; sys.stdin = None; from knock.cli.main import main; sys.exit(main(['sample', '--prompts', '-']))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("knock: error: standard input is closed")
    assert process("sample", "--prompts", "-", stdin=b"").stdout == b""


@POSIX
def test_waiting_for_prompts_is_interruptible() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen([*KNOCK, "sample", "--prompts", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert running.stdin is not None
    running.stdin.write(b"A\n")
    running.stdin.flush()
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=10) == 130
    assert running.stderr is not None
    assert running.stderr.read() == b""
    running.stdin.close()
    running.stderr.close()


@POSIX
def test_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    """It shows the finished and total texts, the speed and the remaining time, and then disappears."""
    many = ["--count", "40000", "--length", "40", "--model", "shakespeare-hybrid"]
    shown = on_a_terminal("sample", "A", *many, "--out", str(tmp_path / "o.jsonl"))
    assert "/40,000" in shown
    assert "characters/s" in shown
    assert "40,000 texts, " in shown.splitlines()[-1]
    (tmp_path / "p.txt").write_text("A\n" * 700, encoding="utf-8")
    shown = on_a_terminal("sample", "--prompts", str(tmp_path / "p.txt"), *FAST, "--out", str(tmp_path / "q.txt"))
    assert "/700" in shown


def on_a_terminal(*arguments: str) -> str:
    """Return the standard error of a command that is run on a terminal."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen([*KNOCK, *arguments], stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b"".join(iter(lambda: read(ours), b""))
    os.close(ours)
    assert running.wait() == 0
    return shown.decode()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the end of the output, on Linux
        return b""


def test_prompts_are_read_lazily(capsys: pytest.CaptureFixture[str], shakespeare: LanguageModel) -> None:
    """Endless prompts work, because only the needed ones are read."""
    taken = itertools.count()

    def endless() -> Iterator[bytes]:
        while True:
            next(taken)
            yield b"A\n"

    prompts = PromptFile(endless(), "it", is_jsonl=False)
    some = list(itertools.islice(shakespeare.sample_iter(prompts, max_new_tokens=2), 300))
    assert [text.index for text in some] == list(range(300))
    assert next(taken) < 1500


def test_prompt_error_names_its_line() -> None:
    with pytest.raises(PromptError, match="'it', line 2: not JSON"):
        list(PromptFile([b"{}\n", b"{\n"], "'it'", is_jsonl=True))


def test_whole_floats_are_accepted_as_integers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    made = []
    for top_k, limit in ((3, 7), (3.0, 7.0)):
        path.write_text(json.dumps({"top_k": top_k, "max_new_tokens": limit}), encoding="utf-8")
        made.append(run(capsys, "sample", "--prompts", str(path), "--seed", "1"))
    assert made[0] == made[1]
    assert len(json.loads(made[0][1])["text"]) == 7


@pytest.mark.parametrize("length", [-1, 2**28 + 1, 2**63, 10**30])
def test_row_that_is_too_long_is_an_invalid_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, length: int
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, [{}, {"max_new_tokens": length}, {}])), encoding="utf-8")
    code, _, err = run(capsys, "sample", "--prompts", str(path), *FAST)
    assert code == 1
    assert f"line 2: max_new_tokens must be a whole number from 0 to 268435456, got {length}" in err
    code, said, err = run(capsys, "sample", "--prompts", str(path), "--skip-bad", *FAST)
    assert [json.loads(line)["index"] for line in said.splitlines()] == [0, 2]
    assert "line 2: max_new_tokens must be" in err


@pytest.mark.parametrize(
    ("column", "values", "kind", "message"),
    [
        ("prompt", [b"A"], "binary", "column 'prompt' of 'p.parquet' must hold strings, got binary"),
        ("prompt", [0], "int64", "must hold strings, got int64"),
        ("stop", [b"e"], "binary", "must hold strings, or lists of them, got binary"),
        ("temperature", ["1"], "string", "must hold numbers, got string"),
        ("top_k", [True], "bool_", "must hold numbers, got bool"),
        ("promt", ["A"], "string", "unknown column 'promt'; did you mean prompt?"),
        ("text", ["A"], "string", "column 'text' is one that knock writes into the rows; rename or remove it"),
    ],
)
def test_invalid_columns(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    column: str,
    values: list[Any],
    kind: str,
    message: str,
) -> None:
    import pyarrow as pa

    monkeypatch.chdir(tmp_path)
    write_parquet(Path("p.parquet"), {column: pa.array(values, getattr(pa, kind)())})
    code, said, err = run(capsys, "sample", "--prompts", "p.parquet", "--skip-bad")
    assert (code, said, err.count("\n")) == (1, "", 1)
    assert message in err


def test_columns_of_every_type(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import pyarrow as pa

    columns = {
        "prompt": pa.array(["A"]).dictionary_encode(),
        "stop": pa.array([["e", " "]]),
        "logit_bias": pa.array([[("a", -1.0)]], pa.map_(pa.string(), pa.float32())),
        "top_k": pa.array([5], pa.uint8()),
        "mirostat": pa.nulls(1),
    }
    write_parquet(tmp_path / "p.parquet", columns)
    line = {"prompt": "A", "stop": ["e", " "], "logit_bias": {"a": -1.0}, "top_k": 5}
    (tmp_path / "p.jsonl").write_text(json.dumps(line), encoding="utf-8")
    table, lines = (
        run(capsys, "sample", "--prompts", str(tmp_path / f"p.{form}"), *FAST) for form in ("parquet", "jsonl")
    )
    assert table == lines
    assert table[0] == 0


def test_table_of_a_running_process_is_rejected(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    with RowTable(out):
        code, _, err = run(capsys, "sample", "A", *FAST, "--out", str(out))
        assert (code, err) == (
            1,
            f"knock: error: another process is writing {str(out)!r}; wait for it, or choose another name\n",
        )
    assert [each.name for each in tmp_path.iterdir()] == [out.name]


def test_broken_installation_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "knock.jobs.prompt_file", None)
    code, _, err = run(capsys, "sample", "A")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("knock: error: cannot be started: import of knock.jobs.prompt_file halted")
