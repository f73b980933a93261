"""Tests of what `knock train` says about a finished model: yardsticks, copies, whether it was still improving."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from knock import LanguageModel, ReweightGPT
from knock.cli.train import quality
from knock.config import ModelConfig
from knock.files.corpus import TokenizedText
from knock_training.yardsticks import yardsticks
from tests.cases import random_weights

ITEMS = ["".join(letters) for length in (1, 2) for letters in itertools.product("abcdef", repeat=length)]


def corpus_of(items: list[str]) -> TokenizedText:
    return TokenizedText.from_items(items, "items")


def model_of(text: TokenizedText) -> LanguageModel:
    config = ModelConfig(vocab_size=text.vocab.vocab_size, T=4, n_emb=8, nodes=8, n_blocks=1, n_heads=2)
    return LanguageModel(ReweightGPT.from_weights(random_weights(config, 0)), text.vocab)


def items_of(tokens: np.ndarray, text: TokenizedText) -> list[str]:
    ends = np.flatnonzero(tokens == text.vocab.boundary)
    return [text.vocab.decode(tokens[a + 1 : b]) for a, b in itertools.pairwise(ends)]


@pytest.mark.parametrize("piece", [1, 10, 2**20])
def test_copies_are_counted(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(quality, "_PIECE", piece)
    text = corpus_of(ITEMS)
    model = model_of(text)
    record = quality.sample_record(model.model.weights, text, None)
    drawn = model.generate_batch([""], n=1000, seed=0, max_new_tokens=5)
    items = [each.text for each in drawn]
    trained_on = set(items_of(text.train, text))
    expected = Counter(item in trained_on for item in items)
    assert expected[True] > 0
    assert any(item in ITEMS and item not in trained_on for item in items)  # held out: no copy
    assert record == {
        "items": 1000, "seed": 0, "copies": expected[True], "repeats": 1000 - len(set(items)),
    }  # fmt: skip
    copies, repeats = (f"{record[name] / 1000:.1%}" for name in ("copies", "repeats"))
    assert quality.sample_line(record) == (
        f"of a sample of 1,000 items, {copies} are training items and {repeats} repeat another one of the sample"
    )


def test_a_sample_of_long_items_is_smaller() -> None:
    text = corpus_of(["ab" * 1000, "abc" * 1000, "c"])
    record = quality.sample_record(model_of(text).model.weights, text, None)
    assert record is not None
    assert quality._LEAST_SAMPLE <= record["items"] < 1000


def test_a_sample_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    text = corpus_of(ITEMS)
    weights = model_of(text).model.weights
    assert quality.sample_record(weights, text, 0) is None
    times = iter([0.0, 0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(quality, "time", SimpleNamespace(monotonic=lambda: next(times)))
    record = quality.sample_record(weights, text, 2.5)
    assert record is not None
    assert record["items"] == 300


@pytest.mark.parametrize("by_items", [False, True])
def test_yardsticks_are_a_table_with_the_best_first(by_items: bool) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abc"), 6)) for _ in range(3000)]
    text = corpus_of(words) if by_items else TokenizedText.from_text("\n".join(words), "text")
    record = quality.yardsticks_record(text, None)
    expected = yardsticks(text.train, text.held_out, text.vocab.vocab_size, text.vocab.boundary)
    assert record is not None
    assert expected is not None
    ngram, xz, bzip2, train, held_out = expected
    assert record == {
        "bits_per_char": {"n-gram of order 6": ngram, "xz": xz, "bzip2": bzip2},
        "train_characters": train,
        "held_out_characters": held_out,
    }
    best = sorted([(ngram, "n-gram of order 6"), (xz, "xz"), (bzip2, "bzip2"), (1.5, "this model")])
    assert list(quality.yardstick_lines(1.5, record, text)) == [
        f"bits/char on the held-out {'items' if by_items else 'text'}:",
        *(f"  {name:<17}  {bits:.4f}" for bits, name in best),
    ]


def test_yardsticks_of_a_part_say_so() -> None:
    text = TokenizedText.from_text("abc" * 1000, "text")
    record = {"bits_per_char": {"xz": 2.0}, "train_characters": 1000, "held_out_characters": 200}
    *_, last = quality.yardstick_lines(1.5, record, text)
    assert last == "the yardsticks are of 1,000 of 2,700 training characters, and 200 of 300 held out"


def test_yardsticks_take_no_longer_than_they_may() -> None:
    assert quality.yardsticks_record(TokenizedText.from_text("abc" * 10_000, "text"), 0) is None
