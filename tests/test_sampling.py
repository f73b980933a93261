import math
import pickle
import sys
from dataclasses import replace
from typing import get_type_hints

import numpy as np
import pytest

from knock import LanguageModel, ReweightGPT, Sampling
from knock.errors import SamplingError
from knock.sampling import (
    HOTTEST,
    LARGEST,
    PRESETS,
    SMALLEST,
    SMALLEST_ENTROPY,
    SamplingOptions,
    TokenStats,
    resolve_seed,
    summarize,
)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": -0.1}, r"temperature must be 0 \(greedy\) or above 0 and at most 10000, got -0.1"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 2.0}, "top_k"),
        ({"top_p": 0.0}, r"top_p must be above 0 and at most 1 \(off\), got 0.0"),
        ({"top_p": 1.1}, "top_p"),
        ({"typical_p": 0}, "typical_p"),
        ({"min_p": -0.1}, r"min_p must be 0 \(off\) or above 0 and at most 1"),
        ({"top_n_sigma": -1}, "top_n_sigma"),
        ({"min_temp": 0}, "min_temp"),
        ({"min_temp": 1.0, "max_temp": 0.5}, r"at least min_temp \(1\), got 0.5"),
        ({"target_entropy": -1}, r"target_entropy must be 0 \(always min_temp\) or from 1e-06 to 1e\+30 bits"),
        ({"target_entropy": 1e-7}, "target_entropy"),
        ({"target_entropy": 2, "temperature": 0.5}, "give one of them"),
        ({"entropy_rule": "precise"}, "exact, ratio"),
        ({"mirostat": 0}, "mirostat"),
        ({"mirostat": 3, "top_p": 0.9, "top_k": 4}, "mirostat replaces top_k, top_p"),
        ({"mirostat": 3, "temperature": 0}, "above 0"),
        ({"mirostat_eta": 0}, "mirostat_eta"),
        ({"logit_bias": {3: math.nan}}, "logit_bias of 3"),
        ({"logit_bias": {3: math.inf}}, "logit_bias of 3"),
        ({"logit_bias": {3: 10**400}}, "logit_bias of 3"),
        ({"logit_bias": {3: 1e308}}, r"logit_bias of 3 must be from -1e\+30 to 1e\+30, or -inf \(never\), got 1e\+308"),
        ({"logit_bias": {3: -1e31}}, "logit_bias of 3"),
        ({"top_k": 10**400}, "top_k"),
        ({"logit_bias": [3]}, "logit_bias must map"),
        ({"temperature": 10**400}, "temperature"),
        ({"temperature": None}, "temperature"),
        ({"temperature": True}, "temperature"),
    ],
)
def test_control_out_of_range_is_rejected_by_name(options: dict, says: str) -> None:
    with pytest.raises(SamplingError, match=says):
        Sampling(**options)


REAL = ("temperature", "top_p", "typical_p", "min_p", "top_n_sigma", "target_entropy", "min_temp", "max_temp",
        "mirostat", "mirostat_eta", "dry_multiplier", "dry_base")  # fmt: skip


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("value", [5e-324, sys.float_info.min, 1e-31, 1e31, sys.float_info.max, math.inf])
def test_numbers_that_float32_cannot_compute_with_are_rejected(name: str, value: float) -> None:
    with pytest.raises(SamplingError, match=f"^{name} must be "):
        Sampling(**{name: value})


def test_every_number_has_bounds() -> None:
    numbers = {name for name, type_ in get_type_hints(SamplingOptions).items() if type_ in (float, float | None)}
    assert numbers == set(REAL)


EXTREME = [
    {"dry_multiplier": SMALLEST, "dry_base": 1e4, "dry_allowed_length": 1},
    {"dry_multiplier": 1e4, "dry_base": 1e4, "dry_allowed_length": 1, "no_repeat_ngram": 1},
    {"dry_multiplier": 1e4, "dry_base": 1.0, "repetition_range": 2**53},
    {"temperature": SMALLEST},
    {"temperature": HOTTEST},
    {"temperature": HOTTEST, "top_k": 2**53, "typical_p": SMALLEST, "top_p": SMALLEST, "min_p": 1.0},
    {"top_n_sigma": SMALLEST},
    {"top_n_sigma": LARGEST, "min_p": SMALLEST},
    {"target_entropy": SMALLEST_ENTROPY, "min_temp": SMALLEST, "max_temp": HOTTEST},
    {"target_entropy": LARGEST, "min_temp": SMALLEST, "max_temp": HOTTEST, "entropy_rule": "ratio"},
    {"target_entropy": 0, "min_temp": SMALLEST, "max_temp": HOTTEST, "entropy_rule": "ratio"},
    {"mirostat": SMALLEST, "mirostat_eta": LARGEST},
    {"mirostat": LARGEST, "mirostat_eta": LARGEST},
    {"mirostat": 3.0, "mirostat_eta": LARGEST, "temperature": HOTTEST},
    {"mirostat": 3.0, "mirostat_eta": SMALLEST, "temperature": SMALLEST},
    {"logit_bias": {"e": LARGEST}},
    {"logit_bias": {"e": -LARGEST, "a": 5e-324}},
    {"logit_bias": {"e": LARGEST, "a": LARGEST, "\n": -math.inf}},
    {"logit_bias": {"e": LARGEST, "a": -LARGEST}, "temperature": HOTTEST, "top_n_sigma": LARGEST},
    {"logit_bias": dict.fromkeys("abcdefghijklmnopqrstuvwxyz ", LARGEST), "top_p": 0.9},
    {"logit_bias": {"e": 100.0}, "target_entropy": 0, "max_temp": HOTTEST, "entropy_rule": "ratio"},
]


