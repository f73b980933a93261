"""Tests of the end of `knock train`: unwritable states, interrupted evaluations, lack of memory."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from knock.cli.train.memory import memory_errors
from knock.errors import TrainingError
from knock.files.checkpoint import read_checkpoint
from knock_training import state as state_module
from knock_training.run import Run
from knock_training.state import state_path, write_state
from tests.cli.test_main import CORPUS, FAST, run

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "mary.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


# States that cannot be written


@pytest.mark.parametrize("has_earlier", [False, True])
@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSPC, "make room"), (errno.EACCES, "check its folder")])
def test_resume_is_suggested_only_if_there_is_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_earlier: bool, number: int, remedy: str
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "m.run"
    if has_earlier:
        write_state(path, {}, {})
    monkeypatch.setattr(state_module, "write_whole", failing)
    with pytest.raises(TrainingError) as raised:
        write_state(path, {}, {})
    then = "pass --resume to continue from the state before" if has_earlier else "start the run again"
    assert str(raised.value).endswith(f"; {remedy} and {then}")


def test_interrupted_run_without_a_state_saves_its_model(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = corpus_file.with_name("m.safetensors")

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def advance(self: Run, step: Any = Run.advance) -> bool:
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)
        return bool(step(self))

    monkeypatch.setattr(state_module, "write_whole", failing)
    monkeypatch.setattr(Run, "advance", advance)
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST, "--eval-interval", "5"]
    code, _, err = run(capsys, *arguments)
    assert code == 130
    assert f"cannot write {str(state_path(model))!r}: no space left on device; make room and start the run again" in err
    assert "--resume" not in err
    assert read_checkpoint(model).training["steps_done"] == 3


# The evaluation of the finished model


@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_evaluation_says_what_the_model_lacks(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    model = corpus_file.with_name("m.safetensors")

    def evaluate(*_: Any, **__: Any) -> None:
        assert read_checkpoint(model).training["ended"] == "done"
        signal.raise_signal(number)

    monkeypatch.setattr("knock_training.evaluate.evaluate", evaluate)
    result, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)
    assert result == code
    *_, doing, lacking = err.splitlines()
    assert doing == f"measuring the loss on the {round(len(CORPUS) / 10)} held-out characters; Ctrl-C skips this"
    command = f"knock score --held-out {corpus_file} --model {model}"
    command = command if len(command) <= 120 else f"knock score --held-out CORPUS --model {model}"
    assert lacking == f"{model} lacks its final losses on the held-out text; to measure them, run: {command}"
    record = read_checkpoint(model).training
    assert "evaluation" not in record
    assert record["best_validation_loss"] > 0
    assert not state_path(model).exists()


@POSIX
def test_terminated_run_says_what_its_model_lacks(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not evaluated, because whoever sends SIGTERM waits only seconds."""

    def advance(self: Run, step: Any = Run.advance) -> bool:
        signal.raise_signal(signal.SIGTERM)
        return bool(step(self))

    monkeypatch.setattr(Run, "advance", advance)
    model = corpus_file.with_name("m.safetensors")
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)
    assert code == 143
    assert "interrupted after 1 step; best at step 1\npass --resume to continue\n" in err
    assert "lacks its final losses on the held-out text; to measure them, run: knock score --held-out " in err


# Memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lambda: torch.empty(2**60), MemoryError),
        (lambda: raises(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")), MemoryError),
        (lambda: raises(RuntimeError("invalid argument: allocator is shallow")), RuntimeError),
    ],
)
def test_only_a_lack_of_memory_is_reported_as_one(error: Any, expected: type[Exception]) -> None:
    with pytest.raises(expected), memory_errors():
        error()


def raises(error: Exception) -> None:
    raise error
