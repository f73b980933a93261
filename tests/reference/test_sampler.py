"""The sampling pipeline against a twin in Python loops, by distribution, by drawn frequency, and rule by rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knock import Sampling, reference
from tests import naive

# One likely token and many unlikely ones with the same total probability, so that a temperature error shows.
LOGITS = np.concatenate(([5.0, 3.0, 2.5, 2.5], np.linspace(1.4, 0.8, 44)))
V = len(LOGITS)
DRAWS = 60_000
SEED = 20260

CONTROLS = {
    "temperature 1": Sampling(),
    "temperature 0.8": Sampling(temperature=0.8),
    "temperature 1.2": Sampling(temperature=1.2),
    "top_k": Sampling(top_k=20),
    "top_p": Sampling(top_p=0.95),
    "min_p": Sampling(min_p=0.01),
    "typical_p": Sampling(typical_p=0.95),
    "top_n_sigma": Sampling(top_n_sigma=5.2),
    "bias": Sampling(logit_bias={0: 0.5, 3: -math.inf, 20: 2.0}),
    "exact entropy": Sampling(target_entropy=3.0),
    "exact entropy with bias": Sampling(target_entropy=2.0, logit_bias={0: 2.0}),
    "ratio entropy": Sampling(target_entropy=3.0, entropy_rule="ratio"),
    "mirostat": Sampling(mirostat=3.5),
    "mirostat at a temperature": Sampling(mirostat=3.5, temperature=0.7, logit_bias={1: 1.0}),
    "all together": Sampling(
        temperature=0.9, top_n_sigma=5.3, top_k=40, typical_p=0.99, top_p=0.98, min_p=0.002, logit_bias={5: 1.0}
    ),
}
MU = 8.0  # mirostat's bound, constant here


def temperature_of(controls: Sampling) -> float:
    """Return the temperature by the definition of the entropy rules, found by bisection."""
    logits = LOGITS.copy()
    for token, bias in controls.logit_bias.items():
        logits[token] += bias
    if controls.target_entropy is None:
        return controls.temperature
    if controls.entropy_rule == "ratio":
        return math.sqrt(controls.target_entropy / naive.entropy(naive.softmax(logits.tolist())))
    low, high = controls.min_temp, controls.max_temp
    for _ in range(60):
        middle = (low + high) / 2
        h = naive.entropy(naive.softmax((logits / middle).tolist()))
        low, high = (middle, high) if h < controls.target_entropy else (low, middle)
    return low


def chi_square_p(counts: np.ndarray, p: list[float]) -> float:
    """Return the p-value of Pearson's chi-square test of counts against `p`, with rare outcomes pooled."""
    expected = DRAWS * np.array(p)
    if counts[expected == 0].any():
        return 0.0
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1e-300))
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = (expected > 1e-300).sum() - 1
    return float(torch.special.gammaincc(torch.tensor(freedom / 2.0).double(), torch.tensor(statistic / 2).double()))


@pytest.mark.parametrize("name", CONTROLS)
def test_drawn_frequencies_detect_a_2_percent_temperature_error(name: str) -> None:
    controls = CONTROLS[name]
    bias = controls.bias_array(V)
    draws = [reference.sample(LOGITS, controls, reference.uniform(SEED, 0, i), MU, bias).token for i in range(DRAWS)]
    counts = np.bincount(draws, minlength=V)
    temperature = temperature_of(controls)
    assert chi_square_p(counts, naive.distribution(LOGITS.tolist(), controls, temperature, MU)) > 0.01
    for error in (0.98, 1.02):
        assert chi_square_p(counts, naive.distribution(LOGITS.tolist(), controls, temperature * error, MU)) < 0.001


@st.composite
def samplings(draw: st.DrawFn) -> Sampling:
    options = {
        "temperature": st.floats(0.05, 5),
        "top_n_sigma": st.floats(0.1, 4),
        "top_k": st.integers(1, 12),
        "typical_p": st.floats(0.01, 1),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0.001, 1),
    }
    return Sampling(**{name: draw(option) for name, option in options.items() if draw(st.booleans())})


@given(samplings(), st.lists(st.floats(-20, 20), min_size=1, max_size=12))
def test_pipeline_against_loops(controls: Sampling, logits: list[float]) -> None:
    """A draw in the middle of each interval of the cumulative probabilities returns its token."""
    p = naive.distribution(logits, controls, controls.temperature)
    before = 0.0
    for token, probability in enumerate(p):
        if probability > 1e-9:
            drawn = reference.sample(np.array(logits), controls, before + probability / 2)
            assert drawn.token == token
            assert drawn.sampled_entropy == pytest.approx(naive.entropy(p), abs=1e-9)
        before += probability


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=30), st.floats(0, 1, exclude_max=True))
def test_statistics_of_a_draw(logits: list[float], u: float) -> None:
    drawn = reference.sample(np.array(logits), Sampling(temperature=0.7), u)
    p = naive.softmax(logits)
    assert drawn.entropy == pytest.approx(naive.entropy(p), abs=1e-9)
    assert drawn.confidence == pytest.approx(max(p))
    assert drawn.surprise == pytest.approx(-math.log2(p[drawn.token]), abs=1e-9)
    assert drawn.temperature == 0.7


def test_statistics_ignore_bias_and_filters() -> None:
    bias = np.array([0.0, -np.inf, 0.0])
    drawn = reference.sample(np.array([0.0, 5.0, 0.0]), Sampling(top_k=1), 0.5, bias=bias)
    p = naive.softmax([0.0, 5.0, 0.0])
    assert drawn.token == 0
    assert drawn.entropy == pytest.approx(naive.entropy(p))
    assert drawn.confidence == pytest.approx(p[1])
    assert drawn.sampled_entropy == 0


