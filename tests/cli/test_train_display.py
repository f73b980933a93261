"""Tests of `knock train`: what it shows, and the metrics files it writes."""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from knock import ModelConfig, Vocab
from knock.cli.main import main
from knock.cli.train import display as display_module
from knock.cli.train.display import Display
from knock.cli.train.messages import Messages
from knock.cli.ui import progress as progress_module
from knock.errors import TrainingError
from knock.weights import Weights
from knock_training import trainer
from knock_training.data import Corpus
from knock_training.progress import Progress
from knock_training.recipe import Recipe
from knock_training.sizes import SIZES
from knock_training.state import state_path
from knock_training.trainer import train
from tests.cli.test_main import CORPUS, FAST, KNOCK, run
from tests.cli.test_sample import on_a_terminal, read
from tests.cli.test_train_resume import stopped

PATIENCE = 60.0  # seconds
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")
TINY = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 2, "n_heads": 2}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "mary.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


def test_metrics_of_a_resumed_run(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They equal those of an uninterrupted run."""
    model, metrics = tmp_path / "m.safetensors", tmp_path / "metrics.jsonl"
    options = [*FAST, "--steps", "45", "--eval-interval", "9", "--metrics", str(metrics)]
    arguments = ["train", str(corpus_file), "--out", str(model), *options]
    assert run(capsys, *arguments)[0] == 0
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [9, 10, 18, 20, 27, 30, 36, 40, 45]
    assert [line["step"] for line in lines if line["validation_loss"] is not None] == [9, 18, 27, 36, 45]
    model.unlink()
    code, _, err = run(capsys, *arguments)
    assert (code, f"{str(metrics)!r} already exists; pass --force to overwrite it" in err) == (1, True)

    asked = iter(range(20))
    corpus = Corpus.read(corpus_file)
    shape = {**SIZES["nano"].shape, "T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 1, "n_heads": 2}
    recipe = Recipe(**{**SIZES["nano"].recipe, "steps": 45, "batch_chars": 128, "eval_interval": 9})
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **shape)
    train(config, corpus, recipe, state=state_path(model), should_stop=lambda: next(asked, None) is None)
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines[:6]) + '{"step": 3', encoding="utf-8")
    assert run(capsys, *arguments, "--resume")[0] == 0
    again = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    for name in ("step", "loss", "validation_loss", "learning_rate"):
        assert [line[name] for line in again] == [line[name] for line in lines]


@pytest.mark.parametrize("content", [b"Once upon a time\nthere was.\n", b"no end", b'{"step": "x"}\n', b"\xff\xfe\n"])
def test_metrics_do_not_overwrite_other_files(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    model, other = corpus_file.with_name("m.safetensors"), corpus_file.with_name("other")
    stopped(corpus_file, model)
    other.write_bytes(content)
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), "--resume", "--metrics", str(other))
    assert (code, "so it is left unchanged; choose another name" in err) == (1, True)
    assert other.read_bytes() == content


@POSIX
def test_metrics_to_a_pipe(corpus_file: Path) -> None:
    model = corpus_file.with_name("m.safetensors")
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST, "--metrics", "/dev/stdout"]
    done = subprocess.run([*KNOCK, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    assert [json.loads(line)["step"] for line in done.stdout.splitlines()] == [2, 4, 6]


def test_empty_metrics_file_is_removed(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise TrainingError("no")

    monkeypatch.setattr(trainer, "train", failing)
    model, metrics = corpus_file.with_name("m.safetensors"), corpus_file.with_name("metrics")
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST, "--metrics", str(metrics)]
    assert (run(capsys, *arguments)[0], metrics.exists()) == (1, False)


def display(said: list[str]) -> Display:
    """Return a display that adds its lines to a list."""
    options = argparse.Namespace(metrics=None, tensorboard=None, resume=False, force=False)
    return Display(options, Vocab("ab"), Messages(said.append))


def progress(step: int, **change: Any) -> Progress:
    """Return the progress at an evaluation, with changes."""
    weights = Weights.random(ModelConfig(vocab_size=2, **TINY), 0)
    return Progress(
        **{
            "step": step, "steps": 9, "loss": 2.0, "validation_loss": 2.0, "best_loss": 2.0, "learning_rate": 0.1,
            "chars_per_second": 1.0, "seconds": 1.0, "seconds_left": 1.0, "weights": weights, "unigram_loss": 3.0,
            "is_lost": False, "curve": [],
        } | change
    )  # fmt: skip


@pytest.mark.parametrize(("falls", "warns"), [(True, True), (False, False)])
def test_overfitting_warning(falls: bool, warns: bool) -> None:
    """It needs a falling training loss: a run whose losses both stagnate does not overfit."""
    said: list[str] = []
    with display(said) as shown:
        for i in range(5):
            shown.report(progress(i + 1, loss=2.0 - i / 10 if falls else 2.0, validation_loss=2.0 + i / 10))
    assert sum("the model overfits" in line for line in said) == warns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 300, ["a" * 199 + "…"]),
        ("\n\na\n\nb\nc", ["a", "b"]),
        ("a" * 150 + "\n" + "b" * 150, ["a" * 150, "b" * 49 + "…"]),
        ("\x1b" * 150, ["^[" * 99 + "^…"]),
        ("\n\n", []),
    ],
)
def test_samples_in_a_log_are_short(text: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Display, "_write", lambda *_: text)
    with display(said) as shown:
        shown.report(progress(1))
    assert said[0].split("\n")[1:] == [f"    | {line}" for line in expected]


@pytest.mark.parametrize(("share", "expected"), [(1.0, [2, 4, 6]), (0.0, [2, 6])])
def test_sample_is_renewed_at_each_evaluation_and_at_the_end(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, share: float,
    expected: list[int],
) -> None:  # fmt: skip
    """If evaluations follow each other too fast, only the first and the last have one."""
    monkeypatch.setattr(display_module, "_SAMPLING", share)
    model = corpus_file.with_name("m.safetensors")
    _, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)
    assert list(map(int, re.findall(r"^step (\d)/6  loss .*\n    \| ", err, re.MULTILINE))) == expected


# Silence


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_SILENCE", 0.01)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("slow", "line"),
    [
        ("knock_training.data.Corpus.read", r"still reading the corpus, \d s"),
        ("knock_training.run.Run.advance", r"training: the first step|step 1/6  loss .*  \d+:\d\d left"),
        ("knock_training.run.Run.evaluate", r"still evaluating, \d s"),
        ("knock_training.evaluate.evaluate", r"measured 0%"),
    ],
)
def test_silence_is_broken(
    corpus_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, slow: str, line: str
) -> None:
    """Each call lasts until the line is there."""
    home, name = slow.rsplit(".", 1)
    deadline = time.monotonic() + PATIENCE
    found = pkgutil.resolve_name(home)
    quick, said = getattr(found, name), ""

    def waits(*args: Any, **kw: Any) -> Any:
        nonlocal said
        while not re.search(rf"^({line})$", said, re.MULTILINE):
            assert time.monotonic() < deadline
            time.sleep(0.01)
            said += capfd.readouterr().err
        return quick(*args, **kw)

    monkeypatch.setattr(found, name, waits)
    model = corpus_file.with_name("m.safetensors")
    assert main(["train", str(corpus_file), "--out", str(model), *FAST]) == 0


def test_loading_is_announced(corpus_file: Path) -> None:
    arguments = ["train", str(corpus_file), "--out", str(corpus_file.with_name("m.safetensors")), *FAST]
    done = subprocess.run([*KNOCK, *arguments], check=True, capture_output=True, text=True)
    assert done.stderr.splitlines()[0] == "loading PyTorch"


def test_samples_cannot_control_the_terminal(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus_file.write_text("\x1b[2J\x07" * 400, encoding="utf-8")
    model = corpus_file.with_name("m.safetensors")
    _, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)
    assert "^[[2J^G" in err or "^[" in err
    assert not set(err) & set("\x1b\x07")


def test_missing_tensorboard(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    model = corpus_file.with_name("m.safetensors")
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST, "--tensorboard", "runs")
    assert code == 1
    assert "--tensorboard needs TensorBoard, which is not installed; run: pip install tensorboard" in err


def test_tensorboard_events(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for TensorBoard's writer."""
    events: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == "runs"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            events.append((name, value, step))

        def close(self) -> None:
            events.append(("closed", 0.0, 0))

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    model = corpus_file.with_name("m.safetensors")
    assert run(capsys, "train", str(corpus_file), "--out", str(model), *FAST, "--tensorboard", "runs")[0] == 0
    assert [step for name, _, step in events if name == "loss/validation"] == [2, 4, 6]
    assert events[-1][0] == "closed"


# The live display


NOTEBOOKS = [
    {"JPY_PARENT_PID": "7"},
    {"COLAB_RELEASE_TAG": "release"},
    {"TERM": "xterm-color", "GIT_PAGER": "cat"},
]


@POSIX
@pytest.mark.parametrize("variables", [*NOTEBOOKS, {"TERM": "dumb"}, {"TERM": "unknown"}])
def test_no_picture_where_the_cursor_cannot_move(corpus_file: Path, variables: dict[str, str]) -> None:
    arguments = ["train", str(corpus_file), "--out", str(corpus_file.with_name("m.safetensors")), *FAST]
    said, _ = on_a_screen(80, 24, *arguments, **variables)
    assert "\x1b" not in said
    assert said.count("step ") == 3 + 1  # and once at the end


@POSIX
def test_quiet_run_shows_no_picture(corpus_file: Path) -> None:
    arguments = ["train", str(corpus_file), "--out", str(corpus_file.with_name("m.safetensors")), *FAST]
    assert on_a_screen(80, 24, *arguments, "--quiet")[0] == ""


def on_a_screen(columns: int, lines: int, *arguments: str, **variables: str) -> tuple[str, list[str]]:
    """Run a command on a terminal of this size; return what it wrote, and the lines of the screen at the end.

    The size is that of the pseudo-terminal, not one in the environment.
    """
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (lines, columns))
    unset = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "JPY_PARENT_PID", "GIT_PAGER"}
    environment = (
        {name: value for name, value in os.environ.items() if name not in unset} | {"TERM": "xterm"} | variables
    )
    running = subprocess.Popen([*KNOCK, *arguments], stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    said = b"".join(iter(lambda: read(ours), b"")).decode()
    os.close(ours)
    assert running.wait() == 0
    return said, screen(said, columns, lines)


def screen(said: str, columns: int, lines: int) -> list[str]:
    """Return all lines that a terminal shows or has scrolled away, after the control codes that rich writes."""
    rows, row, column = [""], 0, 0
    for code, number, letter, char in re.findall(r"(\x1b\[\??([0-9;]*)([A-Za-z]))|([\s\S])", said):
        assert letter in {"", "A", "K", "m", "h", "l"}, code
        if letter == "A":
            row = max(0, len(rows) - lines, row - int(number or 1))  # what has scrolled away is out of reach
        elif letter == "K":
            rows[row] = "" if number == "2" else rows[row][:column]
        elif char == "\r":
            column = 0
        elif char == "\n" or (char and column == columns):
            row, column = row + 1, 0
        rows += [""] * (row + 1 - len(rows))
        if char and char not in "\r\n":
            rows[row] = rows[row][:column].ljust(column) + char + rows[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in rows]


@POSIX
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 15), (40, 8), (24, 4)])
def test_live_display_leaves_one_frame(corpus_file: Path, columns: int, lines: int) -> None:
    """Even if samples have more lines than the terminal."""
    corpus_file.write_text("ab\n" * 700, encoding="utf-8")
    model = corpus_file.with_name("m.safetensors")
    said, shown = on_a_screen(columns, lines, "train", str(corpus_file), "--out", str(model), *FAST, "--steps", "40")
    assert "\x1b[1A" in said or lines < 5
    assert sum(line.startswith("step ") for line in shown) == 1
    assert sum("training, ● validation" in line for line in shown) == (lines >= 15)
    assert max(map(len, shown)) <= columns or columns < 40  # a long path is a word
    words = [word for line in shown for word in line.split()]
    assert "characters," in words
    assert "parameters" in words
    done = next(row for row, line in enumerate(shown) if line.startswith("done after 40"))
    assert shown[done - 1].startswith("    |") or lines < 8


@POSIX
@pytest.mark.parametrize(("variables", "has_colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_live_display_has_two_colours(corpus_file: Path, variables: dict[str, str], has_colours: bool) -> None:
    arguments = ["train", str(corpus_file), "--out", str(corpus_file.with_name("m.safetensors")), *FAST]
    said, _ = on_a_screen(80, 24, *arguments, **variables)
    assert ("\x1b[36m· training" in said, "\x1b[35m● validation" in said) == (has_colours, has_colours)


@POSIX
def test_live_display_on_a_terminal(corpus_file: Path) -> None:
    model = corpus_file.with_name("m.safetensors")
    said = on_a_terminal("train", str(corpus_file), "--out", str(model), *FAST, "--steps", "60")
    assert re.search(r"nats per character: .*· training.*, .*● validation", said)
    assert "    | " in said
    assert "done after 60 steps" in said
