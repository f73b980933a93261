"""The PyTorch twin against the reference, evaluation, and the trainer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knock import ModelConfig, reference
from knock.engine.engine import Engine
from knock.errors import ConfigError, TextError, TrainingError
from knock.weights import Weights, shapes
from knock_training import losses as losses_module
from knock_training import model as model_module
from knock_training.data import Corpus, random_batch
from knock_training.losses import block_loss, unigram_loss
from knock_training.model import Twin, dropped
from knock_training.optimizing import Average, Optimizers, native_precision, training_step
from knock_training.progress import Progress
from knock_training.recipe import Recipe
from knock_training.trainer import train
from tests.cases import EVERY, EXAMPLE, SMALL, float64, models, random_tokens, random_weights

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
TINY = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 2, "n_heads": 2}
SHORT = Recipe(steps=30, batch_chars=256, eval_interval=10, warmup=5)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@given(models(), st.integers(1, 40), st.sampled_from([(torch.float32, 1e-4), (torch.float64, 1e-9)]))
def test_twin_agrees_with_reference(weights: Weights, length: int, precision: tuple[torch.dtype, float]) -> None:
    dtype, tolerance = precision
    config = weights.config
    if config.position == "absolute":
        length = min(length, config.longest_window)
    tokens = random_tokens(config, 2 * length).reshape(2, length)
    result = Twin(weights).to(dtype)(torch.from_numpy(tokens).long()).detach().numpy()
    expected = np.array([reference.forward(row, float64(weights), config) for row in tokens])
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(result / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", EVERY)
def test_twin_has_the_parameters_of_the_model(kind: str) -> None:
    weights = random_weights(EVERY[kind], 0)
    twin = Twin(weights)
    assert {name: tuple(value.shape) for name, value in twin.state_dict().items()} == shapes(EVERY[kind])
    exported = twin.weights()
    assert all(np.array_equal(exported[name], weights[name]) for name in weights)


@pytest.mark.parametrize("kind", EVERY)
def test_every_parameter_learns(kind: str) -> None:
    twin = Twin(random_weights(EVERY[kind], 0))
    twin(torch.from_numpy(random_tokens(EVERY[kind], 6)).long()[None]).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in twin.parameters())


def largest_tensor(work: Callable[[], object]) -> int:
    """The number of values of the largest tensor made without gradients."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    with torch.no_grad(), Watch():
        work()
    return largest


def test_memory_of_a_relative_model_is_linear_in_sequence_length() -> None:
    twin = Twin(Weights.random(EXAMPLE))
    sizes = [largest_tensor(lambda n=n: twin(torch.zeros(1, n, dtype=torch.long))) for n in (512, 4096)]
    assert sizes[1] <= 8 * sizes[0]


