"""What knock is measured against: the same model, written for speed in other frameworks.

Every peer decodes one token a step from a cache of the last T keys and values, for B sequences at once, in float32
on one thread, and samples at temperature 1 with numbers of its framework's own. Peers get what knock's packing has:
one matrix for queries, keys, values and reweight logits, folded gates, and the first block as a table.
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
    """One model, and B sequences that it continues together. A sequence begins with token 0."""

    def reset(self) -> None:
        """Begin all sequences anew."""

    def logits(self, tokens: Tokens) -> FloatArray:
        """Logits at every position of one sequence, by the steps that generate: [N] -> [N, V]. Resets the peer."""

    def generate(self, length: int) -> Tokens:
        """The next tokens of every sequence: (B, length)."""


# Name, and where the factory is. A module is imported when its peer is asked for, so that any may be missing.
PEERS = {
    "torch eager": "torch_eager_peer:TorchEagerPeer",
    "torch.compile": "torch_compile_peer:TorchCompilePeer",
    "ONNX Runtime": "onnx_peer:OnnxPeer",
    "JAX": "jax_peer:JaxPeer",
}


def peer_factory(name: str) -> Callable[[Weights, int], Peer]:
    """What makes the peer of that name from weights and the number of sequences.

    Raises:
        ImportError: if what it needs is not installed.
    """
    module, factory = PEERS[name].split(":")
    made: Callable[[Weights, int], Peer] = getattr(import_module(f"{__name__}.{module}"), factory)
    return made
