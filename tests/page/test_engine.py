"""The page's engine in Chromium and the NumPy twin have the same bits: logits, draws, statistics, texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from knock import Generation, LanguageModel, Prompt, ReweightGPT, Sampling, Vocab, load, reference
from knock.choices import Backend
from knock.config import ModelConfig
from knock.engine.engine import Engine
from knock.engine.portable.arithmetic import exp, exp_double, gelu, log_double
from knock.engine.portable.sampler import sample
from knock.errors import SamplingError
from knock.sampling import SamplingOptions, TokenStats
from knock.weights import Weights
from tests.cases import CASES, extreme_weights, models, random_tokens, random_weights
from tests.page.chromium import encoded, needs_chromium, results

pytestmark = needs_chromium

CONTROLS: list[SamplingOptions] = [
    {},
    {"temperature": 0},
    {"temperature": 0.8, "top_p": 0.95},
    {"temperature": 1.3, "typical_p": 0.8, "min_p": 0.05},
    {"top_k": 3, "logit_bias": {1: 2.0, 2: -math.inf}},
    {"top_k": 20, "top_p": 0.9, "typical_p": 0.95, "min_p": 0.01},
    {"top_n_sigma": 1.5, "top_p": 0.9},
    {"target_entropy": 2.0},
    {"target_entropy": 0.5, "min_temp": 0.01},
    {"target_entropy": 0},
    {"target_entropy": 1.5, "entropy_rule": "ratio", "max_temp": 1.0, "min_p": 0.05},
    {"mirostat": 2.0},
    {"mirostat": 1.0, "mirostat_eta": 0.5, "temperature": 0.9, "no_repeat_ngram": 8},
    {"dry_multiplier": 0.8, "no_repeat_ngram": 12, "temperature": 0.7},
    {"dry_multiplier": 2.0, "dry_allowed_length": 2, "repetition_range": 50, "temperature": 0},
    {"no_repeat_ngram": 1, "repetition_range": 9, "temperature": 1e-30},
    {"temperature": 1e4, "min_p": 1.0},
]


def with_characters(weights: Weights, boundary: bool = False) -> LanguageModel:
    """A model of these weights whose tokens are characters from U+0100 on."""
    count = weights.config.vocab_size - boundary
    return LanguageModel(
        ReweightGPT.from_weights(weights, backend="numpy"),
        Vocab(map(chr, range(0x100, 0x100 + count)), boundary=boundary),
    )


def as_json(controls: SamplingOptions) -> dict[str, Any]:
    """Controls without what JSON does not have: null stands for -inf."""
    bias = {token: None if value == -math.inf else value for token, value in controls.get("logit_bias", {}).items()}
    return {**controls, "logit_bias": bias}


def columns(stats: TokenStats) -> np.ndarray:
    return np.column_stack(list(vars(stats).values()))


def test_elementary_functions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    of_zero = [0.0, -0.0, 1e-45, -1e-45, 1e-30, -1e-30]
    narrow = np.array(
        [
            *of_zero,
            88,
            -87,
            np.nextafter(np.float32(-87), 0),
            -87.5,
            -1e30,
            -np.inf,
            np.nan,
            *rng.uniform(-90, 88, 50_000),
        ],
        np.float32,
    )
    hidden = np.array(
        [*of_zero, 3e38, -3e38, np.inf, -np.inf, *(rng.standard_normal(50_000) * np.exp(rng.uniform(-20, 20, 50_000)))],
        np.float32,
    )
    near = [each for x in (1, math.sqrt(2), 2.0**-1022) for each in (np.nextafter(x, 0), x, np.nextafter(x, 2))]
    spread = [*np.exp(rng.uniform(-700, 700, 50_000)), *rng.uniform(0.5, 100, 50_000)]
    positive = np.array([*near, 2, 0.5, 5e-324, 1.797e308, *spread])
    wide = np.array(
        [*of_zero, 700, -700, 0.5 / 1.4426950408889634, *rng.uniform(-700, 700, 50_000), *rng.uniform(-2, 2, 50_000)]
    )
    jobs = [
        {"kind": "elementwise", "name": name, "values": encoded(values)}
        for name, values in (("exp", narrow), ("gelu", hidden), ("logDouble", positive), ("expDouble", wide))
    ]
    of_floats, of_hidden, of_logs, of_doubles = results(jobs, tmp_path)
    with np.errstate(all="ignore"):
        assert np.array_equal(of_floats, exp(narrow), equal_nan=True)
        assert np.array_equal(of_hidden, gelu(hidden), equal_nan=True)
    assert of_logs.tolist() == [log_double(x) for x in positive.tolist()]
    assert of_doubles.tolist() == [exp_double(x) for x in wide.tolist()]


def test_random_numbers(tmp_path: Path) -> None:
    """Of words with all bits, too."""
    rng = np.random.default_rng(1)
    words = [0, 1, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 2**32, 2**64 - 1, *rng.integers(0, 2**63, 30).tolist()]
    steps = [0, 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1, *rng.integers(0, 2**53, 50).tolist()]
    pairs = [(seed, index) for seed in words for index in words[:12]]
    jobs = [{"kind": "uniform", "seed": str(seed), "index": str(index), "steps": steps} for seed, index in pairs]
    for (seed, index), numbers in zip(pairs, results(jobs, tmp_path), strict=True):
        assert numbers.tolist() == [reference.uniform(seed, index, step) for step in steps]


def check_logits(some: list[Weights], folder: Path, length: int = 40) -> None:
    """Compare the logits of models after each token of texts that are longer than windows."""
    tokens = [random_tokens(weights.config, length, i) for i, weights in enumerate(some)]
    jobs = [
        {"kind": "logits", "model": i, "tokens": each.tolist(), "plain": plain}
        for i, each in enumerate(tokens)
        for plain in (False, True)
    ]
    found = results(jobs, folder, [*map(with_characters, some)])
    for weights, each, fast, plain in zip(some, tokens, found[::2], found[1::2], strict=True):
        expected = Engine(weights, "numpy", "int16").logits(each).ravel()
        assert not isinstance(fast, dict), fast
        assert np.array_equal(fast, expected), weights.config
        assert np.array_equal(plain, expected), weights.config


def test_logits_of_any_model(tmp_path: Path) -> None:
    collected: list[Weights] = []

    @settings(max_examples=150)
    @given(models())
    def collect(weights: Weights) -> None:
        collected.append(weights)

    collect()
    assert {weights.config.position for weights in collected} == {"relative", "absolute"}
    check_logits(collected, tmp_path)


def test_logits_of_every_kind_of_block_and_of_the_largest_codes(tmp_path: Path) -> None:
    wide = ModelConfig(
        vocab_size=33, T=(70, 150), n_emb=34, nodes=300, n_blocks=2, n_heads=2, head_type=("hybrid", "content"),
        position="relative", reweight_T=(65, 0),
    )  # fmt: skip
    kinds = [*CASES.values(), wide]
    weights = [make(config, 3) for config in kinds for make in (random_weights, extreme_weights)]
    check_logits(weights, tmp_path, 320)


def rows_of_logits(V: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Flat, steep, tied and hopeless rows, [count, V]."""
    scales = np.exp(rng.uniform(-4, 5, count))[:, None]
    rows = rng.standard_normal((count, V)) * scales
    tied = rng.integers(0, 4, count) == 0
    rows[tied] = np.round(rows[tied])
    rows[0], rows[1] = 0, np.where(np.arange(V) == V - 1, 1e4, -1e4)
    rows[2, ::2] = rows[2, 0]
    return rows.astype(np.float32)


