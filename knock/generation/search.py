"""The likeliest whole texts of a model, found by best-first search."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knock.engine.automaton import Automaton
from knock.engine.batch import NOT_DONE
from knock.engine.engine import Engine
from knock.vocab import TokenArray

DEFAULT_LIMIT = 100_000  # prefixes looked at


class Found(NamedTuple):
    """A whole text.

    Attributes:
        tokens: its tokens after the prompt, without the boundary or the stop string.
        log_prob: natural logarithm of its probability, its end included.
    """

    tokens: list[int]
    log_prob: float


class _Node(NamedTuple):
    """A prefix whose continuations wait in the order of their probability.

    Attributes:
        tokens: its tokens after the prompt.
        state: state of the automaton.
        log_probs: log-probability of the prefix with each continuation, descending, [K].
        following: the tokens of these continuations, [K].
    """

    tokens: tuple[int, ...]
    state: int
    log_probs: npt.NDArray[np.float64]
    following: TokenArray


def likeliest(
    engine: Engine, prompt: TokenArray, automaton: Automaton, state: int, length: int, limit: int = DEFAULT_LIMIT
) -> Iterator[Found]:
    """Yield whole texts in the order of their probability, the likeliest first.

    A prefix is at least as probable as any text that begins with it. So once a whole text is the most probable of all
    that wait, no other can be more probable: the order is exact (Hart, Nilsson and Raphael 1968, A* search). Of equal
    ones, the one that was reached first comes first.

    Args:
        engine: the model.
        prompt: the prompt, [N] with N >= 1.
        automaton: what texts must match and where they end.
        state: its state after the prompt.
        length: most tokens of a text.
        limit: number of prefixes to look at; the search then ends, even if there are more texts.
    """
    numbers = itertools.count()
    waiting: list[tuple[float, int, _Node, int]] = []

    def wait(node: _Node, rank: int) -> None:
        if rank < len(node.following):
            heapq.heappush(waiting, (-float(node.log_probs[rank]), next(numbers), node, rank))

    wait(_expand(engine, prompt, automaton, (), state, length, 0.0), 0)
    expanded = 1
    while waiting:
        cost, _, node, rank = heapq.heappop(waiting)
        wait(node, rank + 1)
        token = int(node.following[rank])
        tokens = (*node.tokens, token)
        after, reason, cut = automaton.follow(node.state, token, length - len(tokens))
        if reason != NOT_DONE:
            yield Found(list(tokens[: len(tokens) - cut]), -cost)
            continue
        if expanded >= limit:
            return
        expanded += 1
        wait(_expand(engine, prompt, automaton, tokens, after, length, -cost), 0)


def _expand(
    engine: Engine, prompt: TokenArray, automaton: Automaton, tokens: tuple[int, ...], state: int, length: int,
    log_prob: float,
) -> _Node:  # fmt: skip
    """Return a prefix with its continuations."""
    logits = engine.logits(np.append(prompt, tokens).astype(np.int32))[-1].astype(np.float64)
    allowed = np.flatnonzero(automaton.allowed(state, length - len(tokens)))
    shifted = logits - logits.max()
    log_probs = log_prob + shifted - np.log(np.exp(shifted).sum())
    order = allowed[np.argsort(-log_probs[allowed], kind="stable")]
    return _Node(tokens, state, log_probs[order], order.astype(np.int32))
