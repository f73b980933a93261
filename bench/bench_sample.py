"""Benchmarks of the reference sampler under each control."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from knock import Sampling, reference

CONTROLS = {
    "temperature": Sampling(temperature=0.8),
    "top_k": Sampling(top_k=40),
    "typical_p": Sampling(typical_p=0.9),
    "top_p": Sampling(top_p=0.9),
    "min_p": Sampling(min_p=0.05),
    "top_n_sigma": Sampling(top_n_sigma=2.0),
    "exact entropy": Sampling(target_entropy=2.0),
    "ratio entropy": Sampling(target_entropy=2.0, entropy_rule="ratio"),
    "mirostat": Sampling(mirostat=3.0),
}


@pytest.mark.parametrize("vocab_size", [65, 5000])
@pytest.mark.parametrize("control", CONTROLS)
def bench_sample(benchmark: BenchmarkFixture, control: str, vocab_size: int) -> None:
    """Draw once."""
    logits = spread_logits(vocab_size)
    benchmark.extra_info.update(unit="draws", count=1)
    benchmark(reference.sample, logits, CONTROLS[control], 0.5, 6.0)


def spread_logits(vocab_size: int) -> npt.NDArray[np.float64]:
    """Return logits with a spread like those of a trained model: [V]."""
    return 3 * np.random.default_rng(0).standard_normal(vocab_size)


def bench_uniform(benchmark: BenchmarkFixture) -> None:
    """Compute one Philox random number."""
    benchmark.extra_info.update(unit="draws", count=1)
    benchmark(reference.uniform, 7, 0, 1234)
