"""The likeliest texts are those that an exhaustive search finds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from knock.engine.engine import Engine
from knock.errors import GenerationError
from knock.generation.constraints.automaton import Rules, build
from knock.generation.constraints.positions import positions
from knock.generation.search import Search
from knock.weights import Weights
from tests.cases import SMALL, random_weights


@pytest.mark.parametrize("kind", ["hybrid-relative", "reweight-absolute"])
@pytest.mark.parametrize("backend", ["numpy", "compiled"])
def test_likeliest_texts_are_those_of_an_exhaustive_search(kind: str, backend: str) -> None:
    """All items of up to three tokens, the last of the vocabulary being the boundary."""
    engine = Engine(random_weights(SMALL[kind], 3), backend)
    V = engine.config.vocab_size
    boundary, length, prompt = V - 1, 3, np.array([V - 1, 0], np.int32)
    automaton = build(Rules(boundary=boundary, must_end=True), V)
    search = Search(engine, prompt, automaton, 0, length + 1, limit=2000)
    found = list(search)
    assert search.is_exact
    assert all(each.is_proved for each in found)
    assert search.prefixes == sum(boundary**count for count in range(length + 1))
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


def search_of(pattern: str, limit: int) -> tuple[Search, str]:
    """Return a search for texts that match a pattern, and the characters of the model's tokens."""
    engine = Engine(random_weights(SMALL["hybrid-relative"], 3), "compiled")
    V = engine.config.vocab_size
    characters = "abcdefghijklmnop"[: V - 1]
    automaton = build(Rules(pattern=positions(pattern, characters), boundary=V - 1, must_end=True), V)
    assert automaton is not None
    return Search(engine, np.array([V - 1], np.int32), automaton, 0, 9, limit), characters


def test_patterns_are_respected() -> None:
    search, characters = search_of("a(b|cd)", 100)
    assert sorted("".join(characters[token] for token in each.tokens) for each in search) == ["ab", "acd"]


def test_a_search_stops_at_its_limit_and_yields_what_it_met() -> None:
    all_of_them, _ = search_of("[a-h]{0,4}", 10_000)
    expected = list(all_of_them)
    assert len(expected) == sum(8**count for count in range(5))
    assert all_of_them.prefixes == len(expected)  # each is the beginning of one
    for limit in (1, 2, 20, 300, len(expected)):
        search, _ = search_of("[a-h]{0,4}", limit)
        found = list(search)
        assert search.prefixes == limit == len(found)
        assert search.is_exact == (limit == len(expected))
        proved = [each for each in found if each.is_proved]
        assert found[: len(proved)] == proved == expected[: len(proved)]
        costs = [each.log_prob for each in found[len(proved) :]]
        assert costs == sorted(costs, reverse=True)
    search, _ = search_of("a(b|cd)", 2)
    assert (list(search), search.is_exact) == ([], False)


def test_progress_is_reported() -> None:
    engine = Engine(random_weights(SMALL["hybrid-relative"], 3), "compiled")
    V = engine.config.vocab_size
    automaton = build(Rules(boundary=V - 1, must_end=True), V)
    assert automaton is not None
    seen: list[int] = []
    search = Search(engine, np.array([V - 1], np.int32), automaton, 0, 9, 600, progress=seen.append)
    list(search)
    assert seen == [256, 512]


def test_logits_that_are_not_finite_are_an_error() -> None:
    weights = random_weights(SMALL["hybrid-relative"], 3)
    arrays = dict(weights.items())
    for name in ("wout", "ln_f.bias"):
        arrays[name] = np.full_like(arrays[name], 3e38)
    engine = Engine(Weights(weights.config, arrays), "compiled")
    V = engine.config.vocab_size
    automaton = build(Rules(boundary=V - 1, must_end=True), V)
    assert automaton is not None
    with pytest.raises(GenerationError, match="step 0 are not finite"):
        next(iter(Search(engine, np.array([0], np.int32), automaton, 0, 9, 10)))
