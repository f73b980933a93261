"""What the engine is compared with does what it says, and in the environment that it should have."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bench.blas import blas
from bench.child import Child, Work
from bench.peaks import UNITS
from bench.tiles import K, N, Shape, product
from knock_kernels.cache.store import aligned
from knock_kernels.lang.cpu import REGISTER

CHAINS = 12


def test_sum_reads_every_number() -> None:
    x, out = aligned(3 * CHAINS * REGISTER), aligned(CHAINS * REGISTER)
    x[:] = np.arange(x.size)
    UNITS.call("sum", x, out, x.size, 2)()
    np.testing.assert_array_equal(out, 2 * x.reshape(3, -1).sum(0))


def test_peak_of_int16_multiplies_pairs_every_time() -> None:
    rng = np.random.default_rng(0)
    x, w, out = (aligned(CHAINS * REGISTER, np.int32) for _ in range(3))
    x[:], w[:] = (rng.integers(-(2**31), 2**31, x.size) for _ in range(2))
    UNITS.call("int16", x, w, out, 3)()
    expected, factor = x.reshape(CHAINS, -1).copy(), w[:REGISTER].view(np.int16).astype(np.int32)
    for _ in range(3):
        pairs = expected.view(np.int16).astype(np.int32) * factor
        expected += pairs[:, ::2] + pairs[:, 1::2]
    np.testing.assert_array_equal(out.reshape(CHAINS, -1), expected)


@pytest.mark.parametrize("shape", [("float32", 4, 2), ("int16", 2, 3), ("int8", 1, 4), ("int16", 16, 4)])
def test_tiles_that_are_measured_compute_the_product(shape: Shape) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 128, (shape[1], K)), rng.integers(-64, 65, (K, N))
    result, run = product(shape, x, w, 2)
    run()
    np.testing.assert_array_equal(result, x @ w)


def test_a_child_has_its_own_environment_and_works_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    changes = {"OPENBLAS_CORETYPE": None, "BENCH_ADDED": "yes"}
    with Child(environment_work, ("OPENBLAS_CORETYPE", "BENCH_ADDED"), changes) as child:
        assert child.names == ("OPENBLAS_CORETYPE: None", "BENCH_ADDED: yes")
        assert child.seconds("BENCH_ADDED: yes") > 0
    assert (os.environ["OPENBLAS_CORETYPE"], "BENCH_ADDED" in os.environ) == ("Nehalem", False)


def environment_work(*names: str) -> Work:
    return {f"{name}: {os.environ.get(name)}": dict for name in names}


def test_variables_that_choose_kernels_of_blas_are_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    class Recorded(Child):
        def __init__(self, prepare: object, environment: dict[str, str | None]) -> None:
            seen.update(environment)

    monkeypatch.setattr("bench.blas.Child", Recorded)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    blas()
    assert (seen["OPENBLAS_CORETYPE"], seen["OMP_NUM_THREADS"]) == (None, "1")
