"""Benchmarks of the same model in other frameworks, each checked against the reference before it is timed."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.peers import PEERS, peer_factory
from bench.peers.check import check_peer
from bench.peers.pair import Pair
from tests.cases import EXAMPLE, random_weights

LENGTH = {1: 6000, 8: 2400, 256: 120}  # by batch
PAIR_BATCH, PAIR_LENGTH = 256, 256  # as in bench_batch


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # Inductor uses it
@pytest.mark.parametrize("batch", LENGTH)
@pytest.mark.parametrize("name", PEERS)
def bench_peer(benchmark: BenchmarkFixture, name: str, batch: int) -> None:
    """Generate sequences of the example shape with random weights at temperature 1, on one thread."""
    try:
        factory = peer_factory(name)
    except ImportError as error:
        pytest.skip(str(error))
    weights, length = random_weights(EXAMPLE, 0, scale=0.1), LENGTH[batch]
    peer = factory(weights, batch)
    check_peer(peer, weights, length)
    benchmark.extra_info.update(unit="tokens", count=batch * length)
    tokens = benchmark.pedantic(peer.generate, (length,), rounds=8, warmup_rounds=1)
    assert tokens.shape == (batch, length)


@pytest.mark.parametrize("name", PEERS)
def bench_pair(benchmark: BenchmarkFixture, name: str) -> None:
    """Generate on two cores: half of the sequences in each of two processes."""
    try:
        peer_factory(name)
    except ImportError as error:
        pytest.skip(str(error))
    with Pair(name, random_weights(EXAMPLE, 0, scale=0.1), PAIR_BATCH, PAIR_LENGTH) as pair:
        benchmark.extra_info.update(unit="tokens", count=PAIR_BATCH * PAIR_LENGTH)
        tokens = benchmark.pedantic(pair.generate, (PAIR_LENGTH,), rounds=8, warmup_rounds=1)
    assert tokens.shape == (PAIR_BATCH, PAIR_LENGTH)
