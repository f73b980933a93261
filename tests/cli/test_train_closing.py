"""Tests of the end of `knock train`: what can go wrong, what it says about the model, and the model it started from."""

from __future__ import annotations

import errno
import json
import os
import re
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
from knock_training.recipe import Recipe
from knock_training.run import Run
from knock_training.sizes import FINE_TUNING, SIZES
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


# How good the model is

NAMES = "\n".join(f"{first}{middle}{last}" for first in "ABCDEFGH" for middle in "aeiou" for last in "lmnrst")


@pytest.fixture
def names_file(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text(NAMES, encoding="utf-8")
    return path


def test_a_text_is_compared_with_yardsticks(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = corpus_file.with_name("m.safetensors")
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)
    assert code == 0
    record = read_checkpoint(model).training
    bits = record["yardsticks"]["bits_per_char"] | {"this model": record["evaluation"]["stream"]["bits_per_char"]}
    assert set(bits) == {"this model", "n-gram of order 6", "xz", "bzip2"}
    names = sorted(bits, key=lambda name: float(bits[name]))
    table = "".join(f"  {name:<17}  {bits[name]:.4f}\n" for name in names)
    assert f"\nbits/char on the held-out text:\n{table}" in err
    assert "sample" not in record
    assert record["yardsticks"]["train_characters"] == len(CORPUS) - round(len(CORPUS) / 10)


def test_items_are_compared_and_sampled(names_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = names_file.with_name("m.safetensors")
    code, _, err = run(capsys, "train", str(names_file), "--lines", "--out", str(model), *FAST)
    assert code == 0
    record = read_checkpoint(model).training
    assert set(record["evaluation"]) == {"items"}
    assert "bits/char on the held-out items:\n" in err
    sample = record["sample"]
    assert (sample["items"], sample["seed"]) == (1000, 0)
    copies, repeats = (f"{sample[name] / 1000:.1%}" for name in ("copies", "repeats"))
    assert err.splitlines()[-1] == (
        f"of a sample of 1,000 items, {copies} are training items and {repeats} repeat another one of the sample"
    )
    assert f"measuring the loss on the {record['corpus']['validation_items']} held-out items; Ctrl-C skips this" in err
    held_out = record["evaluation"]["items"]
    assert f"validation, items: {held_out['nats_per_char']:.4f} nats/char" in err
    # `knock score` measures the same items.
    _, out, _ = run(capsys, "score", "--held-out", str(names_file), "--model", str(model), "--json")
    again = json.loads(out)["held_out"]["items"]
    assert again["nats_per_char"] == pytest.approx(held_out["nats_per_char"], rel=1e-5)
    assert again["items"] == held_out["items"] == record["corpus"]["validation_items"]


@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_comparison_keeps_the_losses(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    model = corpus_file.with_name("m.safetensors")
    monkeypatch.setattr("knock.cli.train.quality.yardsticks_record", lambda *_: signal.raise_signal(number))
    result, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)
    assert result == code
    assert err.splitlines()[-1] == "the comparison with yardsticks was skipped"
    record = read_checkpoint(model).training
    assert "evaluation" in record
    assert "yardsticks" not in record
    assert not state_path(model).exists()


def test_lack_of_time_for_yardsticks_is_reported(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = corpus_file.with_name("m.safetensors")
    monkeypatch.setattr("knock.cli.train.quality.yardsticks_record", lambda *_: None)
    assert "there was no time to measure yardsticks" in run(
        capsys, "train", str(corpus_file), "--out", str(model), *FAST
    )[2]  # fmt: skip
    assert "yardsticks" not in read_checkpoint(model).training


def test_a_run_that_still_improves_says_so(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = corpus_file.with_name("m.safetensors")
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST, "--steps", "20", "--eval-interval", "2"]
    err = run(capsys, *arguments)[2]
    assert re.search(
        r"\nstill improving: the validation loss fell by \d\.\d{4} nats/char in the last tenth of the steps; train "
        r"longer: --steps 40\n", err
    )  # fmt: skip
    err = run(capsys, *arguments, "--force", "--learning-rate", "1e-9", "--matrix-learning-rate", "1e-9")[2]
    assert "still improving" not in err


# Going on from a model


def test_a_model_is_the_start_and_the_worst_result(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, model = tmp_path / "base.safetensors", tmp_path / "m.safetensors"
    small = [option for option in FAST if option not in ("--steps", "6")]
    assert run(capsys, "train", str(corpus_file), "--out", str(base), *small, "--steps", "200")[0] == 0
    from_base = ["--from", str(base), "--steps", "4", "--eval-interval", "2", "--batch-chars", "64", "--threads", "1"]
    harmful = ["--learning-rate", "9", "--matrix-learning-rate", "9", "--ema", "0"]
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *from_base, *harmful)
    assert code == 0
    before, after = read_checkpoint(base), read_checkpoint(model)
    loss = before.training["best_validation_loss"]
    assert f"\nstarting from {base}: validation {loss:.4f} nats/char; no worse weights are kept\n" in err
    assert f"no step was better than {base.stem}, whose weights are kept" in err
    assert after.digest == before.digest
    origin = after.training["from"]
    assert origin == {"name": "base", "digest": before.digest, "validation_loss": pytest.approx(loss, rel=1e-6)}
    assert run(capsys, "train", str(corpus_file), "--out", str(model), "--force", *from_base)[0] == 0
    recipe = read_checkpoint(model).training["recipe"]
    nano = SIZES["nano"].recipe["learning_rate"], Recipe().matrix_learning_rate
    assert recipe["learning_rate"] == pytest.approx(nano[0] * FINE_TUNING)
    assert recipe["matrix_learning_rate"] == pytest.approx(nano[1] * FINE_TUNING)
