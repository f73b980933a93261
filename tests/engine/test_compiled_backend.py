"""The compiled engine against the float64 reference, and against itself in every arrangement, bit for bit."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knock import LanguageModel, ModelConfig, Sampling, load, reference
from knock.engine import compiled_backend
from knock.engine.batch import Request
from knock.engine.engine import Engine
from knock.errors import GenerationError
from knock.sampling import TokenStats
from knock.weights import Weights
from tests.cases import EVERY, KINDS, SMALL, float64, mixture, random_tokens, random_weights

CONTROLS = [
    Sampling(),
    Sampling(temperature=0.8, top_p=0.9),
    Sampling(target_entropy=2.0),
    Sampling(mirostat=2.0),
    Sampling(top_k=3, logit_bias={1: 2.0, 2: -np.inf}),
    Sampling(temperature=0),
    Sampling(typical_p=0.8, min_p=0.05),
    Sampling(top_n_sigma=1.5),
]


@st.composite
def large_models(draw: st.DrawFn, scales: tuple[float, ...] = (0.02, 0.1, 0.3)) -> Weights:
    """Shapes with and without whole vectors, up to the largest that are promised; all head types and positions."""
    n_heads = draw(st.integers(1, 8))
    head_type, position = draw(st.sampled_from(KINDS))
    longest = draw(st.sampled_from([40, 256]))
    attention = {"T": draw(st.integers(1, longest)), "head_type": head_type, "n_blocks": draw(st.integers(1, 6))}
    if draw(st.booleans()):
        attention |= mixture(draw, position, longest)
    config = ModelConfig(
        vocab_size=draw(st.one_of(st.integers(2, 80), st.integers(2, 5000))),
        n_emb=n_heads * draw(st.one_of(st.integers(1, 20), st.sampled_from([16, 32, 64]))),
        nodes=draw(st.one_of(st.integers(1, 80), st.integers(1, 1024))),
        n_heads=n_heads,
        position=position,
        **attention,
    )
    return random_weights(config, draw(st.integers(0, 2**32)), draw(st.sampled_from(scales)))


@settings(max_examples=80)
@given(large_models(), st.one_of(st.integers(1, 60), st.integers(60, 150)), st.integers(0, 9))
def test_logits_agree_with_the_reference(weights: Weights, length: int, seed: int) -> None:
    tokens = random_tokens(weights.config, length, seed)
    expected = reference.forward(tokens, float64(weights), weights.config)
    assert_close(Engine(weights, "compiled", "float32").logits(tokens), expected)


@settings(max_examples=40)
@given(large_models(scales=(0.5, 1.0, 2.0)), st.integers(1, 60), st.integers(0, 9))
def test_large_weights_lose_no_more_than_float32(weights: Weights, length: int, seed: int) -> None:
    """At these scales a softmax turns on differences that float32 cannot hold, in NumPy's hands neither."""
    tokens = random_tokens(weights.config, length, seed)
    expected = reference.forward(tokens, float64(weights), weights.config)
    in_float32 = reference.forward(tokens, weights, weights.config) - expected
    error = Engine(weights, "compiled", "float32").logits(tokens) - expected
    assert np.abs(error).max() <= max(1e-4 * max(1.0, np.abs(expected).max()), 5 * np.abs(in_float32).max())
    assert (error**2).sum() <= max(1e-10 * (expected**2).sum(), 25 * (in_float32**2).sum())


def assert_close(result: np.ndarray, expected: np.ndarray) -> None:
    error = result - expected
    assert np.abs(error).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    assert (error**2).sum() <= 1e-10 * (expected**2).sum()


@settings(max_examples=40)
@given(large_models(), st.integers(1, 60), st.integers(0, 9))
def test_cached_decoding_is_the_full_forward_pass_bit_for_bit(weights: Weights, length: int, seed: int) -> None:
    """By what every step records of its logits: greedy tokens, and their log-probabilities."""
    engine, prompt = Engine(weights, "compiled"), random_tokens(weights.config, 1, seed)
    tokens, stats = engine.start(prompt, Sampling(temperature=0), 0).advance(length)
    read = np.concatenate([prompt, tokens])
    logits = engine.logits(read[:-1])
    assert np.array_equal(tokens, logits.argmax(-1))
    log_probs = engine.log_probs(read[:-1], read[1:])
    np.testing.assert_allclose(stats.surprise, -log_probs / np.log(2), atol=2e-6)


