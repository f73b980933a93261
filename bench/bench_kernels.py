"""Benchmarks of each kernel at the example shape, with its operands in the caches."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.bench_sample import CONTROLS, spread_logits
from bench.loops import run
from knock.choices import PRECISIONS
from knock.engine.packed_model import PackedModel
from knock.engine.packing import controls_of
from knock_kernels.cache.store import (
    Lane,
    Model,
    State,
    Stats,
    address,
    aligned,
    allocate,
    entry_points,
    padded,
    point,
)
from tests.cases import EXAMPLE, random_weights

TIMES = 1000
C = EXAMPLE.n_emb


@pytest.fixture(scope="module", params=PRECISIONS)
def model(request: pytest.FixtureRequest) -> PackedModel:
    """Return a model of the example shape, in each precision."""
    return PackedModel(random_weights(EXAMPLE, 0, scale=0.1), entry_points(), request.param)


@pytest.mark.parametrize("rows", [1, 8, 64])
def bench_linear(benchmark: BenchmarkFixture, model: PackedModel, rows: int) -> None:
    """Multiply by the fused projection: [rows, 64] by [64, 384]."""
    block, N = model.blocks[0], int(model.blocks["N"][0])
    loop = "code_linear" if model.record["has_codes"] else "linear"
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    benchmark(run(loop, int(block["inputs"]), aligned(rows * C), aligned(rows * N), rows, TIMES))


@pytest.mark.parametrize("rows", [1, 8])
def bench_mlp(benchmark: BenchmarkFixture, model: PackedModel, rows: int) -> None:
    """Normalise rows and run an MLP of width 64."""
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    scratch = model.scratch()
    benchmark(run("mlp", model.blocks, rows, model.record, scratch.state, TIMES))
    assert scratch.arrays  # kept until here


@pytest.mark.parametrize("rows", [1, 8])
def bench_normalize(benchmark: BenchmarkFixture, model: PackedModel, rows: int) -> None:
    """Normalise rows of 64."""
    scratch = model.scratch()
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    benchmark(run("normalize", rows, model.record, scratch.state, TIMES))
    assert scratch.arrays  # kept until here


@pytest.mark.parametrize("rows", [1, 8])
def bench_attention(benchmark: BenchmarkFixture, model: PackedModel, rows: int) -> None:
    """Attend to a full window in one block; in float32, or from eight positions of the first window together."""
    scratch, (cache,) = model.scratch(), model.caches(1)
    projected, x = aligned(rows * int(model.blocks["N"][0])), aligned(rows * C)
    projected[:] = 0.1
    position = 100 if rows == 1 else EXAMPLE.T - rows
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    loop = "code_attention" if model.record["has_codes"] else "attention"
    benchmark(run(loop, projected, cache, position, rows, x, model.blocks, model.record, scratch.state, TIMES))


@pytest.mark.parametrize("rows", [1, 8])
def bench_forward(benchmark: BenchmarkFixture, model: PackedModel, rows: int) -> None:
    """Run one step of one lane or of eight, without output layer and sampling."""
    scratch, caches = model.scratch(), model.caches(rows)
    scratch.arrays["tokens"][:rows] = np.arange(rows)
    scratch.arrays["positions"][:rows] = 100
    scratch.arrays["caches"][:rows] = [address(cache) for cache in caches]
    benchmark.extra_info.update(unit="rows", count=rows * TIMES)
    benchmark(run("forward", rows, model.record, scratch.state, TIMES))
    assert len(caches) == rows  # kept until here


@pytest.mark.parametrize("vocab_size", [65, 5000])
@pytest.mark.parametrize("control", CONTROLS)
def bench_sampler(benchmark: BenchmarkFixture, control: str, vocab_size: int) -> None:
    """Draw once, including the random number and the statistics."""
    times, V = 65 * TIMES // vocab_size, padded(vocab_size)
    logits, controls = aligned(V), controls_of(CONTROLS[control])
    logits[:vocab_size] = spread_logits(vocab_size)
    sizes, state, lane = Model.array(), State.array(), Lane.array()
    sizes["V"], sizes["V_padded"] = vocab_size, V
    work = allocate(State, state, {"work": (5, V)})
    point(Lane, lane, controls=controls)
    benchmark.extra_info.update(unit="draws", count=times)
    benchmark(run("sample", logits, lane, sizes, state, Stats.array(), times))
    assert len(work) == len(controls) == 1  # kept until here


def bench_philox(benchmark: BenchmarkFixture) -> None:
    """Compute one Philox random number."""
    benchmark.extra_info.update(unit="draws", count=TIMES)
    benchmark(run("uniform", np.zeros(1), TIMES))
