"""Losses and scores of a model of items: each item is read alone, after a boundary, and its end is predicted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import LanguageModel, ReweightGPT, Vocab
from knock.choices import Backend, Unknown
from knock.errors import TextError, VocabError
from knock.generation import evaluation, scoring
from knock.generation.evaluation import as_record, evaluate
from knock.generation.scoring import ItemScorer, log_probs_from
from tests.cases import EVERY, RUNS, random_weights

LETTERS = "abcdefghij"  # with the boundary, as many tokens as the small models have
ITEMS = ["a", "badge", "cab" * 20, "face", "f", "jihgfedcba"]


@cache
def item_model(name: str = "hybrid-relative", backend: Backend | None = None) -> LanguageModel:
    config = EVERY[name]
    model = ReweightGPT.from_weights(random_weights(config, 0), backend=backend or "compiled")
    return LanguageModel(model, Vocab(LETTERS, boundary=True))


def stream(vocab: Vocab, items: Sequence[str]) -> np.ndarray:
    parts = [part for item in items for part in ([vocab.boundary], vocab.encode(item))]
    return np.concatenate([*parts, [vocab.boundary]]).astype(np.uint8)


def expected_log_probs(model: LanguageModel, items: Sequence[str]) -> list[np.ndarray]:
    return [model.score(item).log_probs for item in items]


@pytest.mark.parametrize(("name", "backend"), RUNS)
def test_each_item_is_evaluated_alone(name: str, backend: Backend) -> None:
    model = item_model(name, backend)
    expected = expected_log_probs(model, ITEMS)
    shares: list[float] = []
    tokens = stream(model.vocab, ITEMS)
    losses = evaluate(model.model.engine, tokens, boundary=model.vocab.boundary, progress=shares.append)
    assert list(losses) == ["items"]
    loss = losses["items"]
    assert loss.items == len(ITEMS)
    assert loss.characters == sum(len(item) + 1 for item in ITEMS) == len(tokens) - 1
    assert loss.nats == pytest.approx(-np.concatenate(expected).mean())
    assert loss.nats_per_item == pytest.approx(-np.mean([each.sum() for each in expected]))
    assert loss.bits_per_item == pytest.approx(loss.nats_per_item / math.log(2))
    assert shares[-1] == 1
    assert str(loss).endswith(f", {loss.nats_per_item:.2f} nats/item ({loss.bits_per_item:.2f} bits)")


def test_the_order_of_the_items_does_not_matter() -> None:
    model = item_model()
    losses = [
        evaluate(model.model.engine, stream(model.vocab, items), boundary=model.vocab.boundary)["items"].nats
        for items in (ITEMS, ITEMS[::-1])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize("span", [1, 7, 50])
def test_threads_do_not_change_the_loss(monkeypatch: pytest.MonkeyPatch, span: int) -> None:
    model = item_model()
    tokens, boundary = stream(model.vocab, 5 * ITEMS), model.vocab.boundary
    whole = evaluate(model.model.engine, tokens, boundary=boundary)["items"]
    monkeypatch.setattr(scoring, "_SPAN", span)
    shares: list[float] = []
    result = evaluate(model.model.engine, tokens, boundary=boundary, progress=shares.append)["items"]
    assert (result.items, result.characters) == (whole.items, whole.characters)
    assert result.nats == pytest.approx(whole.nats, rel=1e-12)
    assert len(shares) > 1
    assert shares == sorted(shares)


def test_only_whole_items_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    model = item_model()
    tokens = stream(model.vocab, ITEMS)
    monkeypatch.setattr(evaluation, "MAX_CHARACTERS", 11)  # the third item would end after them
    loss = evaluate(model.model.engine, tokens, boundary=model.vocab.boundary)["items"]
    assert (loss.items, loss.characters) == (2, 8)
    assert loss.nats == pytest.approx(-np.concatenate(expected_log_probs(model, ITEMS[:2])).mean())


@pytest.mark.parametrize("first", ["a", "abcdefg"])
def test_at_least_one_item_is_evaluated(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    model = item_model()
    monkeypatch.setattr(evaluation, "MAX_CHARACTERS", 3)
    monkeypatch.setattr(scoring, "_SPAN", 4)
    tokens = stream(model.vocab, [first, *ITEMS])
    loss = evaluate(model.model.engine, tokens, boundary=model.vocab.boundary, seconds=0)["items"]
    assert (loss.items, loss.characters) == (1, len(first) + 1)


def test_a_time_limit_ends_the_evaluation_early(monkeypatch: pytest.MonkeyPatch) -> None:
    model = item_model()
    monkeypatch.setattr(scoring, "_SPAN", 4)
    loss = evaluate(model.model.engine, stream(model.vocab, ITEMS), boundary=model.vocab.boundary, seconds=0)["items"]
    assert (loss.items, loss.characters) == (1, 2)


def test_no_item_is_an_error() -> None:
    model = item_model()
    boundary = model.vocab.boundary
    for tokens in ([], [boundary], [1, 2]):
        with pytest.raises(TextError, match="at least one item"):
            evaluate(model.model.engine, np.array(tokens, np.uint8), boundary=boundary)


def test_record() -> None:
    model = item_model()
    losses = evaluate(model.model.engine, stream(model.vocab, ITEMS), boundary=model.vocab.boundary)
    loss = losses["items"]
    assert as_record(losses) == {
        "items": {
            "nats_per_char": loss.nats,
            "bits_per_char": loss.bits,
            "characters": loss.characters,
            "nats_per_item": loss.nats_per_item,
            "items": loss.items,
        }
    }


# Scores


@cache
def scores(name: str) -> np.ndarray:
    """The log probabilities of the items, one after the other."""
    return np.concatenate(expected_log_probs(item_model(name), ITEMS))


def item_scorer(model: LanguageModel, unknown: Unknown = "error") -> ItemScorer:
    return ItemScorer("it", model.model.engine, model.vocab, unknown)


@pytest.mark.parametrize("name", EVERY)
@given(cuts=st.lists(st.integers(0, len(ITEMS)), max_size=4), span=st.integers(1, 100))
def test_scores_of_items(name: str, cuts: list[int], span: int) -> None:
    model = item_model(name)
    expected = scores(name) / -math.log(2)
    scorer = item_scorer(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_SPAN", span)
        ends = [0, *sorted(cuts), len(ITEMS)]
        pieces = [scorer.feed_items(ITEMS[start:end]) for start, end in itertools.pairwise(ends)]
    assert np.concatenate(pieces) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert (scorer.items, scorer.chars) == (len(ITEMS), len(expected))
    assert scorer.loss.bits_per_item == pytest.approx(expected.sum() / len(ITEMS))
    assert (scorer.loss.items, scorer.loss.characters) == (len(ITEMS), len(expected))
    assert scorer.loss.bits == pytest.approx(expected.mean())


@pytest.mark.parametrize("name", EVERY)
@given(span=st.integers(1, 40), first=st.integers(1, 90))
def test_a_stream_may_begin_inside_an_item(name: str, span: int, first: int) -> None:
    model = item_model(name)
    tokens = np.concatenate([model.vocab.encode("fab"), stream(model.vocab, ITEMS)]).astype(np.int32)
    first = min(first, len(tokens))
    log_probs = model.model.engine.log_probs
    begun = log_probs(tokens[:3], tokens[1:4])
    expected = np.concatenate([begun, scores(name)])[first - 1 :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_SPAN", span)
        result = log_probs_from(model.model.engine, tokens, first, boundary=model.vocab.boundary)
    assert result == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_unknown_characters() -> None:
    model = item_model()
    with pytest.raises(VocabError, match=r"unknown character 'x' .* at offset 2 of item 2; 'it' knows"):
        item_scorer(model).feed_items(["ab", "baxa"])
    with pytest.raises(VocabError, match="at offset 2 of the last; 'it' knows"):
        item_scorer(model).feed_items(["ab", "baxa"], names=["the first", "the last"])
    scorer = item_scorer(model, "skip")
    result = scorer.feed_items(["\ufeffbad", "xx", "baxa"])
    plain = np.concatenate(expected_log_probs(model, ["bad", "", "baa"])) / -math.log(2)
    assert result[~np.isnan(result)] == pytest.approx(plain, rel=1e-6)
    assert np.flatnonzero(np.isnan(result)).tolist() == [0, 5, 6, 10]
    assert scorer.unknown_chars == {"x": 3}
    assert (scorer.marks, scorer.items, scorer.chars) == (1, 3, 9)


def test_nothing_scored_has_no_mean() -> None:
    scorer = item_scorer(item_model())
    assert scorer.feed_items([]).tolist() == []
    assert math.isnan(scorer.loss.nats)
    assert math.isnan(scorer.loss.bits_per_item)
