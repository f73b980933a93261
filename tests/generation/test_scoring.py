"""Tests of the scorer: against the naive model, in pieces, with unknown characters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knock import LanguageModel, Vocab
from knock.choices import Unknown
from knock.errors import VocabError
from knock.generation import scoring as scorer
from knock.generation.scoring import Scorer
from tests import naive
from tests.cases import EVERY, SMALL, float64, random_weights
from tests.cli.score.texts import LETTERS, LONG, small


def scorer_of(name: str, model: LanguageModel, unknown: Unknown) -> Scorer:
    return Scorer(name, model.model.engine, model.vocab, unknown)


@pytest.mark.parametrize("name", EVERY)
def test_surprise_matches_the_naive_model(name: str) -> None:
    text = "badge\nface\nchief"
    weights = random_weights(EVERY[name], 0)
    tokens = [LETTERS.index(char) for char in "\n" + text]
    rows = naive.forward(tokens[:-1], float64(weights), EVERY[name])
    expected = [-math.log2(naive.softmax(row)[token]) for row, token in zip(rows, tokens[1:], strict=True)]
    reader = scorer_of(name, small(name, precision="float32"), "error")
    assert reader.feed(text) == pytest.approx(expected, abs=1e-4)
    assert reader.loss.bits == pytest.approx(sum(expected) / len(text), abs=1e-4)
    assert reader.loss.nats == pytest.approx(reader.loss.bits * 0.6931472)
    assert reader.loss.perplexity == pytest.approx(2**reader.loss.bits)
    assert reader.chars == len(text)


PART = LONG[:300]
WHOLE = {name: 0.0 - small(name, backend="compiled").score(PART).log_probs / math.log(2) for name in SMALL}


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=40)
@given(cuts=st.lists(st.integers(0, len(PART)), max_size=8), span=st.integers(1, 100))
def test_pieces_and_threads_give_identical_scores(name: str, cuts: list[int], span: int) -> None:
    reader = scorer_of(name, small(name, backend="compiled"), "error")
    ends = [0, *sorted(cuts), len(PART)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer, "_SPAN", span)
        pieces = [reader.feed(PART[start:end]) for start, end in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate(pieces), WHOLE[name])
    assert reader.loss.bits == pytest.approx(WHOLE[name].mean(), rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_pieces_on_numpy(name: str) -> None:
    reader = scorer_of(name, small(name, backend="numpy"), "error")
    pieces = [reader.feed(LONG[start : start + 7]) for start in range(0, len(LONG), 7)]
    expected = small(name, backend="numpy").score(LONG).log_probs / -math.log(2)
    assert np.concatenate(pieces) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lowercase", [False, True])
def test_unknown_characters(lowercase: bool) -> None:
    model = small("hybrid-relative", backend="compiled")
    model = LanguageModel(model.model, Vocab(LETTERS, lowercase=lowercase))
    text = "badxge\nfaé" + ("C" if lowercase else "c") + "ex"
    plain = 0.0 - model.score("badge\nface").log_probs / math.log(2)
    reader = scorer_of("m", model, "skip")
    result = np.concatenate([reader.feed(part) for part in ("", text[:3], "é", text[3:8], text[8:])])
    assert np.array_equal(result[~np.isnan(result)], plain)
    assert np.flatnonzero(np.isnan(result)).tolist() == [3, 4, 10, 13]
    assert reader.unknown_chars == {"x": 2, "é": 2}
    assert reader.chars == 10
    replacing = scorer_of("m", model, "replace")
    result = replacing.feed(text)
    assert np.array_equal(result, 0.0 - model.score(text, unknown="replace").log_probs / math.log(2))
    assert replacing.unknown_chars == {"x": 2, "é": 1}
    strict = scorer_of("m", model, "error")
    strict.feed("bad\n")
    with pytest.raises(VocabError, match=r"'x' \(U\+0078\) at offset 7; 'm' knows 11 characters"):
        strict.feed("badx")
