"""Tests of the reference model against Python loops, and of its cached steps against its forward pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import reference
from knock.weights import Weights
from tests import naive
from tests.cases import EVERY, float64, models, random_tokens, random_weights


@given(models(), st.integers(1, 14), st.integers(0, 9))
def test_forward_against_loops(weights: Weights, length: int, seed: int) -> None:
    tokens, arrays = random_tokens(weights.config, length, seed), float64(weights)
    expected = np.array(naive.forward(tokens.tolist(), arrays, weights.config))
    result = reference.forward(tokens, arrays, weights.config)
    assert result.shape == (length, weights.config.vocab_size)
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", EVERY)
def test_forward_of_every_kind_against_loops(kind: str) -> None:
    tokens, arrays = random_tokens(EVERY[kind], 14), float64(random_weights(EVERY[kind], 0))
    expected = np.array(naive.forward(tokens.tolist(), arrays, EVERY[kind]))
    np.testing.assert_allclose(reference.forward(tokens, arrays, EVERY[kind]), expected, rtol=1e-9, atol=1e-9)


@given(models(), st.integers(1, 40), st.integers(0, 9))
def test_steps_equal_forward(weights: Weights, length: int, seed: int) -> None:
    tokens, arrays = random_tokens(weights.config, length, seed), float64(weights)
    expected = reference.forward(tokens, arrays, weights.config)
    cache = reference.empty_cache(arrays, weights.config)
    kept = weights.config.windows
    for t, token in enumerate(tokens):
        result, cache = reference.step(int(token), cache, arrays, weights.config)
        np.testing.assert_allclose(result, expected[t], rtol=1e-9, atol=1e-9)
        assert [len(values) for values in cache.values] == [min(t + 1, T) for T in kept]


@pytest.mark.parametrize("kind", EVERY)
def test_prefill_equals_steps(kind: str) -> None:
    weights = random_weights(EVERY[kind], 1)
    tokens, arrays = random_tokens(weights.config, 20), float64(weights)
    empty = reference.empty_cache(arrays, weights.config)
    at_once, _ = reference.prefill(tokens, empty, arrays, weights.config)
    _, cache = reference.prefill(tokens[:9], empty, arrays, weights.config)
    in_parts, _ = reference.prefill(tokens[9:], cache, arrays, weights.config)
    assert np.array_equal(at_once, in_parts)


@pytest.mark.parametrize("kind", EVERY)
def test_logits_do_not_depend_on_later_tokens(kind: str) -> None:
    weights = random_weights(EVERY[kind], 2)
    tokens, arrays = random_tokens(weights.config, 20), float64(weights)
    changed = tokens.copy()
    changed[12:] = (changed[12:] + 1) % weights.config.vocab_size
    before = reference.forward(tokens, arrays, weights.config)
    after = reference.forward(changed, arrays, weights.config)
    np.testing.assert_allclose(before[:12], after[:12], rtol=1e-12)
    assert not np.allclose(before[12], after[12])


@pytest.mark.parametrize("kind", EVERY)
def test_receptive_field_is_exact(kind: str) -> None:
    weights = random_weights(EVERY[kind], 3)
    config = weights.config
    tokens, arrays = random_tokens(config, 30), float64(weights)
    last = reference.forward(tokens, arrays, config)[-1]
    for reach, same in ((config.receptive_field, False), (config.receptive_field + 1, True)):
        changed = tokens.copy()
        changed[-reach] = (changed[-reach] + 1) % config.vocab_size
        assert np.allclose(reference.forward(changed, arrays, config)[-1], last, rtol=1e-9, atol=1e-12) == same


def test_masked_columns_get_exactly_zero() -> None:
    reweight = np.array([[[1e4, 0.0, -5.0]]])
    weights = reference.hybrid_softmax(reweight, None, None, np.array([[False, True, True]]))
    assert weights[0, 0, 0] == 0
    np.testing.assert_allclose(weights[0, 0, 1:], naive.softmax([0.0, -5.0]))


def test_mask_depends_on_position_not_value() -> None:
    weights = reference.hybrid_softmax(np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), np.array([0.3]), np.ones((1, 3), bool))
    np.testing.assert_allclose(weights, 1 / 3)


def test_gate_mixes_logits_inside_one_softmax() -> None:
    r, s, g = np.array([[[1.0, 2.0]]]), np.array([[[5.0, -3.0]]]), np.array([0.25])
    expected = naive.softmax([0.25 * 1 + 0.75 * 5, 0.25 * 2 + 0.75 * -3])
    np.testing.assert_allclose(reference.hybrid_softmax(r, s, g, np.ones((1, 2), bool))[0, 0], expected)


def test_gelu_is_the_tanh_form() -> None:
    x = np.linspace(-8, 8, 101)
    np.testing.assert_allclose(reference.gelu(x), [naive.gelu(u) for u in x], rtol=1e-12, atol=1e-15)
