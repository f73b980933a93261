"""Tests of the loss curve of `knock train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knock import ModelConfig
from knock.cli.train.curve import loss_curve, painted
from knock_training.data import Corpus
from knock_training.progress import Curve
from knock_training.recipe import Recipe
from knock_training.trainer import train
from tests.cli.test_main import CORPUS

TINY = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 2, "n_heads": 2}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "mary.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


def test_loss_curve() -> None:
    points = [(i, 3.0 - i / 50, 3.1 - i / 50 if i % 10 == 0 else None) for i in range(1, 101)]
    lines = loss_curve(points, 100, 60, 10).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].split()[0] == "2.780"
    marks = [(line.index("●") if "●" in line else None) for line in lines[:-1]]
    assert [mark for mark in marks if mark is not None] == sorted(mark for mark in marks if mark is not None)
    assert sum(line.count("●") for line in lines[:-1]) >= 8
    assert loss_curve([], 100, 60, 10) == loss_curve(points, 100, 12, 10) == ""
    assert "●" in loss_curve([(1, 2.0, 2.0)], 1, 40, 10)
    assert len(loss_curve(points, 100, 60, 5).splitlines()) == 5 + 1


@given(
    st.lists(st.tuples(st.floats(0.1, 9), st.none() | st.floats(0.1, 9)), min_size=1, max_size=40),
    st.integers(2, 12),
    st.integers(40, 90),
)
def test_every_validation_loss_is_visible(losses: list[tuple[float, float | None]], height: int, width: int) -> None:
    """There are more columns than points, so each has one of its own, except the last two."""
    points = [(i + 1, loss, validation) for i, (loss, validation) in enumerate(losses)]
    *plot, caption = loss_curve(points, len(points), width, height).splitlines()
    expected = {step * (width - 7) // (len(points) + 1) for step, _, validation in points if validation is not None}
    result = {column - 7 for line in plot for column, mark in enumerate(line) if mark == "●"}
    assert result == {min(width - 8, column) for column in expected}
    assert max(map(len, [*plot, caption])) <= width


def test_overfitting_is_visible() -> None:
    """The training loss falls and the validation loss rises, in different lines."""
    points = [(i, 3 - 2.9 * i / 100, 2.5 + i / 100 if i % 5 == 0 else None) for i in range(1, 101)]
    *plot, _ = loss_curve(points, 100, 80, 10).splitlines()
    rows = [row for column in range(len(plot[0])) for row, line in enumerate(plot) if line[column : column + 1] == "●"]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] - rows[-1] >= 3


@pytest.mark.parametrize(("width", "expected"), [(80, "nats per character: ·"), (40, "nats/char: ·"), (20, "· train")])
def test_caption_fits_the_width(width: int, expected: str) -> None:
    caption = loss_curve([(1, 2.0, 2.0)], 1, width, 5).splitlines()[-1]
    assert caption.strip().startswith(expected)
    assert len(caption) <= width


def test_curves_and_their_names_have_colours_of_their_own() -> None:
    text = painted(loss_curve([(1, 2.0, None), (20, 3.0, 2.5)], 20, 60, 5))
    styles = {text.plain[span.start : span.end]: span.style for span in text.spans}
    assert styles == {"·": "cyan", "· training": "cyan", "●": "magenta", "● validation": "magenta"}


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 10**6))
def test_points_of_a_curve_are_thinned(are_evaluated: list[bool], steps: int) -> None:
    curve = Curve()
    every = [(i + 1, 1.0, 2.0 if is_evaluated else None) for i, is_evaluated in enumerate(are_evaluated)]
    for point in every:
        curve.add(point, steps)
    stretch = max(1, steps // 400)
    stretches = {point[0] // stretch for point in every}
    assert [point[0] // stretch for point in curve.points] == sorted(stretches)
    evaluated = {point[0] // stretch for point in every if point[2] is not None}
    assert {point[0] // stretch for point in curve.points if point[2] is not None} == evaluated


def test_resumed_run_keeps_its_curve(corpus_file: Path) -> None:
    corpus = Corpus.read(corpus_file)
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    recipe = Recipe(steps=12, batch_chars=128, eval_interval=4)
    curves: list[list[Any]] = []
    for name, stop in (("whole", 99), ("parts", 6), ("parts", 99)):
        asked, state = iter(range(stop)), corpus_file.with_name(name)
        train(
            config, corpus, recipe, state=state, resume=state.exists(),
            report=lambda it: curves.append(list(it.curve)), should_stop=lambda it=asked: next(it, None) is None,
        )  # fmt: skip
    assert [step for step, _, _ in curves[-1]] == list(range(1, 13))
    assert curves[-1] == curves[11]
