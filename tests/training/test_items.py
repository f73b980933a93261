"""Tests of training on items: batches, the watched loss, and whole runs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from knock import ModelConfig
from knock.engine.engine import Engine
from knock.errors import TextError
from knock.files.split import Split
from knock.generation.evaluation import evaluate
from knock.weights import Weights
from knock_training.data import Corpus, item_starts, random_batch
from knock_training.losses import block_loss
from knock_training.model import Twin
from knock_training.recipe import Recipe
from knock_training.run import Run, sequence_length
from knock_training.sizes import SIZES, Size, shape_for
from knock_training.team import Team
from knock_training.trainer import train
from tests.cases import EVERY, SMALL, random_weights

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=12)
TINY = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 1, "n_heads": 2}
NAMES = [f"{first}{last}" for first in ("an", "ber", "clau", "do", "em") for last in ("a", "na", "rta", "dia", "ma")]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def stream(lengths: list[int], boundary: int) -> list[int]:
    """Return items of these lengths, of tokens that count upwards, with boundaries."""
    tokens = [boundary]
    for length in lengths:
        tokens += [*range(length), boundary]
    return tokens


# Batches


@given(LENGTHS, st.integers(1, 30), st.integers(0, 99))
def test_batches_of_items(lengths: list[int], length: int, seed: int) -> None:
    """A sequence is a part of the items in their order, over and over, from the start of one unless it is too long."""
    boundary = 20
    tokens = stream(lengths, boundary)
    circle = tokens[:-1] * (length + 2)
    boundaries = np.flatnonzero(np.array(tokens) == boundary)
    inputs, targets = random_batch(torch.tensor(tokens), 20, length, np.random.default_rng(seed), boundaries)
    assert inputs.shape == targets.shape == (20, length)
    parts = {
        tuple(circle[start : start + length + 1])
        for start in range(len(tokens) - 1)
        if circle[start] == boundary or any(size + 1 > length for size in lengths)
    }
    for row, following in zip(inputs.tolist(), targets.tolist(), strict=True):
        assert (*row, following[-1]) in parts
        assert following[:-1] == row[1:]


@given(LENGTHS, st.integers(1, 12))
def test_starts_by_a_loop(lengths: list[int], limit: int) -> None:
    tokens = stream(lengths, 20)
    boundaries = np.flatnonzero(np.array(tokens) == 20)
    offsets = np.arange(len(tokens) - 1)
    expected = []
    for offset in offsets.tolist():
        start = max(b for b in boundaries if b <= offset)
        end = min(b for b in boundaries if b > offset)
        expected.append(start if end - start <= limit else offset)
    assert item_starts(boundaries, offsets, limit).tolist() == expected


def test_every_item_is_drawn_equally_often() -> None:
    """Even the last one, and even if a sequence is longer than all of them."""
    boundary, sizes = 20, [3] * 10
    tokens = torch.tensor([boundary, *(token for i in range(len(sizes)) for token in (i, i, i, boundary))])
    boundaries = np.flatnonzero(tokens.numpy() == boundary)
    for length in (4, 10, 100):
        inputs, _ = random_batch(tokens, 4000, length, np.random.default_rng(0), boundaries)
        counts = torch.bincount(inputs.flatten(), minlength=10)[:10].double()
        assert (counts / counts.mean() - 1).abs().max() < 0.2


# The watched loss


def item_loss(weights: Weights, tokens: list[int], boundary: int) -> float:
    """Return the loss of each item alone, by a loop; past its window, an absolute model slides."""
    twin, T = Twin(weights).double(), weights.config.longest_window
    ends = [i for i, token in enumerate(tokens) if token == boundary]
    total = 0.0
    for start, end in itertools.pairwise(ends):
        item = tokens[start : end + 1]
        for i in range(1, len(item)):
            first = 0 if weights.config.position == "relative" else max(0, i - T)
            logits = twin(torch.tensor([item[first:i]]))[0, -1:]
            total += F.cross_entropy(logits, torch.tensor([item[i]])).item()
    return total / (len(tokens) - 1)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_watched_loss_is_that_of_items_alone(kind: str, seed: int) -> None:
    weights = random_weights(EVERY[kind], 0)
    boundary, rng = weights.config.vocab_size - 1, np.random.default_rng(seed)
    tokens = [boundary]
    for _ in range(8):
        tokens += [*rng.integers(0, boundary, rng.integers(1, 3 * weights.config.longest_window)).tolist(), boundary]
    expected = item_loss(weights, tokens, boundary)
    twin = Twin(weights, boundary=boundary).double()
    for block in (3, 7, 16, 1000):
        assert block_loss(twin, torch.tensor(tokens), block) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", EVERY)
def test_watched_loss_is_the_final_one(kind: str) -> None:
    weights = random_weights(EVERY[kind], 0)
    boundary, rng = weights.config.vocab_size - 1, np.random.default_rng(0)
    tokens = [boundary]
    for _ in range(60):
        tokens += [*rng.integers(0, boundary, rng.integers(1, 30)).tolist(), boundary]
    loss = evaluate(Engine(weights, precision="float32"), np.array(tokens), boundary=boundary)["items"]
    assert block_loss(Twin(weights, boundary=boundary), torch.tensor(tokens)) == pytest.approx(loss.nats, abs=1e-5)
    assert loss.characters == len(tokens) - 1


def test_watched_blocks_are_spread_evenly() -> None:
    """Of two, they are the first and the last; here both begin with an item."""
    weights = random_weights(next(iter(SMALL.values())), 0)
    boundary, rng = weights.config.vocab_size - 1, np.random.default_rng(0)
    tokens = [boundary]
    while len(tokens) < 200:
        tokens += [*rng.integers(0, boundary, 6).tolist(), boundary]
    text = torch.tensor(tokens[:197])  # 196 predictions
    twin = Twin(weights, boundary=boundary).double()
    first, last = block_loss(twin, text[:15], 14), block_loss(twin, text[182:], 14)
    assert block_loss(twin, text, 14, at_most=2) == pytest.approx((first + last) / 2, abs=1e-9)


# Runs


@pytest.mark.parametrize("shape", [{}, {"position": "absolute"}, {"head_type": "content"}, {"T": 64}])
def test_a_model_of_items_learns(shape: dict[str, object]) -> None:
    """Also with a window, and so with sequences, longer than all items together."""
    corpus = Corpus.from_items(NAMES, "names", split=Split(how="items", seed=1))
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **{**TINY, **shape})
    recipe = Recipe(steps=120, batch_chars=256, eval_interval=40, learning_rate=0.01)
    result = train(config, corpus, recipe)
    before, after = (
        block_loss(Twin(weights, boundary=corpus.vocab.boundary), corpus.train)
        for weights in (Weights.random(config, recipe.seed), result.weights)
    )
    assert after < 0.6 * before
    record = result.record
    assert record["corpus"] == {
        "name": "names",
        "sha256": corpus.text.sha256,
        "characters": sum(len(name) + 1 for name in NAMES),
        "validation_characters": len(corpus.validation) - 1,
        "items": {"kind": "texts"},
        "item_count": len(NAMES),
        "validation_items": corpus.text.held_out_items,
    }
    assert record["validation"] == {"how": "items", "seed": 1}
    assert math.isfinite(record["best_validation_loss"])


def test_two_items_are_enough() -> None:
    corpus = Corpus.from_items(["a", "b"], "x")
    config = ModelConfig(vocab_size=3, **{**TINY, "T": 64})
    assert sequence_length(config, corpus, Recipe()) == 2
    result = train(config, corpus, Recipe(steps=3, eval_interval=1, batch_chars=8))
    assert result.record["corpus"]["validation_items"] == 1


def test_items_differ_from_the_same_text() -> None:
    """The mask is used in the run itself, and the boundary is part of its identity."""
    corpus = Corpus.from_items(NAMES, "names")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    run = Run(config, corpus, Recipe(), None, Team())
    assert run.average.twin.boundary == run._twin.boundary == corpus.vocab.boundary
    assert run.identity["items"] == {"kind": "texts"}
    assert run.identity["validation"] == {"how": "items", "seed": 0}


def test_shape_for_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "nano", Size({"T": 32, "n_blocks": 3}, {}))
    assert shape_for("nano", 6)["T"] == 8
    assert shape_for("nano", 7)["T"] == 8
    assert shape_for("nano", 8)["T"] == 16
    assert shape_for("nano", 10_000)["T"] == 32


def test_shape_for_items_with_windows_for_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "nano", Size({"T": (2, 32, 512), "n_blocks": 3}, {}))
    assert shape_for("nano")["T"] == (2, 32, 512)
    assert shape_for("nano", 40)["T"] == (2, 32, 48)


@pytest.mark.parametrize("how", ["blocks", "file"])
def test_length_of_plain_text_by_split(how: str, tmp_path: Path) -> None:
    other = tmp_path / "v.txt"
    other.write_text("ab")
    split = Split(how=how, file=str(other) if how == "file" else None)
    config = ModelConfig(vocab_size=2, **TINY)
    with pytest.raises(TextError, match=r"but a window of 8 needs at least \d+; use a longer text") as error:
        sequence_length(config, Corpus.from_text("abababab", "x", split=split), Recipe())
    needed = int(str(error.value).split("at least ")[1].split(";")[0])
    for length in (needed - 1, needed):
        corpus = Corpus.from_text(("ab" * needed)[:length], "x", split=split)
        if length < needed:
            with pytest.raises(TextError):
                sequence_length(config, corpus, Recipe())
        else:
            assert sequence_length(config, corpus, Recipe()) >= 1
    if how == "file":
        other.write_text("a")
        with pytest.raises(TextError, match=r"validation text '.*v.txt' has 1 character, but needs at least 2"):
            sequence_length(config, Corpus.from_text("ab" * 20, "x", split=split), Recipe())
