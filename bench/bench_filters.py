"""Benchmark of the filters of `knock sample`: rows drawn and written with and without them, in turns."""

from __future__ import annotations

import string
from collections.abc import Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import knock
from bench.turns import seconds, take_turns
from knock import Generation, LanguageModel
from knock.generation.filters import Filters
from knock.generation.known_texts import KnownRuns, KnownTexts
from knock.jobs.row_filter import RowFilter
from knock.jobs.rows import LineWriter, row_of

ROWS, KNOWN = 10_000, 100_000


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """The shipped model of names, whose texts have six letters on average."""
    return knock.load("names", backend="compiled")


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
        benchmark(KnownRuns, 5, texts)


@pytest.mark.parametrize("length", [6, 20, 60, 100, 1000, 100_000])
def bench_overlap(benchmark: BenchmarkFixture, length: int) -> None:
    """Look for copied runs of 5 letters in texts that have none."""
    rng = np.random.default_rng(0)
    runs = KnownRuns(5, ["".join(rng.choice(list(string.ascii_lowercase), 8 * KNOWN))])
    texts = ["".join(rng.choice(list(string.ascii_uppercase), length)) for _ in range(max(1, 100_000 // length))]
    benchmark.extra_info.update(unit="texts", count=len(texts))
    assert not any(benchmark(lambda: [runs.has_run_of(text) for text in texts]))


def _draw(model: LanguageModel, count: int, seed: int) -> Iterator[Generation]:
    return model.sample_iter([""] * count, seed=seed, max_new_tokens=1000)
