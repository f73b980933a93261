"""Tests of the trial of far attention: matches, the copy cache, the corpora, results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knock.config import ModelConfig
from knock.engine.engine import Engine
from knock.weights import Weights
from knock_training.model import Twin
from tests.cases import random_weights
from training.reach.arms import ARMS, BASELINE, Trial
from training.reach.corpora import LENGTH, corpora, log, python_sources
from training.reach.matches import LONGEST, SHORTEST, Matches, find_matches, with_copies
from training.reach.results import COLUMNS, RESULTS, Results, table
from training.reach.running import surprise

texts = st.lists(st.integers(0, 1), max_size=120).map(lambda tokens: np.array(tokens, np.uint8))


def longest_match(text: list[int], t: int, start: int, window: int) -> tuple[int, int]:
    """Return the length of the longest match before position t, and what followed it: every place is tried."""
    best, copied = 0, -1
    for place in range(t - 1, start, -1):
        size = 0
        while size < LONGEST and place - size > start and text[place - size - 1] == text[t - size - 1]:
            size += 1
        if size >= SHORTEST and t - place + SHORTEST <= window and size > best:
            best, copied = size, text[place]
    return best, copied


@given(texts, st.integers(1, 130), st.one_of(st.none(), st.integers(1, 50)))
def test_matches(tokens: np.ndarray, window: int, block: int | None) -> None:
    found = find_matches(tokens, window, block)
    starts = [0 if block is None else t // block * block for t in range(len(tokens))]
    expected = [longest_match(tokens.tolist(), t, start, window) for t, start in enumerate(starts)]
    assert [*zip(found.length.tolist(), found.copied.tolist(), strict=True)] == expected


def test_copies_help_where_text_repeats_and_nowhere_else() -> None:
    rng = np.random.default_rng(0)
    phrase, noise = rng.integers(0, 50, 40), rng.integers(0, 50, 4000)
    repeats = np.concatenate([np.concatenate([noise[i : i + 40], phrase]) for i in range(0, 4000, 40)])
    for tokens, gains in ((repeats, True), (noise, False)):
        before = np.full(len(tokens), np.log(50))
        after = with_copies(before, tokens, find_matches(tokens, 1024))
        assert (after.mean() < 0.7 * before.mean()) == gains
        assert after.mean() <= before.mean() + 0.01


def test_copies_are_a_mixture() -> None:
    """With matches of one length, half of them hits, and a model that expects nothing, the share is one half."""
    is_hit = np.arange(2000) % 2
    matches = Matches(np.full(2000, 7), is_hit)
    after = with_copies(np.full(2000, 20.0), np.ones(2000, np.int64), matches)
    assert np.exp(-after[is_hit == 1]) == pytest.approx(0.5, abs=0.01)
    assert after[is_hit == 0] == pytest.approx(20 + np.log(2), abs=0.01)


def test_surprise_is_that_of_the_engine() -> None:
    weights = random_weights(ModelConfig(vocab_size=5, T=(2, 4), n_emb=8, nodes=8, n_blocks=2, n_heads=2), 0)
    tokens = np.random.default_rng(0).integers(0, 5, 300)
    expected = -Engine(weights, "numpy", "float32").log_probs(tokens[:-1], tokens[1:])
    assert surprise(Twin(weights), torch.from_numpy(tokens)[None])[0] == pytest.approx(expected, abs=1e-4)


def test_corpora() -> None:
    text = log()
    assert text == log()
    assert len(text) == len(python_sources()) == LENGTH
    identifiers = [line.split("req=")[1][:8] for line in text.splitlines() if "req=" in line]
    assert 3 < len(identifiers) / len(set(identifiers)) < 8
    assert set(corpora(None, "molecules.txt")) == {"python", "log", "molecules"}


@pytest.mark.parametrize("arm", ARMS)
def test_arms_are_models(arm: str) -> None:
    Weights.random(ModelConfig(vocab_size=65, **ARMS[arm].shape))


def result(trial: Trial, loss: float) -> dict[str, object]:
    return {"trial": vars(trial), **dict.fromkeys(COLUMNS, loss), "stream_share": 0.25}


def test_every_rate_is_tried_and_the_best_gets_more_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = (0.03, 0.06)
    monkeypatch.setattr("training.reach.results.RATES", rates)
    results = Results(tmp_path / "results.jsonl")
    first = results.wanted(["log"], [BASELINE], 2)
    assert first == [Trial("log", BASELINE, rate, 0) for rate in rates]
    for trial, loss in zip(first, (1.5, 1.25), strict=True):
        results.add(result(trial, loss))
    assert results.wanted(["log"], [BASELINE], 2) == [Trial("log", BASELINE, rates[1], 1)]
    results.add(result(Trial("log", BASELINE, rates[1], 1), 1.75))
    again = Results(tmp_path / "results.jsonl")
    assert not again.wanted(["log"], [BASELINE], 2)
    shown = table(again, "log", {BASELINE: (1.0, 1.25)})
    assert "| reweight, T 32 | 1.00 and 1.25 | 1.5000 | 1.5000 | 0.3536 | 1.5000 | 1.5000 | 1.5000 | 2 |" in shown


def test_results_are_of_the_arms() -> None:
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        assert Trial(**json.loads(line)["trial"]).arm in ARMS
