"""Benchmarks of constraints and penalties of repetition: what they cost in a batch, measured in turns with none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from bench.turns import seconds, take_turns
from knock.language_model import load

MODEL, ROWS, LENGTH, THREADS = "shakespeare-hybrid", 256, 256, 2
WORDS = r"([A-Z]?[a-z']+[ ,.;:!?\n-]+)*[A-Za-z ]*"  # of any length
CASES: Mapping[str, Mapping[str, Any]] = {
    "free": {},
    "a pattern": {"pattern": WORDS},
    "a pattern of bounded repetitions": {"pattern": r"[A-Z][a-z ,.'\n]{254}[.!?]"},
    "banned strings": {"ban": ["the", "and", "thou"]},
    "no repeated 12-grams": {"no_repeat_ngram": 12},
    "DRY": {"dry_multiplier": 0.8},
}


def bench_constraints(benchmark: BenchmarkFixture) -> None:
    """Generate texts of 256 characters with and without constraints, prompts to texts."""
    lm = load(MODEL, backend="compiled")

    def generate(options: Mapping[str, Any]) -> None:
        rows = lm.generate_batch(["ROMEO:"] * ROWS, seed=1, max_new_tokens=LENGTH, threads=THREADS, **options)
        assert all(len(row.text) == LENGTH for row in rows)

    def once() -> dict[str, float]:
        return {name: seconds(lambda options=options: generate(options)) for name, options in CASES.items()}

    take_turns(benchmark, once)
    medians = benchmark.extra_info["medians"]
    benchmark.extra_info["relative_rates"] = {name: medians["free"] / taken for name, taken in medians.items()}


def bench_likeliest(benchmark: BenchmarkFixture) -> None:
    """Find the ten most probable lines."""
    lm = load(MODEL, backend="compiled")
    found = benchmark(lm.most_likely, 10, stop="\n")
    assert found.is_exact
    benchmark.extra_info.update(unit="prefixes", count=found.prefixes)
