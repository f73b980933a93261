"""Benchmarks of knock, in every precision, in turns with the same model in other frameworks."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.bench_batch import language_model, write_texts
from bench.bench_generate import key
from bench.peers.pair import Pair
from bench.runners import Runners, installed, runners
from bench.turns import seconds, take_turns
from knock import ModelConfig
from knock.choices import PRECISIONS
from tests.cases import EXAMPLE, random_weights

LENGTH = {1: 6000, 8: 2400, 256: 120}  # by batch
PAIR_BATCH, PAIR_LENGTH = 256, 256
SMALL = ModelConfig(vocab_size=27, T=16, n_emb=16, nodes=64, n_blocks=1, n_heads=4)  # microGPT's, with knock's heads
SMALL_LENGTH = {1: 20_000, 256: 400}
SMALL_PEERS = ("JAX",)  # the fastest
ROUNDS = 15

of_inductor = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@of_inductor
@pytest.mark.parametrize("batch", LENGTH)
def bench_peers(benchmark: BenchmarkFixture, batch: int) -> None:
    """Generate sequences of the example shape with random weights at temperature 1, on one thread."""
    length = LENGTH[batch]
    race(benchmark, runners(random_weights(EXAMPLE, 0, scale=0.1), batch, length), batch * length)


@pytest.mark.parametrize("batch", SMALL_LENGTH)
def bench_small(benchmark: BenchmarkFixture, batch: int) -> None:
    """Generate sequences of a tiny shape in the same way: most of the time is not spent on products."""
    length = SMALL_LENGTH[batch]
    race(benchmark, runners(random_weights(SMALL, 0, scale=0.1), batch, length, SMALL_PEERS), batch * length)


def bench_pairs(benchmark: BenchmarkFixture) -> None:
    """Generate on two cores: knock from prompts to texts, the peers with half of the sequences in each process."""
    weights = random_weights(EXAMPLE, 0, scale=0.1)
    lengths = [PAIR_LENGTH] * PAIR_BATCH
    every: Runners = {
        key("knock", precision): partial(write_texts, language_model(precision), lengths, threads=2)
        for precision in PRECISIONS
    }
    with ExitStack() as processes:
        for name in installed():
            pair = processes.enter_context(Pair(name, weights, PAIR_BATCH, PAIR_LENGTH))
            every[name] = partial(pair.generate, PAIR_LENGTH)
        race(benchmark, every, PAIR_BATCH * PAIR_LENGTH)


def race(benchmark: BenchmarkFixture, every: Runners, tokens: int, rounds: int = ROUNDS) -> None:
    """Measure the seconds for each token of all runners, in turns."""
    take_turns(benchmark, lambda: {name: seconds(run) / tokens for name, run in every.items()}, rounds)
