"""Tests of runs that start from a model, and of the end of a run: whether a longer one would be better."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from knock import ModelConfig
from knock.weights import Weights
from knock_training.data import Corpus
from knock_training.losses import block_loss
from knock_training.model import Twin
from knock_training.progress import Curve
from knock_training.recipe import Recipe
from knock_training.run import Run
from knock_training.state import state_path
from knock_training.trainer import train

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
CORPUS = Corpus.from_text(TEXT, "fox.txt")
CONFIG = ModelConfig(vocab_size=CORPUS.vocab.vocab_size, T=8, n_emb=16, nodes=16, n_blocks=1, n_heads=2)
GOOD = Recipe(steps=100, batch_chars=256, eval_interval=10)
HARMFUL = Recipe(steps=6, batch_chars=64, eval_interval=2, learning_rate=0.5, matrix_learning_rate=0.5, ema=0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained() -> Weights:
    return train(CONFIG, CORPUS, GOOD).weights


def same(a: Weights, b: Weights) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_the_start_is_evaluated_and_recorded(trained: Weights) -> None:
    losses: list[float] = []
    result = train(CONFIG, CORPUS, GOOD, start=trained, origin={"name": "it"}, begun=losses.append)
    expected = block_loss(Twin(trained), CORPUS.validation)
    assert losses == [pytest.approx(expected, rel=1e-5)]
    assert result.record["from"] == {"name": "it", "validation_loss": losses[0]}
    assert result.record["best_validation_loss"] < losses[0]
    assert result.record["best_step"] > 0


def test_the_best_is_never_worse_than_the_start(trained: Weights) -> None:
    kept: list[Any] = []
    result = train(CONFIG, CORPUS, HARMFUL, start=trained, keep=lambda *what: kept.append(what))
    assert result.ended == "done"
    assert same(result.weights, trained)
    assert result.record["best_step"] == 0
    assert result.record["best_validation_loss"] == result.record["from"]["validation_loss"]
    assert not kept
    assert result.improvement == 0


def test_a_run_from_scratch_has_no_origin() -> None:
    losses: list[float] = []
    result = train(CONFIG, CORPUS, Recipe(steps=1, batch_chars=64), begun=losses.append)
    assert not losses
    assert "from" not in result.record


def test_a_run_interrupted_before_its_first_step_has_the_start(trained: Weights) -> None:
    result = train(CONFIG, CORPUS, GOOD, start=trained, should_stop=lambda: True)
    assert result.ended == "interrupted"
    assert same(result.weights, trained)
    assert result.is_evaluated


def test_a_resumed_run_remembers_its_start(tmp_path: Path, trained: Weights) -> None:
    state = state_path(tmp_path / "m.npz")
    calls = iter([False, False, False, True])
    begun: list[float] = []
    first = train(
        CONFIG, CORPUS, HARMFUL, start=trained, origin={"name": "it"}, state=state, should_stop=lambda: next(calls)
    )
    assert first.ended == "interrupted"
    result = train(CONFIG, CORPUS, HARMFUL, start=trained, state=state, resume=True, begun=begun.append)
    assert not begun
    assert result.record["from"] == first.record["from"]
    assert same(result.weights, trained)


# Whether a longer run would be better


def improvement(curve: list[tuple[int, float]], *, steps: int | None = None) -> float:
    best_step, best_loss = min(curve, key=lambda point: point[1])
    points = Curve([(step, loss, loss) for step, loss in curve])
    run = SimpleNamespace(curve=points, step=steps or curve[-1][0], best_step=best_step, best_loss=best_loss)
    result: float = Run.improvement.fget(run)  # type: ignore[attr-defined]
    return result


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([(80, 2.0), (90, 1.9), (100, 1.8)], 0.1),
        ([(50, 2.0), (100, 1.8)], 0.04),  # a fifth of the fall in half of the steps
        ([(80, 2.0), (85, 1.95), (95, 1.85), (100, 1.8)], 0.1),  # from 85 on: two thirds of 0.15
        ([(90, 1.8009), (100, 1.8)], 0.0),  # less than a thousandth
        ([(90, 1.8), (100, 1.8)], 0.0),
        ([(90, 1.7), (100, 1.8)], 0.0),  # overfitting
        ([(80, 1.9), (90, 1.7), (100, 1.75)], 0.0),
        ([(100, 1.8)], 0.0),  # unknown
        ([(95, 1.9), (100, 1.8)], 0.0),
    ],
)
def test_improvement_in_the_last_tenth(curve: list[tuple[int, float]], expected: float) -> None:
    assert improvement(curve) == pytest.approx(expected)


def test_only_a_finished_run_says_that_it_was_still_improving() -> None:
    recipe = Recipe(steps=40, batch_chars=256, eval_interval=4)
    assert train(CONFIG, CORPUS, recipe).improvement > 0
    calls = iter([*20 * [False], True])
    stopped = train(CONFIG, CORPUS, recipe, should_stop=lambda: next(calls))
    assert (stopped.ended, stopped.improvement) == ("interrupted", 0)