@pytest.mark.parametrize("kind", [kind for kind, config in EVERY.items() if config.position == "relative"])
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 30])
def test_parts_of_any_length_give_the_same(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and gradients, of a window that is a multiple of the parts or not, and of packed items."""
    weights = random_weights(EVERY[kind], 0)
    tokens = torch.from_numpy(random_tokens(EVERY[kind], 46)).long().view(2, 23)
    results = []
    for of in (model_module._rows_of, lambda T: rows):
        monkeypatch.setattr(model_module, "_rows_of", of)
        for boundary in (None, 3):
            twin = Twin(weights, boundary=boundary).double()
            logits = twin(tokens)
            logits.square().sum().backward()
            results.append([logits.detach(), *(p.grad for p in twin.parameters())])
    for result, expected in ((results[2], results[0]), (results[3], results[1])):
        for one, other in zip(result, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_long_window_takes_little_more_memory_than_its_logits() -> None:
    config = ModelConfig(vocab_size=5, T=(2, 512), n_emb=8, n_heads=2, nodes=8, n_blocks=2)
    twin = Twin(Weights.random(config))
    size = largest_tensor(lambda: twin(torch.zeros(1, 2048, dtype=torch.long)))
    assert 2048 * config.n_heads * 512 <= size <= 1.5 * 2048 * config.n_heads * 512


def naive_block_loss(weights: Weights, tokens: np.ndarray, block: int) -> float:
    """Compute the block loss with the NumPy backend."""

    def summed(part: np.ndarray) -> float:
        return -Engine(weights, "numpy", "float32").log_probs(part[:-1], part[1:]).sum()

    n = len(tokens) - 1
    return sum(summed(tokens[i : i + block + 1]) for i in range(0, n, block)) / n


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("length", [2, 40, 41, 58])
def test_block_loss_matches_its_definition(kind: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(EVERY[kind], 0)
    tokens = random_tokens(weights.config, length)
    monkeypatch.setattr(losses_module, "_POSITIONS_AT_ONCE", 30)
    result = block_loss(Twin(weights).double(), torch.from_numpy(tokens).long(), 20)
    assert result == pytest.approx(naive_block_loss(weights, tokens, block=20), abs=1e-9)


def test_partial_loss_uses_whole_evenly_spaced_blocks() -> None:
    weights = random_weights(SMALL["hybrid-relative"], 0)
    tokens = random_tokens(weights.config, 20 * 10 + 7)
    twin = Twin(weights).double()
    some = block_loss(twin, torch.from_numpy(tokens).long(), 20, at_most=4)
    expected = [naive_block_loss(weights, tokens[20 * i : 20 * i + 21], block=20) for i in (0, 3, 6, 9)]
    assert some == pytest.approx(np.mean(expected), abs=1e-9)
    assert block_loss(twin, torch.from_numpy(tokens).long(), 20, at_most=10) != some


def test_corpus_is_split_by_position() -> None:
    corpus = Corpus.from_text("abcdefghij" * 10, "x.txt")
    assert (len(corpus), len(corpus.train), len(corpus.validation)) == (100, 90, 10)
    assert corpus.vocab.decode(corpus.validation.numpy()) == "abcdefghij"


def test_batches_are_excerpts_of_the_text() -> None:
    tokens = torch.arange(50)
    inputs, targets = random_batch(tokens, 200, 7, np.random.default_rng(0))
    assert inputs.shape == targets.shape == (200, 7)
    assert torch.equal(inputs + 1, targets)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(7))
    assert set(inputs[:, 0].tolist()) == set(range(43))  # every possible offset, including the last


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_learning_rate_warms_up_and_decays_to_zero(schedule: str) -> None:
    assert max(Recipe(steps=20, schedule=schedule).rate_at(step) for step in range(20)) == 1.0
    recipe = Recipe(steps=100, warmup=10, schedule=schedule, decay=0.4)
    rates = [recipe.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == (pytest.approx(0.5) if schedule == "cosine" else 1.0)
    assert rates[80] == pytest.approx(0.117 if schedule == "cosine" else 0.5, abs=1e-3)
    assert all(a > b for a, b in pairwise(rates[60 if schedule == "wsd" else 10 :]))
    assert rates[-1] < 0.03


@pytest.mark.parametrize("kind", EVERY)
def test_training_reduces_the_loss(kind: str) -> None:
    config = EVERY[kind]
    corpus = Corpus.from_text(TEXT, "fox.txt")
    shape = {**config.to_dict(), "vocab_size": corpus.vocab.vocab_size}
    seen: list[Progress] = []
    recipe = Recipe(steps=120, batch_chars=256, eval_interval=40, learning_rate=0.02, matrix_learning_rate=0.05)
    result = train(ModelConfig(**shape), corpus, recipe, report=seen.append)
    assert result.ended == "done"
    assert block_loss(Twin(result.weights), corpus.validation) < 0.4 * math.log(corpus.vocab.vocab_size)
    assert [p.step for p in seen] == list(range(1, 121))
    assert [p.step for p in seen if p.validation_loss is not None] == [40, 80, 120]
    assert seen[-1].seconds_left == 0
    assert result.record["corpus"]["characters"] == len(TEXT)


def test_seeded_runs_are_reproducible() -> None:
    corpus = Corpus.from_text(TEXT, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    first, again = (train(config, corpus, SHORT).weights for _ in range(2))
    other = train(config, corpus, Recipe(**vars(SHORT) | {"seed": 1})).weights
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["wout"], other["wout"])


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_recipe_setting_takes_effect(optimizer: str) -> None:
    corpus = Corpus.from_text(TEXT, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    change = {"grad_clip": 1e-3, "weight_decay": 0.3, "betas": (0.5, 0.6), "windows": 3, "momentum": 0.7}
    recipe = Recipe(**vars(SHORT) | change | {"optimizer": optimizer})
    twin = Twin(Weights.random(config))
    optimizers = Optimizers(twin, recipe)
    adamw, muon = optimizers.all["adamw"], optimizers.all.get("muon")
    for group in adamw.param_groups:
        assert group["betas"] == (0.5, 0.6)
        assert {p.ndim for p in group["params"]} == ({2} if group["weight_decay"] == 0.3 else {1})
    groups = adamw.param_groups + (muon.param_groups if muon else [])
    trained = [p for group in groups for p in group["params"]]
    assert len(trained) == len(set(trained)) == len(list(twin.parameters()))
    if optimizer == "muon":
        (group,) = muon.param_groups
        assert (group["weight_decay"], group["momentum"]) == (0.3, 0.7)
        names = {name for name, p in twin.named_parameters() if any(p is other for other in group["params"])}
        assert names == {f"blocks.{b}.{name}" for b in range(2) for name in ("wq", "wk", "wv", "wr", "w0", "w1")}
    batch = random_batch(corpus.train, 4, 24, np.random.default_rng(0))
    loss = training_step(twin, optimizers, batch, recipe, 2)
    assert loss.item() == pytest.approx(math.log(config.vocab_size), abs=0.3)
    assert [group["lr"] for group in groups][:2] == [recipe.learning_rate * recipe.rate_at(2)] * 2
    assert groups[-1]["lr"] == recipe.rate_at(2) * getattr(
        recipe, "matrix_learning_rate" if optimizer == "muon" else "learning_rate"
    )
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in twin.parameters() if p.grad is not None))
    assert norm == pytest.approx(1e-3, rel=1e-3)
    record = train(config, corpus, recipe).record["recipe"]
    assert (record["sequence_length"], record["windows"]) == (24, 3)


def test_average_follows_the_weights_and_forgets_the_initial_ones() -> None:
    """Compare with the recurrence that defines it; with decay 0 it is a copy."""
    twin = Twin(Weights.random(ModelConfig(vocab_size=5, **TINY)))
    average, copy = Average(twin, 0.9), Average(twin, 0.0)
    expected = {name: value.clone() for name, value in twin.state_dict().items()}
    for step in range(30):
        with torch.no_grad():
            for p in twin.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
        kept = min(0.9, (step + 1) / (step + 10))
        expected = {name: kept * expected[name] + (1 - kept) * value for name, value in twin.state_dict().items()}
        average.update(step)
        copy.update(step)
    for name, value in average.twin.state_dict().items():
        torch.testing.assert_close(value, expected[name])
        torch.testing.assert_close(copy.twin.state_dict()[name], twin.state_dict()[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [1e-300, 0.1, 0.5, 1 - 2**-16])
def test_dropout(probability: float, dtype: torch.dtype) -> None:
    """The share of zeros is the probability, the others are scaled, and gradients pass where values do."""
    torch.manual_seed(0)
    x = torch.ones(3, 7, 5_001, dtype=dtype, requires_grad=True)  # no multiple of the numbers drawn at a time
    y = dropped(x, probability)
    zeros = (y == 0).float().mean(-1)
    assert zeros.numpy() == pytest.approx(probability, abs=5 * math.sqrt(probability * (1 - probability) / 5_001))
    assert y.dtype == dtype
    assert y[y != 0].detach().float().numpy() == pytest.approx(1 / (1 - probability), rel=0.01)
    y.backward(torch.ones_like(y))
    assert x.grad is not None
    assert torch.equal(x.grad, y)


def test_dropout_is_active_only_in_training() -> None:
    weights = random_weights(SMALL["hybrid-relative"], 0)
    tokens = torch.from_numpy(random_tokens(weights.config, 40)).long()[None]
    twin, without = Twin(weights, dropout=0.3), Twin(weights)
    torch.manual_seed(0)
    assert not torch.equal(twin(tokens), without(tokens))
    assert torch.equal(twin.eval()(tokens), without(tokens))


def test_mismatched_vocab_size_raises() -> None:
    corpus = Corpus.from_text(TEXT, "fox.txt")
    with pytest.raises(ConfigError, match=f"vocab_size 99, but the corpus has {corpus.vocab.vocab_size}"):
        train(ModelConfig(vocab_size=99, **TINY), corpus, SHORT)


def test_gates_stay_between_0_and_1() -> None:
    corpus = Corpus.from_text(TEXT, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, alpha=1.0, **TINY)
    weights = train(config, corpus, Recipe(**vars(SHORT) | {"learning_rate": 0.1})).weights
    gates = np.concatenate([weights[f"blocks.{b}.gate"] for b in range(2)])
    assert gates.min() >= 0
    assert gates.max() <= 1
    assert not np.array_equal(gates, np.ones(4))


def test_best_weights_are_kept() -> None:
    corpus = Corpus.from_text("ab" * 306 + "cd" * 34, "turn.txt")  # validation differs from training, so its loss rises
    config = ModelConfig(vocab_size=4, **TINY)
    seen: list[Progress] = []
    result = train(config, corpus, Recipe(steps=60, batch_chars=256, eval_interval=5), report=seen.append)
    losses = {p.step: p.validation_loss for p in seen if p.validation_loss is not None}
    assert result.record["best_step"] == min(losses, key=lambda step: losses[step]) < 60
    assert block_loss(Twin(result.weights), corpus.validation) == pytest.approx(min(losses.values()), abs=1e-6)


def test_interrupted_training_returns_the_best_weights() -> None:
    corpus = Corpus.from_text(TEXT, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    steps = iter(range(100))
    result = train(config, corpus, SHORT, should_stop=lambda: next(steps) == 15)
    assert result.ended == "interrupted"
    assert (result.record["steps_done"], result.record["best_step"]) == (15, 10)
    at_once = train(config, corpus, SHORT, should_stop=lambda: True)
    assert at_once.record["steps_done"] == 0
    assert all(np.array_equal(at_once.weights[name], array) for name, array in Weights.random(config, 42).items())


def test_diverged_training_raises_or_keeps_the_best_weights() -> None:
    corpus = Corpus.from_text(TEXT, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    with pytest.raises(TrainingError, match=r"learning rates below 1e\+30 and 0.04"):
        train(config, corpus, Recipe(**vars(SHORT) | {"learning_rate": 1e30, "eval_interval": 30}))

    class Jump(Recipe):
        def rate_at(self, step: int) -> float:
            return 1.0 if step < 12 else 1e33

    result = train(config, corpus, Jump(**vars(SHORT)))
    assert (result.ended, result.record["best_step"]) == ("diverged", 10)
    assert math.isfinite(block_loss(Twin(result.weights), corpus.validation))


@pytest.mark.parametrize("length", [0, 10, 36])
def test_corpus_shorter_than_a_window_raises(length: int) -> None:
    with pytest.raises(TextError, match="empty" if length == 0 else "at least 37"):
        train(ModelConfig(vocab_size=1), Corpus.from_text("a" * length, "short.txt"), SHORT)


def test_shortest_corpus_trains() -> None:
    corpus = Corpus.from_text("ab" * 18 + "a", "short.txt")
    result = train(ModelConfig(vocab_size=2), corpus, Recipe(steps=2, batch_chars=64))
    assert result.record["recipe"]["sequence_length"] == 32


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"learning_rate": 0.0}, {"learning_rate": math.nan}, {"grad_clip": -1.0}, {"warmup": -1},
     {"weight_decay": -0.1}, {"optimizer": "sgd"}, {"schedule": "linear"}, {"ema": 1.0}, {"dropout": -0.1},
     {"label_smoothing": 2}, {"momentum": 1}, {"decay": 0}, {"patience": 0}, {"matrix_learning_rate": 0},
     {"eval_interval": 0}, {"steps": 1.5}, {"steps": "5"}, {"betas": (2, 3)}, {"seed": 2**64},
     {"learning_rate": 1e31}, {"matrix_learning_rate": 1e308}, {"grad_clip": math.inf}, {"weight_decay": 1e308}],
)  # fmt: skip
def test_invalid_recipe_raises_naming_the_field(change: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        Recipe(**change)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("name", ["learning_rate", "matrix_learning_rate", "grad_clip", "weight_decay"])
@pytest.mark.parametrize("value", [1e30, 5e-324])
def test_recipe_at_the_bounds(name: str, value: float, optimizer: str) -> None:
    """A run ends, or diverges, without an overflow inside PyTorch."""
    corpus = Corpus.from_text(TEXT, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    recipe = Recipe(steps=3, batch_chars=64, eval_interval=3, warmup=0, optimizer=optimizer, **{name: value})
    with contextlib.suppress(TrainingError):
        assert train(config, corpus, recipe).ended == "done"


def test_bfloat16_step() -> None:
    """Only products are rounded to bfloat16: losses stay close and weights stay float32."""
    corpus = Corpus.from_text(TEXT, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    batch = random_batch(corpus.train, 4, 24, np.random.default_rng(0))
    losses = {}
    for precision in ("float32", "bfloat16"):
        recipe = Recipe(**vars(SHORT) | {"precision": precision, "learning_rate": 0.01})
        twin = Twin(Weights.random(config))
        optimizers = Optimizers(twin, recipe)
        losses[precision] = [training_step(twin, optimizers, batch, recipe, step).item() for step in range(20)]
        assert all(p.dtype == torch.float32 for p in twin.parameters())
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.03)
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"][-1] < 0.8 * losses["bfloat16"][0]


def test_native_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for name in ("amx_bf16", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=name: {name: True}, raising=False)
        assert native_precision(cpu) == "bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True}, raising=False)
    assert native_precision(cpu) == "float32"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert native_precision(cpu) == "float32"


# Divergence


@pytest.mark.parametrize(("rate", "interval"), [(15.0, 20), (8.0, 50), (3.0, 50)])
def test_finite_divergence_ends_a_run(rate: float, interval: int) -> None:
    corpus = Corpus.from_text(TEXT * 8, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    recipe = Recipe(
        steps=400, batch_chars=256, eval_interval=interval, learning_rate=rate, matrix_learning_rate=rate, ema=0.0
    )
    seen, kept = list[Progress](), list[dict[str, Any]]()
    with pytest.raises(TrainingError, match=r"the run diverged: .* frequencies alone give 3\.\d\d; try learning rates"):
        train(config, corpus, recipe, report=seen.append, keep=lambda _, record: kept.append(record))
    assert seen[-1].step <= 400
    assert seen[-1].is_lost
    # Weights may be kept only before divergence can be detected.
    assert all(record["best_validation_loss"] < math.log(config.vocab_size) + 0.1 for record in kept)


def test_weights_before_a_divergence_are_kept() -> None:
    corpus = Corpus.from_text(TEXT * 8, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    good = Recipe(steps=800, batch_chars=256, eval_interval=20, schedule="wsd", ema=0.0)

    class Explodes(Recipe):
        def rate_at(self, step: int) -> float:
            return 1e4 if step >= 300 else 1.0

    result = train(config, corpus, Explodes(**vars(good)))
    assert (result.ended, result.is_lost) == ("diverged", False)
    assert result.record["best_step"] <= 300
    assert result.record["steps_done"] <= 400
    assert result.record["best_validation_loss"] < result.record["unigram_loss"]


def test_slow_learning_overfitting_and_noise_are_not_divergence() -> None:
    corpus = Corpus.from_text(TEXT * 8, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    slow = Recipe(steps=200, batch_chars=256, eval_interval=10, learning_rate=1e-4, matrix_learning_rate=1e-4, ema=0.0)
    assert train(config, corpus, slow).ended == "done"
    # Overfitting: validation differs from training, so its loss keeps rising.
    other = Corpus.from_text("ab" * 306 + "cd" * 34, "turn.txt")
    overfits = Recipe(steps=200, batch_chars=128, eval_interval=10, learning_rate=0.02)
    seen = list[Progress]()
    assert train(ModelConfig(vocab_size=4, **TINY), other, overfits, report=seen.append).ended == "done"
    assert seen[-1].validation_loss is not None
    assert seen[-1].validation_loss > seen[-1].unigram_loss
    # Noise, from which nothing can be learned.
    rng = np.random.default_rng(0)
    noise = Corpus.from_text("".join(rng.choice(list("0123456789abcdef"), 20_000)), "noise.txt")
    recipe = Recipe(steps=200, eval_interval=20, batch_chars=512)
    assert train(ModelConfig(vocab_size=16, **TINY), noise, recipe).ended == "done"


def test_unigram_loss_is_the_cross_entropy_of_smoothed_frequencies() -> None:
    train_text, validation = torch.tensor([0, 0, 0, 1]), torch.tensor([1, 2])
    result = unigram_loss(train_text, validation, 3)
    p = np.array([4, 2, 1]) / 7
    np.testing.assert_allclose(result, [-(3 * np.log(p[0]) + np.log(p[1])) / 4, -(np.log(p[1]) + np.log(p[2])) / 2])