@pytest.mark.parametrize("kind", EVERY)
def test_past_ten_windows(kind: str) -> None:
    weights = random_weights(EVERY[kind], 0)
    tokens = random_tokens(weights.config, 10 * weights.config.longest_window + 5)
    expected = reference.forward(tokens, float64(weights), weights.config)
    assert_close(Engine(weights, "compiled", "float32").logits(tokens), expected)


@pytest.mark.parametrize("kind", EVERY)
def test_chunks_and_lanes_change_nothing(kind: str) -> None:
    """As one call: in pieces, and as rows of a batch in any order and number of lanes."""
    engine = Engine(random_weights(EVERY[kind], 0), "compiled")
    prompts = [random_tokens(engine.config, 1 + 5 * i, seed=i) for i in range(8)]
    alone = [engine.start(prompts[i], CONTROLS[i], 7, i).advance(40) for i in range(8)]
    for i in range(8):
        stream = engine.start(prompts[i], CONTROLS[i], 7, i)
        pieces = [stream.advance(length) for length in (1, 0, 25, 14)]
        assert np.array_equal(np.concatenate([tokens for tokens, _ in pieces]), alone[i][0])
        assert np.array_equal(np.concatenate([stats.surprise for _, stats in pieces]), alone[i][1].surprise)
    for order in ([0], [3, 1], [7, 6, 5, 4, 3, 2, 1, 0], [2, 4, 6, 0, 1], [5, 5, 5]):
        requests = [Request(prompts[i], CONTROLS[i], None, 40, i) for i in order]
        rows = engine.run(requests, 7, threads=1, keep_stats=True)
        assert rows.stats is not None
        for row, i in enumerate(order):
            part = slice(rows.starts[row], rows.starts[row] + 40)
            assert np.array_equal(rows.tokens[part], alone[i][0])
            assert np.array_equal(TokenStats.from_array(rows.stats[part]).surprise, alone[i][1].surprise)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("controls", CONTROLS)
def test_same_tokens_as_the_reference(kind: str, controls: Sampling) -> None:
    weights = random_weights(EVERY[kind], 0)
    prompt = random_tokens(weights.config, 17)
    expected, expected_stats = Engine(weights, "numpy", "float32").start(prompt, controls, 3, 2).advance(100)
    result, stats = Engine(weights, "compiled", "float32").start(prompt, controls, 3, 2).advance(100)
    assert np.array_equal(result, expected)
    for name, values in vars(stats).items():
        np.testing.assert_allclose(values, getattr(expected_stats, name), atol=1e-3)


def test_ten_thousand_tokens_of_the_shipped_model(shakespeare: LanguageModel) -> None:
    weights = shakespeare.model.weights
    expected, _ = Engine(weights, "numpy", "float32").start([0], Sampling(), 7).advance(10_000)
    result, _ = Engine(weights, "compiled", "float32").start([0], Sampling(), 7).advance(10_000)
    assert (result != expected).sum() == 0


@pytest.fixture(scope="module")
def both() -> tuple[LanguageModel, LanguageModel]:
    """One model on NumPy and compiled."""
    numpy, compiled = (
        load("shakespeare-hybrid", backend=backend, precision="float32") for backend in ("numpy", "compiled")
    )
    return numpy, compiled


def test_text_is_the_same_on_both_backends(both: tuple[LanguageModel, LanguageModel]) -> None:
    on_numpy, compiled = both
    options = {"max_new_tokens": 200, "seed": 3, "target_entropy": 2.0, "top_p": 0.9, "stop": "\n\n"}
    assert compiled.generate("ROMEO:", **options).text == on_numpy.generate("ROMEO:", **options).text
    text = compiled.generate("", max_new_tokens=300, seed=1).text
    np.testing.assert_allclose(compiled.score(text).log_probs, on_numpy.score(text).log_probs, atol=1e-4)
    assert [model.model.engine.backend for model in both] == ["numpy", "compiled"]


@pytest.mark.parametrize("kind", EVERY)
def test_dropping_unreachable_tokens_changes_no_bit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(random_weights(EVERY[kind], 0), "compiled", "float32")
    prompt = random_tokens(engine.config, 501)
    tokens, stats = engine.start(prompt, Sampling(), 0).advance(20)
    if engine.config.position == "relative":  # an absolute model's cache has no room for more than its window
        monkeypatch.setattr(compiled_backend, "reachable", lambda prompt, config: prompt)
        whole_tokens, whole_stats = engine.start(prompt, Sampling(), 0).advance(20)
        assert np.array_equal(tokens, whole_tokens)
        assert np.array_equal(stats.surprise, whole_stats.surprise)
    expected, _ = Engine(engine.weights, "numpy", "float32").start(prompt, Sampling(), 0).advance(20)
    assert np.array_equal(tokens, expected)