@pytest.mark.parametrize("V", [1, 5, 16, 65, 300])
def test_draws_have_the_bits_of_the_twin(V: int, tmp_path: Path) -> None:
    """Over every control, with ties and extremes."""
    rng = np.random.default_rng(V)
    lm = with_characters(random_weights(ModelConfig(vocab_size=V, T=1, n_emb=1, nodes=1, n_blocks=1, n_heads=1), 0))
    logits, context = rows_of_logits(V, rng, 60), rng.integers(0, V, 40).tolist()
    all_controls = [each for each in CONTROLS if not each.get("logit_bias") or V > 2]
    jobs = [
        {"kind": "draws", "model": 0, "logits": encoded(logits), "controls": as_json(each), "seed": str(2**64 - 9),
         "index": str(i), "context": context}
        for i, each in enumerate(all_controls)
    ]  # fmt: skip
    for i, (controls, drawn) in enumerate(zip(all_controls, results(jobs, tmp_path, [lm]), strict=True)):
        sampling, text = Sampling(**controls), list(context)
        mu, bias = 2 * sampling.mirostat if sampling.mirostat is not None else 0.0, sampling.bias_array(V)
        tokens, statistics = [], []
        for step, row in enumerate(logits):
            u = reference.uniform(2**64 - 9, i, step)
            narrow = None if bias is None else bias.astype(np.float32)
            with np.errstate(all="ignore"):
                draw = sample(row, sampling, u, mu, narrow, None, np.array(text))
            mu = draw.mu
            text.append(draw.token)
            tokens.append(draw.token)
            statistics += [draw.entropy, draw.sampled_entropy, draw.confidence, draw.temperature, draw.surprise]
        assert "error" not in drawn, (controls, drawn)
        assert drawn["tokens"].tolist() == tokens, controls
        assert drawn["statistics"].tolist() == statistics, controls


