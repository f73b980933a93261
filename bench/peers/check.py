"""Check that a peer is the same model: its logits and its draws against the reference."""

from __future__ import annotations

import numpy as np

from bench.peers import Peer
from knock import reference
from knock.weights import Weights
from tests.cases import float64, random_tokens


def check_peer(peer: Peer, weights: Weights, length: int) -> None:
    """Raise unless a peer reproduces the logits of the reference and draws its tokens from them.

    The surprise of a drawn token minus the entropy of its distribution is 0 on average. The mean over thousands of
    draws is within 0.1 nats; always taking the largest logit, or drawing uniformly, is farther off.

    Args:
        peer: a new peer. It is reset afterwards.
        weights: the weights it was made from.
        length: number of tokens to draw.

    Raises:
        AssertionError: if the logits or the draws differ.
    """
    config, arrays = weights.config, float64(weights)
    tokens = random_tokens(config, 5 * config.T)  # longer than any peer's cache
    expected = reference.forward(tokens, arrays, config)
    np.testing.assert_allclose(peer.logits(tokens), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))

    drawn = peer.generate(length)[:8]  # eight sequences of a large batch are enough
    seen = np.concatenate((np.zeros((len(drawn), 1), drawn.dtype), drawn[:, :-1]), axis=1)
    excess = []
    for row, following in zip(seen, drawn, strict=True):
        logits = reference.forward(row, arrays, config)
        log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        entropy = -(np.exp(log_p) * log_p).sum(1)
        excess.append(-log_p[np.arange(len(row)), following] - entropy)
    assert abs(np.mean(excess)) < 0.1, f"draws are {np.mean(excess):.3f} nats more surprising than they should be"
    peer.reset()
