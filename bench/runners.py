"""knock in every precision and its peers, as functions that each generate a number of tokens of the same sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from bench.bench_generate import decoder, key
from bench.peers import PEERS, Tokens, peer_factory
from bench.peers.check import check_peer
from knock.choices import PRECISIONS
from knock.engine.engine import Engine
from knock.weights import Weights

Runners = dict[str, Callable[[], object]]


def runners(weights: Weights, batch: int, length: int, peers: Iterable[str] = PEERS) -> Runners:
    """Return knock in every precision and the peers that are installed, on one thread.

    Every peer is checked against the reference first.

    Args:
        weights: of the model.
        batch: number of sequences.
        length: tokens for each sequence.
        peers: names of peers.
    """
    every: Runners = {
        key("knock", precision): partial(decoder(Engine(weights, "compiled", precision), batch), length)
        for precision in PRECISIONS
    }
    for name in installed(peers):
        peer = peer_factory(name)(weights, batch)
        check_peer(peer, weights, length)
        every[name] = partial(_generate, peer.generate, batch, length)
    return every


def installed(peers: Iterable[str] = PEERS) -> list[str]:
    """Return the names of the peers whose frameworks are installed."""
    found = []
    for name in peers:
        try:
            peer_factory(name)
        except ImportError:
            continue
        found.append(name)
    return found


def _generate(generate: Callable[[int], Tokens], batch: int, length: int) -> None:
    tokens = generate(length)
    assert tokens.shape == (batch, length)
