"""Two processes with one thread and half of the sequences each: the best use of two cores for a peer."""

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
    """A context manager that runs a peer in each of two processes.

    Args:
        name: name of the peer.
        weights: weights of the model.
        batch: number of sequences in both processes together.
        length: number of tokens to draw when the peers are checked.
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
        """Return the next tokens of every sequence, [B, length]."""
        for end in self._ends:
            end.send(length)
        return np.concatenate(self._receive())

    def _receive(self) -> list[Any]:
        try:
            return [end.recv() for end in self._ends]
        except EOFError:
            raise RuntimeError("the process of a peer has ended; see its output above") from None


def _work(end: Connection[Any, Any], name: str, weights: Weights, batch: int, length: int) -> None:
    peer = peer_factory(name)(weights, batch)
    check_peer(peer, weights, length)
    end.send(None)
    while True:
        try:
            length = end.recv()
        except EOFError:  # the parent has closed the pipe
            return
        end.send(peer.generate(length))
