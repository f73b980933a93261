"""A peer is worth measuring only if it is the same model: its logits and its draws against the reference."""

from __future__ import annotations

import numpy as np

from bench.peers import Peer
from knock import reference
from knock.weights import Weights
from tests.cases import float64, random_tokens


def check_peer(peer: Peer, weights: Weights, length: int) -> None:
    """Fail unless the peer's steps give the reference's logits and its text is drawn from them.

    How surprising a drawn token is, less the entropy of what it was drawn from, is 0 on average; the mean over
    thousands of draws comes within 0.1 nats, where the largest logit or an even draw misses by more.

    Args:
        peer: just made. It is left anew.
        weights: what it was made from.
        length: how many tokens to draw.
    """
    config, arrays = weights.config, float64(weights)
    tokens = random_tokens(config, 5 * config.T)  # past anything that a peer keeps of its window
    expected = reference.forward(tokens, arrays, config)
    np.testing.assert_allclose(peer.logits(tokens), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))

    drawn = peer.generate(length)[:8]  # of a large batch, as many as will do
    seen = np.concatenate((np.zeros((len(drawn), 1), drawn.dtype), drawn[:, :-1]), axis=1)
    excess = []
    for row, following in zip(seen, drawn, strict=True):
        logits = reference.forward(row, arrays, config)
        log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        entropy = -(np.exp(log_p) * log_p).sum(1)
        excess.append(-log_p[np.arange(len(row)), following] - entropy)
    assert abs(np.mean(excess)) < 0.1, f"draws are {np.mean(excess):.3f} nats more surprising than they should be"
    peer.reset()