@pytest.mark.parametrize("options", EXTREME, ids=str)
def test_backends_write_the_same_text_at_the_bounds(options: dict, shakespeare: LanguageModel) -> None:
    texts = {
        backend: LanguageModel(
            ReweightGPT.from_weights(shakespeare.model.weights, backend=backend), shakespeare.vocab
        ).generate("ROMEO:", max_new_tokens=40, seed=7, **options)
        for backend in ("numpy", "compiled")
    }
    assert texts["compiled"].text == texts["numpy"].text
    assert len(texts["compiled"].text) == 40
    assert all(math.isfinite(number) for text in texts.values() for number in text.stats.values())


def test_equal_biases_change_nothing(shakespeare: LanguageModel) -> None:
    """However large: what they are added to is not lost."""
    bias = dict.fromkeys(shakespeare.vocab.characters, LARGEST)
    for sampling in (Sampling(), Sampling(top_p=0.9)):
        plain = shakespeare.generate(sampling=sampling, seed=1, max_new_tokens=50)
        assert shakespeare.generate(sampling=replace(sampling, logit_bias=bias), seed=1, max_new_tokens=50).text == (
            plain.text
        )


def test_off_values() -> None:
    Sampling(top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0, top_n_sigma=0.0, temperature=0)


def test_numpy_numbers_are_accepted() -> None:
    mine = Sampling(top_k=np.int64(5), temperature=np.float32(0.5), logit_bias={3: np.float32(-1)})
    assert mine == Sampling(top_k=5, temperature=0.5, logit_bias={3: -1})


def test_controls_are_immutable() -> None:
    bias = {0: 1.0}
    mine = Sampling(logit_bias=bias)
    bias[0] = math.inf
    assert mine.logit_bias == {0: 1.0}
    assert len({Sampling(), Sampling(top_k=3), Sampling(top_k=3)}) == 2
    assert pickle.loads(pickle.dumps(mine)) == mine


def test_options_are_the_fields() -> None:
    assert SamplingOptions.__annotations__.keys() == Sampling.__dataclass_fields__.keys()


def test_presets() -> None:
    assert Sampling.preset("basic") == Sampling()
    assert Sampling.preset("top_k").top_k == 40
    assert Sampling.preset("top_p").top_p == 0.9
    assert Sampling.preset("entropy", {"target_entropy": 3.0}) == replace(Sampling.preset("entropy"), target_entropy=3)
    with pytest.raises(SamplingError, match=", ".join(PRESETS)):
        Sampling.preset("nucleus")
    with pytest.raises(SamplingError, match="unknown control temprature; did you mean temperature"):
        Sampling.preset("basic", {"temprature": 1.0})


def test_bias_array() -> None:
    assert Sampling().bias_array(3) is None
    assert Sampling(logit_bias={1: -2.5}).bias_array(3).tolist() == [0, -2.5, 0]
    assert Sampling(logit_bias={1: 2.5, 2: -math.inf}).bias_array(3).tolist() == [-2.5, 0, -math.inf]
    assert Sampling(logit_bias={0: -1e30, 1: 1e30, 2: 1e30}).bias_array(3).tolist() == [-2e30, 0, 0]
    for bad in (3, -1, "e", 0.5):
        with pytest.raises(SamplingError, match="token ids from 0 to 2"):
            Sampling(logit_bias={bad: 1.0}).bias_array(3)
    with pytest.raises(SamplingError, match="bans every token"):
        Sampling(logit_bias=dict.fromkeys(range(3), -math.inf)).bias_array(3)


def test_seed() -> None:
    assert resolve_seed(7) == 7
    assert resolve_seed(np.int64(7)) == 7
    assert 0 <= resolve_seed(None) < 2**32
    assert len({resolve_seed(None) for _ in range(20)}) > 1
    for bad in (-1, 2**64, 1.5, True, "7"):
        with pytest.raises(SamplingError, match="seed"):
            resolve_seed(bad)


def test_summary() -> None:
    one = TokenStats(
        entropy=np.array([1.0, 4.0]),
        sampled_entropy=np.array([0.5, 2.0]),
        confidence=np.array([0.25, 0.5]),
        temperature=np.array([1.0, 0.7]),
        surprise=np.array([3.0, 9.0]),
    )
    both = TokenStats.concatenate([one, one[:1]])
    assert len(both) == 3
    summary = summarize(both, seed=5)
    assert summary["seed"] == 5
    assert summary["tokens"] == 3
    assert summary["mean_entropy"] == 2.0
    assert (summary["min_entropy"], summary["max_entropy"]) == (1.0, 4.0)
    assert summary["entropy_std"] == pytest.approx(math.sqrt(2))
    assert summary["mean_sampled_entropy"] == 1.0
    assert summary["mean_confidence"] == pytest.approx(1 / 3)
    assert summary["mean_temp"] == pytest.approx(0.9)
    assert summary["mean_surprise"] == 5.0
    nothing = summarize(TokenStats.concatenate([]), seed=5)
    assert nothing["tokens"] == 0
    assert math.isnan(nothing["mean_entropy"])
    assert math.isnan(nothing["max_entropy"])
