"""Benchmarks of each kernel at the example shape, with its operands in the caches."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.bench_sample import CONTROLS, spread_logits
from bench.loops import run
from knock.engine.packed_model import PackedModel
from knock.engine.packing import aligned, control_row
from knock_kernels.cache.store import entry_points
from knock_kernels.lang.layout import Part, Stat, padded
from tests.cases import EXAMPLE, random_weights

TIMES = 1000
C = EXAMPLE.n_emb


@pytest.mark.parametrize("rows", [1, 8, 64])
def bench_linear(benchmark: BenchmarkFixture, rows: int) -> None:
    """Multiply by the fused projection: [rows, 64] by [64, 320]."""
    N = 320
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    benchmark(
        run("linear", aligned(rows * C), aligned(C * N), aligned(rows * N), rows, C, padded(N) // padded(1), TIMES)
    )


def bench_layer_norm(benchmark: BenchmarkFixture) -> None:
    """Normalise one row of 64."""
    benchmark.extra_info.update(unit="rows", count=TIMES)
    benchmark(run("layer_norm", aligned(C), aligned(C), C, TIMES))


@pytest.mark.parametrize("rows", [1, 8])
def bench_mlp(benchmark: BenchmarkFixture, rows: int) -> None:
    """Run an MLP of width 64."""
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    benchmark(run("mlp", aligned(rows * C), aligned(C * C), aligned(rows * C), aligned(rows * C), rows, C, TIMES))


@pytest.mark.parametrize("rows", [1, 8])
def bench_attention(benchmark: BenchmarkFixture, rows: int) -> None:
    """Attend to a full window in one block; or from eight positions of the first window together."""
    model = PackedModel(random_weights(EXAMPLE, 0, scale=0.1), entry_points())
    plan, scratch = model.plan, model.scratch(1)
    projected, ring = aligned(rows * int(plan[Part.N_in])), scratch[model.cache_offset(0) :]
    projected[:] = 0.1
    position = 100 if rows == 1 else EXAMPLE.T - rows
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    zeros, x = model.weights[plan[Part.zeros] :], aligned(rows * C)
    benchmark(run("attention", projected, ring, position, rows, zeros, scratch, x, plan, TIMES))


@pytest.mark.parametrize("rows", [1, 8])
def bench_forward(benchmark: BenchmarkFixture, rows: int) -> None:
    """Run one step of one lane or of eight, without output layer and sampling."""
    model = PackedModel(random_weights(EXAMPLE, 0, scale=0.1), entry_points())
    tokens, positions = np.arange(rows), np.full(rows, 100)
    caches = np.array([model.cache_offset(i) for i in range(rows)])
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    scratch = model.scratch(rows)
    benchmark(run("forward", tokens, positions, caches, rows, model.weights, scratch, model.plan, TIMES))


@pytest.mark.parametrize("vocab_size", [65, 5000])
@pytest.mark.parametrize("control", CONTROLS)
def bench_sampler(benchmark: BenchmarkFixture, control: str, vocab_size: int) -> None:
    """Draw once, including the random number and the statistics."""
    times = 65 * TIMES // vocab_size
    logits = spread_logits(vocab_size).astype(np.float32)
    controls = np.array(control_row(CONTROLS[control]))
    benchmark.extra_info.update(unit="draws", count=times)
    work, stats = aligned(5 * vocab_size), np.zeros(len(Stat))
    benchmark(run("sample", logits, np.zeros(1, np.int32), vocab_size, controls, work, stats, times))


def bench_philox(benchmark: BenchmarkFixture) -> None:
    """Compute one Philox random number."""
    benchmark.extra_info.update(unit="draws", count=TIMES)
    benchmark(run("uniform", np.zeros(1), TIMES))
