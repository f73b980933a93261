"""Peers: the same model, written for speed in other frameworks, to compare knock with.

Every peer decodes one token per step from a cache of the last T keys and values, for B sequences at once, in float32
on one thread, and samples at temperature 1 with random numbers of its framework. Peers have the advantages of knock's
packing: one matrix for queries, keys, values and reweight logits, folded gates, and the first block as a table.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from knock.weights import FloatArray, Weights

Tokens = npt.NDArray[np.integer[Any]]


class Peer(Protocol):
    """A model and B sequences that it continues together. Every sequence begins with token 0."""

    def reset(self) -> None:
        """Restart all sequences."""

    def logits(self, tokens: Tokens) -> FloatArray:
        """Return the logits of one sequence, computed by the steps that generate: [N] -> [N, V]. Resets the peer."""

    def generate(self, length: int) -> Tokens:
        """Return the next tokens of every sequence, [B, length]."""


# The factory of each peer. A module is imported when its peer is used, since any framework may be missing.
PEERS = {
    "torch eager": "torch_eager_peer:TorchEagerPeer",
    "torch.compile": "torch_compile_peer:TorchCompilePeer",
    "ONNX Runtime": "onnx_peer:OnnxPeer",
    "JAX": "jax_peer:JaxPeer",
}


def peer_factory(name: str) -> Callable[[Weights, int], Peer]:
    """Return the function that makes the named peer from weights and a number of sequences.

    Raises:
        ImportError: if its framework is not installed.
    """
    module, factory = PEERS[name].split(":")
    made: Callable[[Weights, int], Peer] = getattr(import_module(f"{__name__}.{module}"), factory)
    return made