@pytest.mark.parametrize(
    ("name", "backend", "prompts", "length", "least"),
    [
        ("shakespeare-nano", "numpy", ["ROMEO:", ""], 200, 5000),
        ("shakespeare-hybrid", "numpy", ["", "O, "], 100, 2500),
        ("shakespeare-small", "compiled", ["To be, or not to be, that is the question:\n" * 8, "A"], 100, 2500),
        ("shakespeare-classic", "compiled", ["KING "], 90, 1000),
        ("names", "numpy", ["", "Ma"], 40, 150),
    ],
)
def test_texts_are_those_of_the_command(
    name: str, backend: Backend, prompts: list[str], length: int, least: int, tmp_path: Path
) -> None:
    """Character by character, with equal statistics, for every control; more than 11,000 characters in all."""
    lm = load(name, backend=backend, precision="int16")
    stop = ["\n\n", "ing", "g"] if "\n" in lm.vocab else ["el", "le"]
    texts = [(prompt, controls) for prompt in prompts for controls in CONTROLS]
    jobs = [
        {"kind": "text", "model": 0, "prompt": prompt, "seed": str(i), "index": "0", "maxChars": length,
         "controls": as_json(controls), "stop": stop if i % 5 == 0 else []}
        for i, (prompt, controls) in enumerate(texts)
    ]  # fmt: skip
    characters, reasons = 0, set()
    for i, ((prompt, controls), written) in enumerate(zip(texts, results(jobs, tmp_path, [lm]), strict=True)):
        expected = lm.generate(
            prompt, seed=i, max_new_tokens=length, token_stats=True, stop=stop if i % 5 == 0 else None, **controls
        )
        check_text(written, expected)
        characters += len(expected.text)
        reasons.add(expected.finish_reason)
    assert characters >= least
    assert "stop" in reasons
    assert len(reasons) >= 2


def check_text(written: dict[str, Any], expected: Generation) -> None:
    assert "error" not in written, written
    assert expected.token_stats is not None
    assert (written["text"], written["finishReason"]) == (expected.text, expected.finish_reason)
    assert written["stopString"] == expected.stop_string
    assert np.array_equal(written["statistics"], columns(expected.token_stats).ravel())


