"""Two processes of one thread, each with half of the sequences: the most that two cores can do for a peer."""

from __future__ import annotations

import multiprocessing
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bench.peers import Tokens, peer_factory
from bench.peers.check import check_peer
from knock.weights import Weights


class Pair(AbstractContextManager["Pair"]):
    """A peer for each half. Use it in a `with`.

    Args:
        name: of the peer.
        weights: of the model.
        batch: sequences, of both together.
        length: of what they will generate, for their check.
    """

    def __init__(self, name: str, weights: Weights, batch: int, length: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection[Any, Any]] = []
        self._processes = []
        for _ in range(2):
            here, there = context.Pipe()
            arguments = (there, name, weights, batch // 2, length)
            self._processes.append(context.Process(target=_work, args=arguments, daemon=True))
            self._processes[-1].start()
            there.close()
            self._ends.append(here)
        self._receive()

    def __exit__(self, *exception: object) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join()

    def generate(self, length: int) -> Tokens:
        """The next tokens of every sequence: (B, length)."""
        for end in self._ends:
            end.send(length)
        return np.concatenate(self._receive())

    def _receive(self) -> list[Any]:
        try:
            return [end.recv() for end in self._ends]
        except EOFError:
            raise RuntimeError("a peer's process has ended; what it said is above") from None


def _work(end: Connection[Any, Any], name: str, weights: Weights, batch: int, length: int) -> None:
    peer = peer_factory(name)(weights, batch)
    check_peer(peer, weights, length)
    end.send(None)
    while True:
        try:
            asked = end.recv()
        except EOFError:  # nothing more is asked for
            return
        end.send(peer.generate(asked))
