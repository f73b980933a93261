"""Benchmark of the filters of `knock sample`: rows drawn and written with and without them, in turns."""

from __future__ import annotations

import string
from collections.abc import Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.turns import seconds, take_turns
from knock import Generation, LanguageModel, ModelConfig, ReweightGPT, Vocab
from knock.generation.filters import Filters
from knock.generation.known_texts import KnownRuns, KnownTexts
from knock.jobs.row_filter import RowFilter
from knock.jobs.rows import LineWriter, row_of
from tests.cases import random_weights

ROWS, KNOWN, LONGEST = 10_000, 100_000, 8


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """A model of items of at most 8 letters, such as names, with random weights."""
    vocab = Vocab(string.ascii_lowercase, boundary=True)
    config = ModelConfig(vocab_size=vocab.vocab_size, T=32, n_emb=48, nodes=96, n_blocks=3, n_heads=4)
    return LanguageModel(ReweightGPT.from_weights(random_weights(config, 0, scale=0.1), backend="compiled"), vocab)


def bench_filters(benchmark: BenchmarkFixture, model: LanguageModel) -> None:
    """Draw short items and write them as lines: all, those that are unique and novel, and those without long copies."""
    known = [text.text for text in _draw(model, KNOWN if benchmark.enabled else 1000, seed=1)]
    novel, runs = KnownTexts(known), KnownRuns(5, known)
    count = ROWS if benchmark.enabled else 100

    def write(filters: Filters | None) -> None:
        filter_ = None if filters is None else RowFilter(filters, of_items=True)
        writer = LineWriter(len, "txt", filter_=filter_)
        for text in _draw(model, count, seed=2):
            writer.add(row_of(text))
        writer.flush()
        if filters is not None:
            assert 0 < filters.kept <= filters.drawn == count
            assert filters.kept < count or not benchmark.enabled  # a hundred texts may all be new

    take_turns(
        benchmark,
        lambda: {
            "none": seconds(lambda: write(None)),
            "unique, novel": seconds(lambda: write(Filters(unique=True, novel=novel))),
            "max overlap": seconds(lambda: write(Filters(overlap=runs))),
        },
    )


@pytest.mark.parametrize("of", ["texts", "runs"])
def bench_known(benchmark: BenchmarkFixture, of: str) -> None:
    """Hash a list of known texts of 8 letters, or all their runs of 5."""
    rng = np.random.default_rng(0)
    letters = "".join(rng.choice(list(string.ascii_lowercase), 8 * KNOWN))
    texts = [letters[i : i + 8] for i in range(0, len(letters), 8)]
    benchmark.extra_info.update(unit="texts", count=KNOWN)
    if of == "texts":
        benchmark(KnownTexts, texts)
    else:
        benchmark(KnownRuns, 5, [letters])


def _draw(model: LanguageModel, count: int, seed: int) -> Iterator[Generation]:
    return model.sample_iter([""] * count, seed=seed, max_length=LONGEST, max_new_tokens=1000)
