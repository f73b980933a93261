"""Tests of `knock sample --resume`: interrupted, killed and finished runs, and files that are no such run."""

from __future__ import annotations

import io
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import LanguageModel, Prompt, load
from knock.choices import Precision
from knock.errors import OutputError
from knock.generation.filters import Filters
from knock.generation.requests import RequestBuilder
from knock.jobs.row_file import RowFile
from knock.jobs.row_filter import RowFilter
from knock.jobs.rows import line_of, row_of
from tests.cli.test_main import KNOCK, run
from tests.cli.test_sample import FAST, POSIX, expected, rows


def write_rows(path: Path, made: list[dict[str, Any]], form: Any, unique: bool, resume: bool) -> dict[str, int]:
    """Write given rows like the command, flushing after two of every three; return what the filters dropped."""
    filter_ = RowFilter(Filters(unique=True, accept=r"[^3]*"), of_items=False) if unique else None
    with RowFile(path, {"seed": 1}, form, filter_=filter_, resume=resume) as file:
        for row in made[file.place.index :]:
            file.add(row)
            if row["index"] % 3:
                file.flush()
        file.flush()
    return dict(filter_.filters.dropped) if filter_ is not None else {}


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("form", ["jsonl", "txt"])
def test_file_is_resumable_after_truncation_at_any_byte(tmp_path: Path, form: str, unique: bool) -> None:
    made: list[dict[str, Any]] = [
        {"index": i, "prompt": "é\n", "text": f"{i % 7}\\", "finish_reason": "length", "seed": 1} for i in range(20)
    ]
    made[5] = {**made[5], "prompt": "", "text": "", "error": "no"}
    made[15] = {**made[15], "prompt": "", "text": ""}
    path, journal = tmp_path / "rows", tmp_path / "rows.run"
    dropped = write_rows(path, made, form, unique, False)
    assert dropped == ({"repeats": 9, "not accepted": 3} if unique else {})
    content, log = path.read_bytes(), journal.read_bytes()
    assert content.count(b"\n") == (20 if not unique else 8 if form == "jsonl" else 7)
    first = log.index(b"\n") + 1
    cuts = itertools.chain(
        ((size, len(log)) for size in range(len(content) + 1)),
        ((len(content), end) for end in range(first, len(log) + 1)),
        zip(range(0, len(content), 7), itertools.cycle(range(first, len(log), 11)), strict=False),
        ((0, end) for end in range(first)),  # before the first row
    )
    for size, end in cuts:
        path.write_bytes(content[:size])
        journal.write_bytes(log[:end])
        assert write_rows(path, made, form, unique, True) == dropped
        assert path.read_bytes() == content, (size, end)
        assert journal.read_bytes().splitlines()[-1] == log.splitlines()[-1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["rows", "rows.run"]


@POSIX
def test_killed_runs_are_resumable(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A run that is killed and resumed several times writes the same file as an uninterrupted run."""
    once, often = tmp_path / "once.jsonl", tmp_path / "often.jsonl"
    arguments = ("sample", "ROMEO:", "--count", "30000", "--length", "20", "--seed", "5", "--unique", "--model",
                 "shakespeare-hybrid")  # fmt: skip
    run(capsys, *arguments, "--out", str(once))
    # The journal is written after every row, so that the kill hits a write or falls between two.
    code = f"""
import sys, os, signal, threading
from knock.cli import main
from knock.cli.sample import output as sample_rows
sample_rows._FLUSH_SECONDS = -1
threading.Timer(float(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
sys.exit(main.main({[*arguments, "--out", str(often), "--resume"]!r}))
"""
    killed = 0
    for seconds in (0.5, 0.8, 1.1, 1.4, 1.7):
        done = subprocess.run([sys.executable, "-c", code, str(seconds)], check=False, capture_output=True)
        killed += done.returncode == -signal.SIGKILL
        if done.returncode == 0:
            break
    assert killed
    assert run(capsys, *arguments, "--out", str(often), "--resume")[0] == 0
    assert often.read_bytes() == once.read_bytes()


@POSIX
@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "-"])
def test_interrupt_keeps_finished_rows(tmp_path: Path, shakespeare: LanguageModel, name: str) -> None:
    out = tmp_path / name
    path = out if name != "-" else tmp_path / "stdout"
    arguments = ["sample", "ROMEO:", "--count", "1000000", "--length", "100", "--seed", "5", "--threads", "2",
                 "--model", "shakespeare-hybrid", "--sampling", "basic"]  # fmt: skip
    place = ["--out", str(out) if name != "-" else "-"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs may ignore it
    try:
        with path.with_suffix(".stdout").open("wb") as stdout:
            running = subprocess.Popen([*KNOCK, *arguments, *place], stdout=stdout, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    waited_for = {"out.jsonl": out, "out.parquet": tmp_path / "out.parquet.run-part", "-": path.with_suffix(".stdout")}
    while not (waited_for[name].exists() and waited_for[name].stat().st_size > 100):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    if name == "out.parquet":
        import pyarrow.parquet as pq

        texts = [row["text"] for row in pq.read_table(out).to_pylist()]
        assert err.decode() == f"interrupted; {len(texts):,} rows are in {out}\n"
    else:
        texts = [row["text"] for row in rows(waited_for[name])]
        more = f"interrupted; {len(texts):,} rows are in {out}; pass --resume to continue\n"
        assert err.decode() == (more if name != "-" else "")
    whole = shakespeare.generate_batch(["ROMEO:"], n=len(texts), seed=5, max_new_tokens=100)
    assert texts == [text.text for text in whole]
    assert not (tmp_path / "out.parquet.run-part").exists()


@pytest.mark.parametrize("threads", ["1", "2", "4"])
def test_interrupted_and_resumed_rows_are_unchanged(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shakespeare: LanguageModel,
    threads: str,
) -> None:
    """Interrupt a run of 10,000 rows again and again."""
    out = tmp_path / "rows.jsonl"
    calls = itertools.count()

    def work(job: Any, threads: int, progress: Callable[[int], None]) -> None:
        from knock.engine.batch import work_together

        work_together(job, threads, progress if next(calls) % 2 else None)
        if not next(calls) % 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("knock.engine.engine.work_together", work)
    arguments = ("sample", "A", "--count", "10000", *FAST, "--threads", threads, "--out", str(out), "--resume")
    codes = [run(capsys, *arguments)[0]]
    while codes[-1] == 130:
        codes.append(run(capsys, *arguments)[0])
    assert codes[-1] == 0
    assert len(codes) > 3
    monkeypatch.undo()
    texts = shakespeare.generate_batch(["A"], n=10_000, seed=3, max_new_tokens=12, threads=1)
    assert rows(out) == expected(texts)


def test_finished_run_can_be_extended(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By a larger --count or by more prompt lines; the seed of the first run is kept."""
    out, whole, path = tmp_path / "o.jsonl", tmp_path / "w.jsonl", tmp_path / "p.txt"
    run(capsys, "sample", "A", "--count", "5", "--length", "9", "--out", str(out))
    seed = str(rows(out)[0]["seed"])
    run(capsys, "sample", "A", "--count", "9", "--length", "9", "--out", str(out), "--resume")
    run(capsys, "sample", "A", "--count", "9", "--length", "9", "--out", str(whole), "--seed", seed)
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["o.jsonl", "w.jsonl"]
    for each in (out, whole):
        each.unlink()
    path.write_text("A\nB", encoding="utf-8")
    run(capsys, "sample", "--prompts", str(path), *FAST, "--out", str(out))
    path.write_text("A\nB\nC\n", encoding="utf-8")
    assert run(capsys, "sample", "--prompts", str(path), *FAST, "--out", str(out), "--resume")[0] == 0
    assert [row["prompt"] for row in rows(out)] == ["A", "B", "C"]


def leave_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs keep their journal, as if they had been killed before the end."""
    monkeypatch.setattr(RowFile, "finish", lambda self: None)


def test_resume_rejects_other_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leave_unfinished(monkeypatch)
    out, path, model = tmp_path / "o.jsonl", tmp_path / "p.txt", tmp_path / "m.safetensors"
    path.write_text("A\nB\n", encoding="utf-8")
    shakespeare = load("shakespeare-hybrid")
    arrays = dict(shakespeare.model.weights) | {"wout": shakespeare.model.weights["wout"] * 2}
    from knock import ReweightGPT, Weights

    other = ReweightGPT.from_weights(Weights(shakespeare.model.config, arrays))
    LanguageModel(other, shakespeare.vocab).save(model)
    begun = ("sample", "--prompts", str(path), *FAST, "--precision", "float32", "--out", str(out))
    run(capsys, *begun)
    content = out.read_bytes()
    code, _, err = run(capsys, *begun)
    assert (code, err) == (
        1,
        f"knock: error: {str(out)!r} already exists; pass --resume to continue it, --force to overwrite it, or choose "
        "another name\n",
    )
    for more, difference in [
        (["--seed", "4"], "seed was 3 and is 4;"),
        (["--length", "13", "--top-p", "0.5"], "--length was 12 and is 13, --top-p was 1.0 and is 0.5;"),
        (["--count", "2"], "count was 1 and is 2;"),
        (["--model", str(model)], f"model was '{shakespeare.digest}' and is"),
        (["--unique"], "unique was False and is True"),
        (["--accept", "a+"], "accept was None and is 'a+'"),
        (["--pattern", ".+"], "pattern was None and is '.+'"),
        (["--backend", "numpy"], "backend was 'compiled' and is 'numpy'"),
        (["--precision", "int16"], "precision was 'float32' and is 'int16', --backend was 'compiled' and is 'auto'"),
    ]:
        code, _, err = run(capsys, *begun, "--resume", *more)
        assert code == 1
        assert err.startswith(f"knock: error: {str(out)!r} belongs to another run: ")
        assert difference in err
    path.write_text("A\nX\nC\n", encoding="utf-8")
    code, _, err = run(capsys, *begun, "--resume")
    assert code == 1
    assert f"cannot resume {str(out)!r}: the prompts of its first 2 rows have changed in {str(path)!r}" in err
    path.write_text("A\n", encoding="utf-8")
    assert "have changed in" in run(capsys, *begun, "--resume")[2]
    assert out.read_bytes() == content
    out.with_name("o.jsonl.run").unlink()
    monkeypatch.undo()
    code, _, err = run(capsys, *begun, "--resume")
    assert (code, err) == (
        1,
        f"knock: error: {str(out)!r} has more than the 1 row of this run; resume with the original settings, or choose "
        "another name\n",
    )
    assert out.read_bytes() == content
    assert not out.with_name("o.jsonl.run").exists()


@pytest.mark.parametrize(("precision", "backend"), [("int16", "auto"), ("float32", "compiled")])
def test_journal_names_the_precision(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    precision: Precision,
    backend: str,
) -> None:
    """And the backend, if the rows depend on it."""
    leave_unfinished(monkeypatch)
    out, whole = tmp_path / "o.jsonl", tmp_path / "w.jsonl"
    begun = ("sample", "A", *FAST, "--precision", precision, "--log-probs", "--count")
    run(capsys, *begun, "20", "--out", str(out))
    with out.with_name("o.jsonl.run").open(encoding="utf-8") as lines:
        settings = json.loads(next(lines))
    assert (settings["precision"], settings["backend"]) == (precision, backend)
    run(capsys, *begun, "50", "--out", str(whole))
    assert run(capsys, *begun, "50", "--out", str(out), "--resume")[0] == 0
    assert out.read_bytes() == whole.read_bytes()
    lm = load("shakespeare-hybrid", backend="compiled", precision=precision)
    texts = lm.generate_batch(["A"], n=50, seed=3, max_new_tokens=12, token_stats=True)
    assert rows(out) == json.loads(json.dumps([row_of(text, log_probs=True) for text in texts]))


def test_finished_run_of_another_precision_is_not_taken_for_this_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "o.jsonl"
    begun = ("sample", "A", *FAST, "--log-probs", "--out", str(out), "--count")
    run(capsys, *begun, "5", "--precision", "int16")
    content = out.read_bytes()
    code, said, err = run(capsys, *begun, "9", "--resume", "--precision", "float32")
    assert (code, said, err) == (
        1,
        "",
        f"knock: error: {str(out)!r} is not the output of this run: line 1 differs. Resume with the original settings, "
        "--precision and --backend, or choose another name\n",
    )
    assert out.read_bytes() == content
    assert run(capsys, *begun, "9", "--resume", "--precision", "int16")[0] == 0
    assert len(rows(out)) == 9


FINISHED = ["sample", "A", "--count", "30", "--unique", *FAST]
NOTHING_DROPPED = "drawn {0}, kept {0}; dropped: 0 repeats, 0 copies, 0 cut, 0 not accepted\n"


@pytest.mark.parametrize("form", ["jsonl", "txt"])
def test_finished_run_leaves_no_journal_and_is_recognised(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str
) -> None:
    out, whole = tmp_path / f"o.{form}", tmp_path / f"w.{form}"
    arguments = [*FINISHED, "--out", str(out)]
    assert run(capsys, *arguments)[0] == 0
    content, changed = out.read_bytes(), out.stat().st_mtime_ns
    assert [each.name for each in tmp_path.iterdir()] == [out.name]
    code, said, err = run(capsys, *arguments, "--resume")
    assert (code, said, err) == (0, "", f"{out} is complete: 30 rows\n{NOTHING_DROPPED.format(30)}")
    assert (out.read_bytes(), out.stat().st_mtime_ns) == (content, changed)
    longer = [*arguments, "--count", "45"]
    assert run(capsys, *longer, "--resume") == (0, "", NOTHING_DROPPED.format(45))
    run(capsys, *longer, "--out", str(whole))
    assert out.read_bytes() == whole.read_bytes()
    out.write_bytes(whole.read_bytes()[:-9])  # a journal lost after an interruption
    assert run(capsys, *longer, "--resume")[0] == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == [out.name, whole.name]


@pytest.mark.parametrize(
    ("more", "change", "message"),
    [
        ([], lambda content: content.replace(b'"index": 7', b'"index": 9'), "line 9 differs. Resume with the original"),
        ([], lambda content: content + b"{}\n", "line 31 differs"),
        ([], lambda content: content.replace(b'"index": 7,', b'"index":  7,'), "line 8 differs"),
        ([], lambda content: content + content.splitlines()[-1][:20], "has more than the 30 rows of this run"),
        ([], lambda content: b"{}\n" * 30, "has no journal: it is finished, or another"),
        ([], lambda content: b"a foreign text", "its first line is no row"),
        (["--seed", "4"], lambda content: content, "line 1 differs"),
        (["--length", "13"], lambda content: content, "line 1 differs"),
        (["--top-k", "2"], lambda content: content, "differs"),
        (["--count", "29"], lambda content: content, "has more than the 29 rows of this run"),
    ],
)
def test_other_files_are_not_taken_for_finished_runs(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    more: list[str],
    change: Callable[[bytes], bytes],
    message: str,
) -> None:
    out = tmp_path / "o.jsonl"
    arguments = [*FINISHED, "--out", str(out)]
    run(capsys, *arguments)
    out.write_bytes(change(out.read_bytes()))
    content = out.read_bytes()
    without_seed = arguments[: arguments.index("--seed")] + arguments[arguments.index("--seed") + 2 :]
    code, said, err = run(capsys, *(arguments if more[:1] == ["--seed"] else without_seed), *more, "--resume")
    assert (code, said, err.count("\n")) == (1, "", 1)
    assert message in err
    assert out.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["o.jsonl"]


def test_finished_run_without_one_of_its_rows_is_rejected(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    arguments = ["sample", "A", "--count", "600", *FAST, "--out", str(out)]
    run(capsys, *arguments)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:9] + lines[10:]))
    code, _, err = run(capsys, *arguments, "--resume")
    assert (code, err.count("\n")) == (1, 1)
    assert "is not the output of this run" in err
    out.write_bytes(b"".join(lines))
    assert run(capsys, *arguments, "--resume") == (0, "", f"{out} is complete: 600 rows\n")


def test_few_rows_of_a_finished_run_are_generated_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, path = tmp_path / "o.jsonl", tmp_path / "p.jsonl"
    path.write_text('{"prompt": "A"}\n' * 900 + "no\n" * 50 + '{"prompt": "B"}\n' * 50, encoding="utf-8")
    arguments = ["sample", "--prompts", str(path), "--count", "3", "--unique", "--skip-bad", *FAST, "--length", "2"]
    assert "2,850, kept " in run(capsys, *arguments, "--out", str(out))[2]
    generated: list[int] = []

    class Counting(RequestBuilder):
        def rows(self, prompt: Any, *others: Any) -> Any:
            if isinstance(prompt, Prompt):  # not the one that is validated first
                generated.append(prompt.index)
            return super().rows(prompt, *others)

    monkeypatch.setattr("knock.language_model.RequestBuilder", Counting)
    content = out.read_bytes()
    code, _, err = run(capsys, *arguments, "--out", str(out), "--resume")
    drawn = 2999 - rows(out)[-1]["index"]  # after the last row
    kept = len(rows(out))
    assert (code, err.splitlines()[-3:]) == (0, [
        f"{out} is complete: {kept:,} rows",
        f"drawn 2,850, kept {kept:,}; dropped: {drawn:,} repeats, 0 copies, 0 cut, 0 not accepted, "
        f"{2850 - kept - drawn:,} in an earlier run",
        "invalid prompt lines skipped: 50",
    ])  # fmt: skip
    assert out.read_bytes() == content
    indices = {row["index"] for row in rows(out)}
    assert len([index for index in generated if index in indices]) <= 256
    missing = [index for index in generated if index not in indices]
    assert 100 < len([index for index in missing if index < max(indices)]) <= 256
    assert [index for index in missing if index > max(indices)] == list(range(max(indices) + 1, 3000))


def test_finished_text_needs_its_seed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "o.txt"
    arguments = ["sample", "A", "--count", "3", "--length", "9", "--out", str(out)]
    code, _, err = run(capsys, *arguments)
    name, seed = err.split()
    assert (code, name) == (0, "seed")
    code, _, err = run(capsys, *arguments, "--resume")
    assert (code, err.count("\n")) == (1, 1)
    assert "To compare it with this run, and to continue it, pass the run's --seed" in err
    assert run(capsys, *arguments, "--resume", "--seed", seed) == (0, "", f"{out} is complete: 3 rows\n")


def test_finished_run_with_skipped_lines_is_recognised(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, out = tmp_path / "p.jsonl", tmp_path / "o.txt"
    path.write_text('{"prompt": "A"}\nno\n{"prompt": "é"}\n{"prompt": "B"}\nno\n', encoding="utf-8")
    arguments = ["sample", "--prompts", str(path), "--skip-bad", "--count", "2", *FAST, "--out", str(out)]
    code, _, first = run(capsys, *arguments)
    content = out.read_bytes()
    assert (code, content.count(b"\n")) == (1, 6)
    assert run(capsys, *arguments, "--resume") == (1, "", first.replace(
        "invalid prompt", f"{out} is complete: 6 rows\ninvalid prompt", 1
    ))  # fmt: skip
    assert out.read_bytes() == content


def test_file_in_the_place_of_the_journal_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, other = tmp_path / "o.jsonl", tmp_path / "o.jsonl.run"
    other.write_text("notes\n", encoding="utf-8")
    code, _, err = run(capsys, "sample", "A", *FAST, "--out", str(out))
    assert (code, err.count("\n")) == (1, 1)
    assert f"{str(other)!r} is needed for the journal" in err
    assert other.read_text(encoding="utf-8") == "notes\n"


@given(st.lists(st.integers(0, 60), max_size=3))
def test_comparing_can_be_interrupted(cuts: list[int]) -> None:
    """Rows of a file without a journal are compared in any portions, and only what follows them is written."""
    made = [{"index": i, "prompt": "A", "text": f"{i}\n"} for i in range(60)]
    content = b"".join(line_of(row, "txt") for row in made)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "o.txt"
        for cut in cuts:
            path.write_bytes(content[: cut * 4])
            with RowFile(path, {}, "txt", resume=True) as file:
                for row in made[:cut]:
                    file.add(row)
                    if row["index"] % 7 == 3:
                        file.flush()
            assert path.read_bytes() in (content[: cut * 4], content[: max(cut * 4, path.stat().st_size)])
            with RowFile(path, {}, "txt", resume=True) as file:
                for row in made[file.place.index :]:
                    file.add(row)
                    if row["index"] % 7 == 3:
                        file.flush()
                file.flush()
                file.finish()
            assert path.read_bytes() == content
            assert [each.name for each in Path(folder).iterdir()] == ["o.txt"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
def test_folder_that_takes_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "sample", "A", "--out", "/proc/o.jsonl")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("knock: error: cannot write '/proc/o.jsonl': ")


def test_file_of_a_running_process_is_rejected(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    with RowFile(out, {}, "jsonl", resume=False):
        code, _, err = run(capsys, "sample", "A", "--out", str(out), "--resume")
    assert (code, err.count("\n")) == (1, 1)
    assert f"another process is writing {str(out)!r}" in err


@POSIX
@pytest.mark.parametrize("name", ["o.jsonl", "o.txt", "o.parquet"])
def test_no_space_left(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    """Complete rows are kept, and the run is resumable; a partial Parquet file is removed."""
    out, whole = tmp_path / name, tmp_path / f"w{name}"
    arguments = ("sample", "A", "--count", "3000", *FAST)
    run(capsys, *arguments, "--out", str(whole))
    code = f"""
import resource, sys
from knock.cli import main
from knock.cli.sample import output as sample_rows
sample_rows._FLUSH_SECONDS = 0.001
import knock.jobs.row_file, knock.language_model
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main.main({[*arguments, "--out", str(out)]!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"knock: error: cannot write {str(out)!r}: " in done.stderr
    assert "file too large" in done.stderr.lower()
    assert done.stderr.count("\n") == 1
    if name == "o.parquet":
        assert [each.name for each in tmp_path.iterdir()] == [whole.name]
        return
    content = out.read_bytes()
    assert content == b"".join(whole.read_bytes().splitlines(keepends=True)[: content.count(b"\n")])
    assert 0 < len(content) <= 20_000
    assert run(capsys, *arguments, "--out", str(out), "--resume")[0] == 0
    assert out.read_bytes() == whole.read_bytes()


def test_failed_write_can_be_retried(tmp_path: Path) -> None:
    """A partial write of the rows or the journal leaves both files unchanged."""
    path = tmp_path / "o"
    row = {"index": 0, "prompt": "", "text": "A" * 50}

    class Full(io.RawIOBase):
        def __init__(self, file: Any, room: int) -> None:
            self.file, self.room = file, room

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            written = self.file.write(data[: self.room])
            self.room -= written
            return int(written)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def truncate(self, size: int | None = None) -> int:
            return int(self.file.truncate(size))

        def seek(self, place: int, whence: int = 0) -> int:
            return int(self.file.seek(place, whence))

    for name, room in itertools.product(("_file", "_journal"), range(0, 80, 5)):
        with RowFile(path, {}, "jsonl", resume=False) as rows:
            rows.add(row)
            rows.flush()
            file, states = getattr(rows, name), [each.read_bytes() for each in (path, tmp_path / "o.run")]
            setattr(rows, name, Full(file, room))
            rows.add({**row, "index": 1})
            with pytest.raises(OutputError, match="no space left on device; its first 1 row can be kept"):
                rows.flush()
            assert [each.read_bytes() for each in (path, tmp_path / "o.run")] == states
            setattr(rows, name, file)
            rows.flush()
        assert [json.loads(line)["index"] for line in path.read_bytes().splitlines()] == [0, 1]
        path.unlink()


@pytest.mark.parametrize("change", ["first line gone", "no JSON", "another row"])
def test_changed_file_is_not_resumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    leave_unfinished(monkeypatch)
    out = tmp_path / "o.jsonl"
    arguments = ["sample", "A", "--count", "30", *FAST, "--unique", "--out", str(out)]
    assert run(capsys, *arguments)[0] == 0
    content = out.read_bytes()
    first, rest = content.split(b"\n", 1)
    changed = {
        "first line gone": rest + b"x" * (len(first) + 1),
        "no JSON": b"x" * len(first) + b"\n" + rest,
        "another row": first.replace(b'"prompt"', b'"Prompt"') + b"\n" + rest,
    }[change]
    out.write_bytes(changed)
    code, _, err = run(capsys, *arguments, "--resume")
    assert (code, err.count("\n")) == (1, 1)
    assert "has been changed since it was written" in err
    assert out.read_bytes() == changed


def test_journal_without_its_file_is_ignored(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leave_unfinished(monkeypatch)
    out = tmp_path / "o.jsonl"
    assert run(capsys, "sample", "A", *FAST, "--out", str(out))[0] == 0
    out.unlink()
    assert run(capsys, "sample", "A", "--seed", "9", "--length", "5", "--out", str(out), "--resume")[0] == 0
    assert [row["seed"] for row in rows(out)] == [9]
