"""Training runs that are planned to fit into a given time."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knock import ModelConfig
from knock.cli.train import job
from knock.engine.engine import Engine
from knock.files.checkpoint import read_checkpoint
from knock_training import losses, planning, sizes
from knock_training import run as run_module
from knock_training.data import Corpus
from knock_training.evaluate import evaluate
from knock_training.planning import plan
from knock_training.progress import Progress
from knock_training.recipe import Recipe
from knock_training.sizes import Size
from knock_training.state import read_state, state_path
from knock_training.trainer import train
from tests.cases import random_weights
from tests.cli.test_main import FAST, run
from tests.cli.test_train_resume import TEXT, TINY, corpus_file

__all__ = ["corpus_file"]  # a fixture


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Clock:
    """A clock that advances by `step` seconds per training step and `block` seconds per validation block."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.step, self.block = 0.0, 4.0, 0.4
        monkeypatch.setattr(run_module, "training_step", self._moving(run_module.training_step, lambda _: self.step))
        monkeypatch.setattr(losses, "_summed_loss", self._moving(losses._summed_loss, self._blocks))
        monkeypatch.setattr(Engine, "log_probs", self._moving(Engine.log_probs, self._positions))
        monkeypatch.setenv("KNOCK_BACKEND", "numpy")  # in one thread
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def _blocks(self, arguments: tuple[Any, ...]) -> float:
        return self.block * arguments[1].numel() / 256

    def _positions(self, arguments: tuple[Any, ...]) -> float:
        return self.block * len(arguments[1]) / 256

    def _moving(self, call: Any, seconds: Any) -> Any:
        def moved(*arguments: Any, **options: Any) -> Any:
            self.now += seconds(arguments)
            return call(*arguments, **options)

        return moved


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def long_corpus() -> tuple[ModelConfig, Corpus]:
    corpus = Corpus.from_text(TEXT * 40, "foxes.txt")  # about 100 validation blocks
    return ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY), corpus


@pytest.mark.parametrize("eval_interval", [None, 10])
@pytest.mark.parametrize("block", [0.01, 0.1, 0.4])
def test_run_takes_the_planned_time(clock: Clock, block: float, eval_interval: int | None) -> None:
    config, corpus = long_corpus()
    clock.block = block
    planned = plan(config, corpus, Recipe(batch_chars=64), 600, eval_interval=eval_interval)
    timing = clock.now
    assert timing < 60 + 8 + 32 * block  # timing stops with the first step past its limit
    left = 600 - timing - planned.closing_seconds
    result = train(config, corpus, planned.recipe, seconds=left, watched=planned.watched)
    steps = result.record["steps_done"]
    before = clock.now
    evaluate(random_weights(config, 0), corpus.validation, seconds=planned.closing_seconds)
    evaluations = before - timing - clock.step * steps
    assert 500 < clock.now <= 600 + 32 * block  # plus the pilot of the evaluation
    if eval_interval is None:  # a given interval is kept, with at least 16 blocks per evaluation
        assert evaluations + clock.now - before < 0.1 * 600 + 32 * block
    assert planned.recipe.eval_interval == eval_interval or eval_interval is None
    assert steps == pytest.approx(planned.recipe.steps, rel=0.05)


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_plan_adapts_to_the_speed(clock: Clock, speed: float) -> None:
    config, corpus = long_corpus()
    planned = plan(config, corpus, Recipe(batch_chars=64), 800)
    begun, seen = clock.now, list[Progress]()

    def report(progress: Progress) -> None:
        seen.append(progress)
        if progress.step == 50:
            clock.step /= speed
            clock.block /= speed

    result = train(config, corpus, planned.recipe, seconds=800 - begun, watched=planned.watched, report=report)
    assert 0.97 * 800 < clock.now < 1.01 * 800
    assert result.ended == "done"
    assert seen[-1].step == seen[-1].steps == result.record["recipe"]["steps"]
    assert seen[-1].validation_loss is not None
    assert seen[-1].learning_rate < 0.02 * max(
        progress.learning_rate for progress in seen
    )  # the schedule still ends near 0


def test_resumed_run_keeps_the_remaining_time(clock: Clock, tmp_path: Path) -> None:
    config, corpus = long_corpus()
    planned, state = plan(config, corpus, Recipe(batch_chars=64), 600), tmp_path / "m.run"
    begun = clock.now
    asked = iter(range(50))
    options: Any = {"seconds": 600 - begun, "watched": planned.watched, "state": state}
    train(config, corpus, planned.recipe, **options, should_stop=lambda: next(asked, None) is None)
    what, _ = read_state(state)
    recipe = Recipe(**what["recipe"] | {"betas": tuple(what["recipe"]["betas"])})
    clock.now += 10_000  # time between the runs does not count
    clock.step *= 2
    result = train(config, corpus, recipe, state=state, resume=True)
    assert 580 < clock.now - 10_000 < 606
    assert 50 < result.record["steps_done"] < planned.steps


MINUTES = FAST[4:]  # without --steps and --eval-interval


def test_minutes_option(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = corpus_file.with_name("m.safetensors")
    started = time.monotonic()
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *MINUTES, "--minutes", "0.1")
    assert code == 0
    assert 4 < time.monotonic() - started < 60  # generous, for machines that stall
    assert re.search(r"about [\d,]+ steps; Ctrl-C", err)
    assert read_checkpoint(model).training["steps_done"] >= 100
    for wrong in (["--minutes", "0"], ["--minutes", "x"], ["--minutes", "1", "--steps", "3"]):
        assert run(capsys, "train", str(corpus_file), "--out", str(model), *wrong)[0] == 2


def test_too_few_minutes_raise_an_error_with_a_suggestion(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = corpus_file.with_name("m.safetensors")
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), "--size", "small", "--minutes", "0.02")
    assert (code, model.exists(), state_path(model).exists()) == (1, False, False)
    found = re.search(
        r"error: --minutes 0.02 allows (\d+) steps of this model on this machine, fewer than the 100 it needs; "
        r"pass --minutes ([\d.]+)",
        err,
    )
    assert found
    assert int(found[1]) < 100
    assert float(found[2]) > 0.02


@given(st.floats(0.1, 1e5), st.floats(0.01, 1e3))
def test_the_suggestion_is_more_and_leaves_time_for_the_yardsticks(seconds: float, too_few: float) -> None:
    minutes = job._recommended(seconds, too_few)
    assert minutes > too_few
    yardsticks = min(job._COMPARISON, job._COMPARISON_SHARE * 60 * minutes)
    assert 60 * minutes - yardsticks >= seconds * (1 - 1e-9)
    assert minutes <= 1.2 * max(seconds / 57, 1.1 * too_few)
    assert float(f"{minutes:.2g}") == minutes


def test_size_depends_on_the_minutes(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large corpus calls for small, but there is time only for nano."""
    monkeypatch.setattr(sizes, "_SMALL_FROM", 1000)
    monkeypatch.setitem(sizes.SIZES, "nano", Size(TINY, {"steps": 3000}))
    monkeypatch.setattr(planning, "LEAST_STEPS", 5)  # a busy machine may not take a hundred in the time
    model = corpus_file.with_name("m.safetensors")
    options = ["--batch-chars", "64", "--minutes", "0.1"]
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *options)
    assert code == 0, err
    assert re.search(r"steps of size small, which needs about 3,000; training nano instead. Pass --size small", err)
    assert read_checkpoint(model).weights.config.n_emb == TINY["n_emb"]