def test_every_row_of_a_batch(tmp_path: Path) -> None:
    """By its index, however large, with seeds of 64 bits."""
    lm = load("shakespeare-nano", precision="int16")
    prompts = [Prompt("A", index=index) for index in (0, 1, 2**32 - 1, 2**32, 2**53 + 1, 2**62)]
    for seed in (2**64 - 1, 12345):
        folder = tmp_path / str(seed)
        folder.mkdir()
        jobs = [
            {"kind": "text", "model": 0, "prompt": "A", "seed": str(seed), "index": str(prompt.index), "maxChars": 50,
             "controls": {"top_p": 0.9}}
            for prompt in prompts
        ]  # fmt: skip
        expected = lm.generate_batch(prompts, seed=seed, max_new_tokens=50, top_p=0.9, token_stats=True)
        for written, text in zip(results(jobs, folder, [lm]), expected, strict=True):
            check_text(written, text)


def test_models_whose_numbers_could_overflow_run_without_vectors(tmp_path: Path) -> None:
    """To the bits of the twin: finite, or not a number."""

    def enlarged(config: ModelConfig, factor: float) -> Weights:
        """Weights with a residual stream of this size."""
        arrays = random_weights(config, 1)
        return Weights(config, {n: a * factor if n.endswith(("embed", "pos", "w1")) else a for n, a in arrays.items()})

    some = [enlarged(config, factor) for config in CASES.values() for factor in (1e20, 1e37)]
    tokens = random_tokens(some[0].config, 12)  # all vocabularies have these
    jobs = [
        {"kind": "logits", "model": i, "tokens": tokens.tolist(), "plain": plain}
        for i in range(len(some))
        for plain in (False, True)
    ]
    found = results(jobs, tmp_path, [*map(with_characters, some)])
    finite = []
    for weights, fast, plain in zip(some, found[::2], found[1::2], strict=True):
        with np.errstate(all="ignore"):
            expected = Engine(weights, "numpy", "int16").logits(tokens).ravel()
        assert fast == {"error": "WebAssembly is not used"}
        assert np.array_equal(plain, expected, equal_nan=True), weights.config
        finite.append(bool(np.isfinite(expected).all()))
    assert {*finite} == {True, False}


WRONG: list[dict[str, Any]] = [
    {"temperature": -1}, {"temperature": 1e5}, {"temperature": "1"}, {"temperature": True}, {"top_k": 1.5},
    {"top_k": -1}, {"top_p": 0}, {"top_p": 1.01}, {"min_p": -0.1}, {"typical_p": 0}, {"top_n_sigma": -1},
    {"target_entropy": -1},
    {"target_entropy": 1e-7}, {"target_entropy": 1, "temperature": 0.5}, {"entropy_rule": "other"}, {"min_temp": 0},
    {"min_temp": 3}, {"mirostat": 0}, {"mirostat": 2, "top_p": 0.9}, {"mirostat": 2, "temperature": 0},
    {"mirostat_eta": 0}, {"no_repeat_ngram": -1}, {"dry_multiplier": 1e5}, {"dry_base": 0.5}, {"dry_allowed_length": 0},
    {"repetition_range": 0.5}, {"logit_bias": {9: 1}}, {"logit_bias": {0: 1e31}}, {"unknown": 1},
    {"logit_bias": dict.fromkeys(range(5), -math.inf)},
]  # fmt: skip


def test_controls_out_of_range(tmp_path: Path) -> None:
    """Those that the engine rejects."""
    config = ModelConfig(vocab_size=5, T=1, n_emb=1, n_heads=1)
    for controls in WRONG:
        with pytest.raises(SamplingError):
            Sampling.of(controls).bias_array(5)
    lm, logits = with_characters(random_weights(config, 0)), encoded(np.zeros(5, np.float32))
    job = {"kind": "draws", "model": 0, "logits": logits, "seed": "0", "index": "0", "context": []}
    jobs = [job | {"controls": as_json(each)} for each in [*WRONG, *CONTROLS]]  # type: ignore[list-item]
    found = results(jobs, tmp_path, [lm])
    for controls, drawn in zip(WRONG, found, strict=False):
        assert "error" in drawn, controls
    assert not any("error" in drawn for drawn in found[len(WRONG) :])
