import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import LanguageModel, ReweightGPT, Sampling, Vocab, reference
from knock.engine import engine, numpy_backend
from knock.engine.engine import Engine
from knock.errors import GenerationError, KnockError, SamplingError, VocabError
from knock.weights import Weights
from tests.cases import EVERY, SMALL, float64, models, random_tokens, random_weights

MIROSTAT = Sampling(mirostat=2.0)


@given(
    models(), st.integers(1, 30), st.integers(1, 20), st.sampled_from([Sampling(temperature=0.9, top_p=0.95), MIROSTAT])
)
def test_stream_equals_the_reference(weights: Weights, prompt: int, length: int, sampling: Sampling) -> None:
    """Every token follows from a full forward pass over all tokens before it."""
    start = random_tokens(weights.config, prompt)
    tokens, stats = Engine(weights, "numpy", "float32").start(start, sampling, seed=3, index=5).advance(length)
    sequence = np.concatenate((start, tokens))
    logits = reference.forward(sequence[:-1], float64(weights), weights.config)[prompt - 1 :]
    mu = 2 * MIROSTAT.mirostat
    for i, token in enumerate(tokens):
        drawn = reference.sample(logits[i], sampling, reference.uniform(3, 5, i), mu)
        mu = drawn.mu
        assert token == drawn.token
        assert stats.surprise[i] == pytest.approx(drawn.surprise, abs=1e-9)


@pytest.mark.parametrize("kind", EVERY)
def test_chunks_change_nothing(kind: str) -> None:
    runner = Engine(random_weights(EVERY[kind], 0), "numpy")
    at_once, stats = runner.start([1, 2], MIROSTAT, seed=1).advance(40)
    stream = runner.start([1, 2], MIROSTAT, seed=1)
    pieces = [stream.advance(n) for n in (0, 1, 7, 12, 20)]
    assert np.array_equal(np.concatenate([tokens for tokens, _ in pieces]), at_once)
    assert np.array_equal(np.concatenate([part.surprise for _, part in pieces]), stats.surprise)


@pytest.mark.parametrize("kind", EVERY)
def test_only_the_receptive_field_of_a_prompt_counts(kind: str) -> None:
    runner = Engine(random_weights(EVERY[kind], 0), "numpy")
    prompt = random_tokens(runner.config, 50)
    whole, _ = runner.start(prompt, Sampling(), seed=1).advance(20)
    end, _ = runner.start(prompt[-runner.config.receptive_field :], Sampling(), seed=1).advance(20)
    assert np.array_equal(whole, end)


@pytest.mark.parametrize("kind", EVERY)
def test_logits_in_pieces_equal_one_pass(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Engine(random_weights(EVERY[kind], 0), "numpy", "float32")
    tokens = random_tokens(runner.config, 50)
    at_once = runner.logits(tokens)
    assert at_once.dtype == np.float32
    assert at_once.shape == (50, runner.config.vocab_size)
    log_probs = runner.log_probs(tokens[:-1], tokens[1:])
    monkeypatch.setattr(numpy_backend, "_LOGITS_AT_ONCE", 7)
    np.testing.assert_allclose(runner.logits(tokens), at_once, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(runner.log_probs(tokens[:-1], tokens[1:]), log_probs, rtol=1e-9)
    expected = [
        reference.log_softmax(row.astype(float))[after] for row, after in zip(at_once, tokens[1:], strict=False)
    ]
    np.testing.assert_allclose(log_probs, expected, atol=1e-5)


def test_seed_and_index_decide() -> None:
    runner = Engine(random_weights(SMALL["hybrid-relative"], 0), "numpy")
    texts = {tuple(runner.start([0], Sampling(), seed, stream).advance(20)[0]) for seed in (0, 1) for stream in (0, 1)}
    assert len(texts) == 4


@pytest.mark.filterwarnings("error")
def test_non_finite_logits_raise_at_their_step() -> None:
    config = SMALL["reweight-relative"]
    arrays = dict(random_weights(config, 0))
    arrays["wout"] = np.full_like(arrays["wout"], 3e38)
    arrays["ln_f.gain"] = np.full_like(arrays["ln_f.gain"], 3e38)
    arrays["ln_f.bias"] = np.full_like(arrays["ln_f.bias"], 3e38)
    big = {
        name: array.astype(np.float64) * 1e200 if name in ("wout", "ln_f.bias") else array
        for name, array in arrays.items()
    }
    runner = Engine(Weights(config, arrays), "numpy", "float32")
    runner._ready().arrays = big  # no float32 weights are large enough for the float64 reference to overflow
    stream = runner.start([0], Sampling(), seed=0)
    with pytest.raises(GenerationError, match="step 0 are not finite"):
        stream.advance(1)


def test_amount_of_work_is_estimated_from_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether compiling pays is decided by it."""
    seconds: list[float] = []
    monkeypatch.setattr(engine, "kernels", lambda backend, work: seconds.append(work))
    model = LanguageModel(ReweightGPT(vocab_size=3), Vocab("abc"))
    model.generate("a", max_new_tokens=10)
    model.generate_batch(["a", "b"], n=3, max_new_tokens=10)
    next(model.sample_iter(["a", "b"], n=2, max_new_tokens=10))
    model.model.generate([0], length=20)
    model.score("abc" * 100)
    model.model.logits([0] * 600)
    assert seconds[0] > 0
    np.testing.assert_allclose(np.divide(seconds, seconds[0])[1:4], [6, 4, 2])
    assert seconds[5] == pytest.approx(2 * seconds[4])
    assert model.model.engine.backend == "numpy"


def test_sliding_windows_count_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its window, an absolute model computes a whole window per position."""
    seconds: dict[int, float] = {}
    config = SMALL["hybrid-absolute"]
    for positions in (1, config.T, 100 * config.T):
        monkeypatch.setattr(
            engine, "kernels", lambda backend, work, positions=positions: seconds.update({positions: work})
        )
        Engine(random_weights(config, 0)).settle(positions=positions)
    assert seconds[config.T] == pytest.approx(config.T * seconds[1])
    assert seconds[100 * config.T] == pytest.approx(100 * config.T * config.T * seconds[1])


def test_a_model_is_packed_once() -> None:
    runner = Engine(random_weights(SMALL["hybrid-relative"], 0), "compiled")
    packed = runner._ready()
    runner.logits([1, 2])
    assert runner._ready(steps=10**9) is packed


def test_invalid_arguments_are_rejected() -> None:
    runner = Engine(random_weights(SMALL["hybrid-relative"], 0), "numpy")
    with pytest.raises(KnockError, match="backend must be one of auto, numpy, compiled"):
        Engine(runner.weights, backend="cuda")
    with pytest.raises(VocabError, match="0 to 10, got 11"):
        runner.logits([11])
    with pytest.raises(VocabError, match="whole numbers"):
        runner.start([0.5], Sampling(), 0)
    with pytest.raises(VocabError, match="at least one token"):
        runner.start([], Sampling(), 0)
    with pytest.raises(VocabError, match="2 tokens and 1 targets"):
        runner.log_probs([1, 2], [1])
    with pytest.raises(SamplingError, match="length"):
        runner.start([0], Sampling(), 0).advance(-1)
    assert runner.logits([]).shape == (0, 11)
    assert runner.log_probs([], []).shape == (0,)
