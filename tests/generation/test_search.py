"""The likeliest texts are those that an exhaustive search finds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from knock.engine.engine import Engine
from knock.generation.constraints.automaton import Rules, build
from knock.generation.constraints.positions import positions
from knock.generation.search import likeliest
from tests.cases import SMALL, random_weights


@pytest.mark.parametrize("kind", ["hybrid-relative", "reweight-absolute"])
@pytest.mark.parametrize("backend", ["numpy", "compiled"])
def test_likeliest_texts_are_those_of_an_exhaustive_search(kind: str, backend: str) -> None:
    """All items of up to three tokens, the last of the vocabulary being the boundary."""
    engine = Engine(random_weights(SMALL[kind], 3), backend)
    V = engine.config.vocab_size
    boundary, length, prompt = V - 1, 3, np.array([V - 1, 0], np.int32)
    automaton = build(Rules(boundary=boundary, must_end=True), V)
    found = list(likeliest(engine, prompt, automaton, 0, length + 1))
    expected = {}
    for count in range(length + 1):
        for tokens in itertools.product(range(boundary), repeat=count):
            whole = [*prompt, *tokens, boundary]
            expected[tokens] = float(engine.log_probs(whole[:-1], whole[1:])[len(prompt) - 1 :].sum())
    assert len(found) == len(expected)
    costs = [each.log_prob for each in found]
    assert costs == sorted(costs, reverse=True)
    for each in found:
        assert each.log_prob == pytest.approx(expected[tuple(each.tokens)], abs=1e-4)
    assert math.fsum(math.exp(cost) for cost in costs) <= 1


def test_patterns_and_the_limit_are_respected() -> None:
    engine = Engine(random_weights(SMALL["hybrid-relative"], 3), "compiled")
    V = engine.config.vocab_size
    characters = "abcdefghijklmnop"[: V - 1]
    automaton = build(Rules(pattern=positions("a(b|cd)", characters), boundary=V - 1, must_end=True), V)
    found = list(likeliest(engine, np.array([V - 1], np.int32), automaton, 0, 9))
    assert sorted("".join(characters[token] for token in each.tokens) for each in found) == ["ab", "acd"]
    assert not list(likeliest(engine, np.array([V - 1], np.int32), automaton, 0, 9, limit=2))