@pytest.mark.parametrize("V", [1, 2])
@pytest.mark.parametrize(("head_type", "position"), KINDS)
def test_smallest_models(V: int, head_type: str, position: str) -> None:
    config = ModelConfig(
        vocab_size=V, T=1, n_emb=1, nodes=1, n_blocks=1, n_heads=1, head_type=head_type, position=position
    )
    weights = random_weights(config, 0)
    tokens = random_tokens(config, 9)
    expected = reference.forward(tokens, float64(weights), config)
    assert_close(Engine(weights, "compiled", "float32").logits(tokens), expected)
    assert np.array_equal(
        Engine(weights, "compiled", "float32").start([0], Sampling(), 1).advance(30)[0],
        Engine(weights, "numpy", "float32").start([0], Sampling(), 1).advance(30)[0],
    )


def test_non_finite_logits_raise_at_their_step() -> None:
    config = SMALL["reweight-relative"]
    arrays = dict(random_weights(config, 0))
    arrays["wout"] = np.full_like(arrays["wout"], 3e38)
    arrays["ln_f.bias"] = np.full_like(arrays["ln_f.bias"], 3e38)
    engine = Engine(Weights(config, arrays), "compiled")
    with pytest.raises(GenerationError, match="step 0 are not finite"):
        engine.start([0], Sampling(), 0).advance(5)
    with pytest.raises(GenerationError, match="step 0 are not finite"):
        engine.log_probs([0, 1], [1, 2])


@pytest.mark.parametrize("kind", EVERY)
def test_one_finite_logit(kind: str) -> None:
    """A bias leaves one token, here, and then two that tie, there."""
    engine = Engine(random_weights(EVERY[kind], 0), "compiled")
    only = {token: -np.inf for token in range(engine.config.vocab_size) if token != 4}
    for controls in (Sampling(), Sampling(temperature=0), Sampling(target_entropy=1.0), Sampling(mirostat=2.0)):
        tokens, stats = engine.start([0], replace(controls, logit_bias=only), 1).advance(30)
        assert (tokens == 4).all()
        assert (stats.sampled_entropy == 0).all()


@pytest.mark.parametrize("kind", EVERY)
def test_all_equal_logits(kind: str) -> None:
    arrays = dict(random_weights(EVERY[kind], 0))
    arrays["wout"] = np.zeros_like(arrays["wout"])
    engine = Engine(Weights(EVERY[kind], arrays), "compiled")
    V = engine.config.vocab_size
    tokens, stats = engine.start([0], Sampling(), 1).advance(2000)
    np.testing.assert_allclose(stats.entropy, np.log2(V), rtol=1e-6)
    assert np.bincount(tokens, minlength=V).min() > 2000 / V / 2
    assert (engine.start([0], Sampling(temperature=0), 1).advance(20)[0] == 0).all()  # of equals the first


def test_generation_does_not_leak() -> None:
    """Of a hundred thousand tokens drawn piece by piece, nothing stays."""
    stream = Engine(random_weights(SMALL["hybrid-relative"], 0), "compiled").start([0], Sampling(), 0)
    stream.advance(1000)
    tracemalloc.start()
    stream.advance(1000)
    gc.collect()  # which also empties Python's free lists
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(100):
        stream.advance(1000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1000


def test_batch_is_the_same_on_both_backends(both: tuple[LanguageModel, LanguageModel]) -> None:
    prompts = ["ROMEO:", "", "JULIET:\n", "A"]
    expected, result = (model.generate_batch(prompts, "top_p", n=2, seed=5, max_new_tokens=40) for model in both)
    assert [row.text for row in result] == [row.text for row in expected]


def test_a_million_tokens_in_one_stream() -> None:
    engine = Engine(random_weights(SMALL["hybrid-relative"], 0), "compiled")
    stream = engine.start([0], Sampling(), 0)
    tokens, _ = stream.advance(1_000_000)
    assert len(np.unique(tokens)) == engine.config.vocab_size


def test_log_probs_of_the_tokens_themselves() -> None:
    """Targets that are the same array as the tokens are targets all the same."""
    engine = Engine(random_weights(SMALL["hybrid-relative"], 0), "compiled")
    tokens = random_tokens(engine.config, 50)
    expected = reference.log_softmax(engine.logits(tokens).astype(np.float64))[np.arange(50), tokens]
    np.testing.assert_allclose(engine.log_probs(tokens, tokens), expected, atol=1e-5)
