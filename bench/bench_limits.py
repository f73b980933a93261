"""Benchmark of the engine in turns with the limits of the machine: multiply-adds, and memory that is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pytest_benchmark.fixture import BenchmarkFixture

from bench.bench_generate import LARGE, decoder, key
from bench.blas import MULTIPLY_ADDS, blas, blas_name
from bench.limits import bytes_read
from bench.peaks import INTEGERS, multiply_adds, reads
from bench.turns import best, seconds, take_turns
from knock import ModelConfig
from knock.choices import PRECISIONS, Backend, Precision
from knock.engine.engine import Engine
from knock_kernels.cache.store import ROWS
from tests.cases import EXAMPLE, random_tokens, random_weights

POSITIONS = 1024  # of a sequence whose logits are computed at once
SHORT, RUNS = 3_000, 20  # repetitions of an instruction in a run, and runs in a turn: a limit is the best of many
MEGABYTES = {"L2": 0.25, "L3": 8, "DRAM": 256}  # read from there, on most machines
READ = 4e6  # bytes, at least, in a run

ONE, EIGHT, MANY = "one text", "eight texts together", "256 texts"
SLIDING, NUMPY = "one text, absolute positions, window sliding", "one text on NumPy"
LOGITS, LARGE_ONE, LARGE_LOGITS = "logits", "large: one text", "large: logits"
PEAK, WEIGHTS, LARGE_WEIGHTS, MEMORY = "limit: multiply-adds", "limit: weights", "limit: large weights", "limit: "

# Tokens for each sequence in a turn.
_LENGTHS = {ONE: 2000, EIGHT: 500, MANY: 30, SLIDING: 300, NUMPY: 30, LARGE_ONE: 20}
_COUNTS = {EIGHT: ROWS, MANY: 256}


def bench_limits(benchmark: BenchmarkFixture) -> None:
    """Generate and compute logits in every precision, on one thread, in turns with what limits them.

    Recorded are the seconds of a token, of a multiply-add, of a byte, and of reading the weights and the cache once.
    """
    work: dict[str, tuple[float, Callable[[], object]]] = {}  # a number of units, and a function that does as many
    for precision in PRECISIONS:
        work |= {key(what, precision): each for what, each in _engine(precision).items()}
    limits = {key(PEAK, precision): multiply_adds(precision, SHORT) for precision in INTEGERS}
    for place, size in MEGABYTES.items():
        limits[f"{MEMORY}{place}"] = _read(size * 2**20)
    for precision in PRECISIONS:
        for what, config in ((WEIGHTS, EXAMPLE), (LARGE_WEIGHTS, LARGE)):
            nbytes = bytes_read(config, precision)
            count, read = _read(nbytes)
            limits[key(what, precision)] = (count / nbytes, read)

    with blas() as product:

        def once() -> dict[str, float]:
            taken = {name: seconds(call) / count for name, (count, call) in work.items()}
            taken |= {name: best(call, RUNS) / count for name, (count, call) in limits.items()}
            taken[key(PEAK, "float32")] = min(product.seconds("sgemm") for _ in range(RUNS)) / MULTIPLY_ADDS
            return taken

        take_turns(benchmark, once)
    benchmark.extra_info["blas"] = blas_name()


def _engine(precision: Precision) -> dict[str, tuple[float, Callable[[], object]]]:
    """Return what is compared with the limits: for each, a number of tokens, and a function that does as many."""

    def engine(config: ModelConfig, backend: Backend = "compiled") -> Engine:
        return Engine(random_weights(config, 0, scale=0.1), backend, precision)

    example, large = engine(EXAMPLE), engine(LARGE)
    engines = {
        SLIDING: engine(replace(EXAMPLE, position="absolute")),
        NUMPY: engine(EXAMPLE, "numpy"),
        LARGE_ONE: large,
    }
    work: dict[str, tuple[float, Callable[[], object]]] = {}
    for what, length in _LENGTHS.items():
        count = _COUNTS.get(what, 1)
        work[what] = (count * length, partial(decoder(engines.get(what, example), count), length))
    for what, each in ((LOGITS, example), (LARGE_LOGITS, large)):
        work[what] = (POSITIONS, partial(each.logits, random_tokens(each.config, POSITIONS)))
    return work


def _read(nbytes: float) -> tuple[int, Callable[[], None]]:
    return reads(int(nbytes), max(1, round(READ / nbytes)))
