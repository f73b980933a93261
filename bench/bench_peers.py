"""The same model in other frameworks, on one thread; checked against the reference before it is timed."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.peers import PEERS, peer_factory
from bench.peers.check import check_peer
from tests.cases import EXAMPLE, random_weights

LENGTH = {1: 6000, 8: 2400, 256: 120}  # by batch


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # Inductor uses it
@pytest.mark.parametrize("batch", LENGTH)
@pytest.mark.parametrize("name", PEERS)
def bench_peer(benchmark: BenchmarkFixture, name: str, batch: int) -> None:
    """Sequences of the example shape with random weights, sampled at temperature 1."""
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
