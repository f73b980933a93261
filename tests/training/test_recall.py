"""Multi-query associative recall (Arora et al. 2023, "Zoology"): what content attention is for, and reweight is not.

A sequence consists of pairs of a key and its value; each sequence has other values. After a key that occurred before,
the value is known only to a model that attends to its earlier occurrence. The content logits of a second block can find
it, once the first block has copied each key to the position of its value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from knock.config import ModelConfig
from knock.weights import Weights
from knock_training.model import Twin
from knock_training.optimizing import Optimizers, training_step
from knock_training.recipe import Recipe

KEYS = VALUES = 12
PAIRS, WINDOW = 32, 32


def sequences(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
    """Return sequences, [count, 2 * PAIRS], and which of their keys were in the window before, [count, PAIRS]."""
    keys, value_of = rng.integers(KEYS, size=(count, PAIRS)), rng.integers(VALUES, size=(count, KEYS))
    values = KEYS + np.take_along_axis(value_of, keys, axis=1)
    repeats = np.zeros((count, PAIRS), bool)
    for back in range(1, WINDOW // 2):
        repeats[:, back:] |= keys[:, back:] == keys[:, :-back]
    return torch.from_numpy(np.stack([keys, values], axis=2).reshape(count, -1)), repeats


def recall(steps: int, **shape: Any) -> float:
    """Train a model of two blocks; return how often it knows the value of a key that was there before."""
    config = ModelConfig(vocab_size=KEYS + VALUES, n_emb=48, nodes=48, n_blocks=2, n_heads=2, **shape)
    recipe = Recipe(steps=steps, warmup=20, schedule="wsd", learning_rate=0.01, matrix_learning_rate=0.03)
    twin = Twin(Weights.random(config, 0))
    optimizers, rng = Optimizers(twin, recipe), np.random.default_rng(0)
    for step in range(steps):
        tokens, _ = sequences(32, rng)
        training_step(twin, optimizers, (tokens[:, :-1], tokens[:, 1:]), recipe, step)
    tokens, repeats = sequences(128, np.random.default_rng(1))
    with torch.no_grad():
        likeliest = twin(tokens[:, :-1])[:, ::2].argmax(-1)
    return float((likeliest == tokens[:, 1::2]).numpy()[repeats].mean())


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_content_above_a_window_of_two_recalls() -> None:
    assert recall(200, T=(2, WINDOW), head_type=("reweight", "content")) > 0.95


def test_hybrid_recalls() -> None:
    assert recall(500, T=WINDOW, head_type="hybrid") > 0.95


def test_reweight_does_not_recall() -> None:
    """Chance is 1 in 12, and a guess among the values of the window is right more often."""
    assert recall(200, T=WINDOW, head_type="reweight") < 0.4