def test_greedy_takes_the_first_of_the_largest() -> None:
    greedy = Sampling(temperature=0)
    assert reference.sample(np.array([1.0, 3.0, 3.0]), greedy, 0.99).token == 1
    assert reference.sample(np.array([1.0, 3.0, 3.0]), greedy, 0.0, bias=np.array([2.5, 0, 0])).token == 0


@pytest.mark.parametrize(
    ("controls", "kept"),
    [
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_p=0.5), {0, 1}),
        (Sampling(top_p=0.51), {0, 1, 2}),
        (Sampling(typical_p=0.25), {0}),
        (Sampling(min_p=1.0), {0, 1, 2, 3}),
        (Sampling(top_n_sigma=1.0), {0, 1, 2, 3}),
    ],
)
def test_ties_favour_lower_token_ids(controls: Sampling, kept: set[int]) -> None:
    drawn = {reference.sample(np.zeros(4), controls, u).token for u in np.linspace(0, 0.999, 50)}
    assert drawn == kept


def test_min_p_is_relative_to_the_most_likely() -> None:
    logits = np.log([0.5, 0.25, 0.15, 0.1])
    for min_p, kept in ((0.199, 4), (0.201, 3), (0.299, 3), (0.301, 2), (0.499, 2), (0.501, 1)):
        assert np.isfinite(reference.keep_min_p(logits, min_p)).sum() == kept


def test_draw_at_the_limits() -> None:
    p = np.array([0.0, 0.5, 0.0, 0.5, 0.0])
    assert reference.draw(p, 0.0) == 1
    assert reference.draw(p, 0.5) == 3
    assert reference.draw(p, np.nextafter(1, 0)) == 3
    assert reference.draw(np.array([0.1] * 10 + [0.0]), np.nextafter(1, 0)) == 9


def test_mirostat_keeps_the_surprise_near_its_target() -> None:
    for target in (2.0, 3.5):
        controls, mu, surprises = Sampling(mirostat=target, temperature=1.3), 2 * target, []
        p = naive.softmax((LOGITS / 1.3).tolist())
        for i in range(3000):
            drawn = reference.sample(LOGITS, controls, reference.uniform(1, 0, i), mu)
            surprises.append(-math.log2(p[drawn.token]))
            mu -= controls.mirostat_eta * (surprises[-1] - target)
            assert drawn.mu == pytest.approx(mu)
        assert np.mean(surprises[100:]) == pytest.approx(target, abs=0.05)


def test_mirostat_always_keeps_the_most_likely_token() -> None:
    assert reference.sample(LOGITS, Sampling(mirostat=1.0), 0.999, mu=-50.0).token == 0


def test_exact_entropy_on_100_000_random_and_extreme_logits() -> None:
    rng = np.random.default_rng(7)
    bounds = reached = 0
    for i in range(100_000):
        logits = extreme_logits(rng, i)
        finite = int(np.isfinite(logits).sum())
        low = 10 ** rng.uniform(-3, 0.3)
        high = low * 10 ** rng.uniform(0, 3)
        target = rng.uniform(0, math.log2(finite) + 0.1)
        if i % 2:  # a reachable target, at a random temperature between the bounds
            target = entropy_at(logits, low * (high / low) ** rng.uniform())
        temperature = reference.entropy_temperature(logits, target, "exact", low, high)
        entropy = entropy_at(logits, temperature)
        if temperature == low:
            assert entropy >= target - 1e-9
            bounds += 1
        elif temperature == high:
            assert entropy <= target + 1e-9
            bounds += 1
        else:
            assert low < temperature < high
            assert abs(entropy - target) <= 1e-6
            reached += 1
    assert bounds > 10_000
    assert reached > 20_000


def extreme_logits(rng: np.random.Generator, i: int) -> np.ndarray:
    logits = rng.standard_normal(int(rng.integers(1, 100))) * 10 ** rng.uniform(-6, 5)
    if i % 5 == 1:  # ties
        logits = np.round(logits)
    elif i % 5 == 2:  # one far above the rest
        logits[rng.integers(len(logits))] += 10 ** rng.uniform(0, 6)
    elif i % 5 == 3:  # two levels
        logits = np.where(rng.random(len(logits)) < 0.1, logits[0], 0.0)
    elif i % 5 == 4:  # some dropped by a filter
        logits[1:][rng.random(len(logits) - 1) < 0.3] = -np.inf
    return logits


def entropy_at(logits: np.ndarray, temperature: float) -> float:
    """Entropy in bits as log Z - E[z], another formula than the reference's."""
    z = (logits[np.isfinite(logits)] - logits.max()) / temperature
    weights = np.exp(z)
    total = weights.sum()
    return (math.log(total) - (weights * z).sum() / total) / math.log(2)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(0, 6))
def test_ratio_rule(logits: list[float], target: float) -> None:
    result = reference.entropy_temperature(np.array(logits), target, "ratio", 0.3, 2.0)
    h = naive.entropy(naive.softmax(logits))
    if h > 1e-9:
        assert result == pytest.approx(min(max(math.sqrt(target / h), 0.3), 2.0), rel=1e-5)
    elif len(logits) == 1:
        assert result == (2.0 if target > 0 else 0.3)  # a single token has entropy 0, so a bound applies
