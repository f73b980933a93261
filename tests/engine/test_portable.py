"""Precisions int16 and int8: the NumPy twin and the kernels have the same bits, on every instruction set, and are
accurate.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knock import Sampling, load, reference
from knock.choices import PRECISIONS, Precision
from knock.config import ModelConfig
from knock.engine.automaton import Automaton
from knock.engine.batch import Request
from knock.engine.engine import Engine
from knock.engine.portable.arithmetic import exp_double, log_double
from knock.engine.portable.model import PortableModel
from knock.engine.quantizing import Codes, QuantizedModel, quantize
from knock.generation.constraints.automaton import Rules, build
from knock.sampling import TokenStats
from knock.weights import Weights
from tests.cases import CASES, EVERY, extreme_weights, float64, models, random_tokens, random_weights

CONTROLS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=0.8, top_p=0.95),
    Sampling(target_entropy=2.0),
    Sampling(target_entropy=1.0, entropy_rule="ratio", min_p=0.05),
    Sampling(mirostat=2.0),
    Sampling(top_k=3, logit_bias={1: 2.0, 2: -np.inf}),
    Sampling(typical_p=0.8, min_p=0.05, temperature=1.3),
    Sampling(top_n_sigma=1.5, top_p=0.9),
    Sampling(dry_multiplier=0.8, no_repeat_ngram=4, temperature=0.7),
]
CODED: list[Precision] = [precision for precision in PRECISIONS if precision != "float32"]
SHIPPED = ["shakespeare-hybrid", "shakespeare-nano", "shakespeare-classic", "names"]
ROOT = Path(__file__).parents[2]


def both(weights: Weights, precision: Precision) -> tuple[Engine, Engine]:
    return Engine(weights, "compiled", precision), Engine(weights, "numpy", precision)


def drawn(engine: Engine, request: Request, length: int) -> tuple[bytes, ...]:
    """The bits of the tokens and statistics of a text."""
    rows = engine.run([replace(request, max_new_tokens=length)], 3, threads=1, keep_stats=True)
    assert rows.stats is not None
    return rows.tokens.tobytes(), rows.stats.tobytes(), rows.lengths.tobytes(), rows.kept.tobytes()


@pytest.mark.parametrize("precision", CODED)
@settings(max_examples=100)
@given(models(), st.integers(1, 60), st.integers(0, 9))
def test_logits_are_equal(precision: Precision, weights: Weights, length: int, seed: int) -> None:
    compiled, portable = both(weights, precision)
    tokens = random_tokens(weights.config, length, seed)
    expected = compiled.logits(tokens)
    assert np.array_equal(portable.logits(tokens), expected)
    targets = random_tokens(weights.config, length, seed + 1)
    assert np.array_equal(portable.log_probs(tokens, targets), compiled.log_probs(tokens, targets))


@pytest.mark.parametrize("precision", CODED)
@pytest.mark.parametrize("kind", CASES)
def test_extreme_codes_do_not_saturate(kind: str, precision: Precision) -> None:
    """Nor in `test_every_instruction_set_has_the_same_bits`, on CPUs that add two products of int8 in 16 bits."""
    weights = extreme_weights(CASES[kind])
    model = quantize(weights, precision)
    largest, tokens = model.scheme.weight_codes, random_tokens(CASES[kind], 40)
    assert all((np.abs(codes) == largest).all() for codes in all_codes(model))
    compiled, portable = both(weights, precision)
    assert np.array_equal(portable.logits(tokens), compiled.logits(tokens))


@pytest.mark.parametrize("precision", CODED)
@pytest.mark.parametrize("kind", CASES)
def test_tokens_one_by_one_equal_the_full_pass(kind: str, precision: Precision) -> None:
    weights = random_weights(CASES[kind], 0)
    model, tokens = (
        PortableModel(weights, precision),
        random_tokens(CASES[kind], CASES[kind].longest_window),
    )
    cache = model.empty_cache()
    steps = [model.step(int(token), cache) for token in tokens]
    assert np.array_equal(steps, model.forward(tokens))


@pytest.mark.parametrize("precision", CODED)
@pytest.mark.parametrize("kind", CASES)
def test_texts_and_statistics_are_equal(kind: str, precision: Precision) -> None:
    compiled, portable = both(random_weights(CASES[kind], 0), precision)
    for index, sampling in enumerate(CONTROLS):
        request = Request(random_tokens(CASES[kind], 17), sampling, None, 0, index)
        assert drawn(portable, request, 60) == drawn(compiled, request, 60), sampling


@pytest.mark.parametrize("precision", CODED)
@settings(max_examples=150)
@given(models(), st.data())
def test_texts_of_any_model_are_equal(precision: Precision, weights: Weights, data: st.DataObject) -> None:
    compiled, portable = both(weights, precision)
    V = weights.config.vocab_size
    options = {
        "temperature": data.draw(st.sampled_from([0, 1]) | st.floats(0.05, 5)),
        "top_k": data.draw(st.sampled_from([0, 1, 5])),
        "top_p": data.draw(st.just(1.0) | st.floats(0.01, 1)),
        "typical_p": data.draw(st.just(1.0) | st.floats(0.01, 1)),
        "min_p": data.draw(st.just(0.0) | st.floats(0.001, 1)),
        "top_n_sigma": data.draw(st.just(0.0) | st.floats(0.1, 4)),
        "no_repeat_ngram": data.draw(st.integers(0, 4)),
    }
    if data.draw(st.booleans()):
        options |= {
            "target_entropy": data.draw(st.just(0.0) | st.floats(1e-6, 5)),
            "entropy_rule": data.draw(st.sampled_from(["exact", "ratio"])),
        }
        del options["temperature"]
    automaton: Automaton | None = None
    if V > 2 and data.draw(st.booleans()):
        automaton = build(Rules(stop=[[0, 1]], ban=[[2]], min_length=3), V)
    prompt = random_tokens(weights.config, data.draw(st.integers(1, 40)), 3)
    request = Request(prompt, Sampling(**options), automaton, 0, data.draw(st.integers(0, 2**40)))
    assert drawn(portable, request, 40) == drawn(compiled, request, 40)


@pytest.mark.parametrize("precision", CODED)
@pytest.mark.parametrize("name", SHIPPED)
def test_texts_of_shipped_models_are_equal(name: str, precision: Precision) -> None:
    weights = load(name, backend="numpy").model.weights
    compiled, portable = both(weights, precision)
    request = Request(np.array([0], np.int32), Sampling(temperature=0.8, top_p=0.95), None, 0, 5)
    length = 2000 if weights.config.position == "relative" else 300  # NumPy recomputes an absolute window
    assert drawn(portable, request, length) == drawn(compiled, request, length)


def check_batch(engine: Engine, requests: list[Request], threads: int) -> None:
    """Check that rows have the bits of single texts, whatever the lanes, threads and order of rows."""
    rows = engine.run(requests, 7, threads=threads, keep_stats=True)
    assert rows.stats is not None
    for request, start in zip(requests, rows.starts, strict=True):
        tokens, stats = engine.start(request.tokens, request.sampling, 7, request.index).advance(request.max_new_tokens)
        part = slice(start, start + request.max_new_tokens)
        assert np.array_equal(rows.tokens[part], tokens)
        for name, values in vars(TokenStats.from_array(rows.stats[part])).items():
            assert np.array_equal(values, getattr(stats, name)), name


@pytest.mark.parametrize("precision", CODED)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", CASES)
def test_batches_change_no_bit(kind: str, threads: int, precision: Precision) -> None:
    """More rows than lanes, of different lengths, that begin and end at different times."""
    requests = [
        Request(random_tokens(CASES[kind], 1 + 3 * (i % 20), i % 20), CONTROLS[i % len(CONTROLS)], None, 20 + i, i)
        for i in range(40)
    ]
    check_batch(Engine(random_weights(CASES[kind], 0), "compiled", precision), requests, threads)


@settings(max_examples=60)
@given(models(), st.sampled_from(CODED), st.data())
def test_batches_of_any_model_change_no_bit(weights: Weights, precision: Precision, data: st.DataObject) -> None:
    temperature, top_p = st.floats(0.05, 5), st.floats(0.01, 1)
    nuclei = [Sampling(temperature=data.draw(temperature), top_p=data.draw(top_p)) for _ in range(3)]
    controls = [*nuclei, Sampling(temperature=data.draw(temperature)), Sampling(temperature=0)]
    requests = [
        Request(random_tokens(weights.config, data.draw(st.integers(1, 30)), i), controls[i % 5], None, 5 + i, i)
        for i in range(20)
    ]
    check_batch(Engine(weights, "compiled", precision), requests, 1)


def test_top_p_among_equal_tokens_changes_no_bit() -> None:
    """Three tokens each have one logit: lanes side by side leave the choice between them to the sampler of a row."""
    weights = random_weights(EVERY["hybrid-relative"], 0)
    alike = np.arange(weights.config.vocab_size) // 3 * 3
    weights = Weights(weights.config, {**weights, "wout": weights["wout"][:, alike]})
    requests = [Request(np.array([0], np.int32), Sampling(top_p=0.05 * (i + 1)), None, 40, i) for i in range(19)]
    check_batch(Engine(weights, "compiled", "int16"), requests, 1)


@pytest.mark.parametrize(("precision", "loss", "agreement"), [("int16", 5e-4, 0.995), ("int8", 5e-3, 0.96)])
@pytest.mark.parametrize("name", SHIPPED)
def test_codes_cost_next_to_nothing(name: str, precision: Precision, loss: float, agreement: float) -> None:
    """On the model's own text: in nats a character, and in likeliest tokens that are the same."""
    weights = load(name, backend="numpy").model.weights
    exact, quantized = Engine(weights, "numpy", "float32"), Engine(weights, "compiled", precision)
    tokens, _ = quantized.start([0], Sampling(), 1).advance(3000)
    read, targets = tokens[:-1], tokens[1:]
    losses = [-engine.log_probs(read, targets).mean() for engine in (exact, quantized)]
    assert abs(losses[0] - losses[1]) < loss
    same = exact.logits(read).argmax(-1) == quantized.logits(read).argmax(-1)
    assert same.mean() > agreement


@pytest.mark.parametrize(("precision", "relative", "absolute"), [("int16", 0.05, 1e-3), ("int8", 0.2, 5e-3)])
@settings(max_examples=60)
@given(models(), st.integers(0, 9))
def test_any_model_stays_close_to_the_reference(
    precision: Precision, relative: float, absolute: float, weights: Weights, seed: int
) -> None:
    """A weight errs by up to 1 in 4,000 with 12 bits, and 1 in 120 with 7; large random weights amplify that."""
    tokens = random_tokens(weights.config, 30, seed)
    expected = reference.forward(tokens, float64(weights), weights.config)
    error = Engine(weights, "compiled", precision).logits(tokens) - expected
    assert np.sqrt((error**2).mean()) <= relative * np.sqrt((expected**2).mean()) + absolute


@given(models())
def test_int16_codes_fit_in_their_bits(weights: Weights) -> None:
    """The largest sums that bounded rows, weights and values can have fit in 32 bits."""
    model, C = quantize(weights, "int16"), weights.config.n_emb
    scale = model.scheme.norm_scale
    assert scale is not None
    assert all(np.abs(codes).max(initial=0) <= 2047 for codes in all_codes(model))
    assert int(scale * np.sqrt(C)) <= 32767
    assert C * float(scale) * 2047 < 2**31
    assert model.scheme.hidden_codes * 2047 * weights.config.nodes < 2**31


@given(models())
def test_int8_codes_fit_in_their_bits(weights: Weights) -> None:
    """The sum of two products fits in 16 bits, with codes of rows from 1 to 255; all of them fit in 32."""
    model, c = quantize(weights, "int8"), weights.config
    largest = max(int(np.abs(codes).max(initial=0)) for codes in all_codes(model))
    for rows, K in ((model.scheme.norm_codes, c.n_emb), (model.scheme.hidden_codes, c.nodes)):
        assert rows is not None
        assert 128 + rows <= 255
        assert 2 * (128 + rows) * largest < 2**15
        assert rows * largest * K < 2**31


def test_wide_rows_have_fewer_int8_codes() -> None:
    """Their sums fit in 32 bits, though not before the offset of the codes is subtracted."""
    K = 300_000
    weights = extreme_weights(ModelConfig(vocab_size=1, T=1, n_emb=2, nodes=K, n_blocks=1, n_heads=1))
    codes = quantize(weights, "int8").scheme.hidden_codes
    assert codes * 63 * K < 2**31 < min((codes + 1) * 63 * K, 128 * 63 * K)
    compiled, portable = both(weights, "int8")
    assert np.array_equal(portable.logits([0]), compiled.logits([0]))


@pytest.mark.parametrize("precision", CODED)
@settings(max_examples=100)
@given(models(), st.integers(0, 9))
def test_codes_of_attention_fit_in_their_bits(precision: Precision, weights: Weights, seed: int) -> None:
    """Rows along the columns of the projection make queries, keys and values as large as they can be.

    If their codes or sums were too large, they would wrap around in the kernels, but not in the twin.
    """
    arrays, rng = dict(weights), np.random.default_rng(seed)
    sources = [arrays[name] for name in ("blocks.0.wq", "blocks.0.wk", "blocks.0.wv") if name in arrays]
    columns = np.concatenate(sources, axis=1).T * arrays["blocks.0.ln1.gain"]
    chosen = rng.integers(len(columns), size=weights.config.vocab_size)
    arrays["embed"] = 1000 * rng.choice([-1, 1], len(chosen))[:, None] * columns[chosen]
    compiled, portable = both(Weights(weights.config, arrays), precision)
    tokens = random_tokens(weights.config, 60, seed)
    assert np.array_equal(portable.logits(tokens), compiled.logits(tokens))


def all_codes(model: QuantizedModel) -> list[Codes]:
    """The codes of all weights of a model."""
    layers = [layer for block in model.blocks for layer in (*block.inputs.values(), block.w0, block.w1)]
    return [layer.codes for layer in (*layers, model.output)]


@pytest.mark.parametrize("x", [1.0, 1.5, 2.0, 1e-30, 1e30, 0.999999, 1.000001, 65.0, 3.7e5, 2.0**-1000])
def test_double_log(x: float) -> None:
    assert log_double(x) == pytest.approx(np.log(x), rel=3e-16, abs=1e-22)


@pytest.mark.parametrize("x", [0.0, 1.0, -1.0, 69.07, -69.07, 0.34, 1e-9, 700.0, -700.0])
def test_double_exp(x: float) -> None:
    assert exp_double(x) == pytest.approx(np.exp(x), rel=5e-16)


DIGEST = """
import hashlib, json
import numpy as np
from knock import Sampling, load
from knock.choices import PRECISIONS
from knock.engine.engine import Engine
from tests.cases import EVERY, extreme_weights, random_tokens, random_weights
digests = {}
for precision in PRECISIONS:
    digest = hashlib.sha256()
    shipped = load("shakespeare-hybrid", backend="numpy").model.weights
    others = (make(config, 0) for make in (random_weights, extreme_weights) for config in EVERY.values())
    for weights in [shipped, *others]:
        engine = Engine(weights, "compiled", precision)
        digest.update(engine.logits(random_tokens(weights.config, 100)).tobytes())
        filtered = Sampling(temperature=0.8, top_p=0.95)
        for sampling in (Sampling(), filtered, Sampling(target_entropy=1.5), Sampling(mirostat=2.0)):
            tokens, stats = engine.start([0], sampling, 3).advance(300)
            digest.update(tokens.tobytes())
            for values in vars(stats).values():
                digest.update(np.ascontiguousarray(values).tobytes())
    digests[precision] = digest.hexdigest()
print(json.dumps(digests))
"""
# Features to do without, by what is left.
SETS = {
    "AVX-512": "",
    "AVX-512 without VNNI": "avx512vnni,avxvnni*",
    "AVX2 and FMA": "avx512*,avxvnni*",
    "AVX2": "avx512*,avxvnni*,fma,fma4",
    "SSE4.2": "avx*,fma,fma4,f16c,xop",
}


def digests(features: str) -> Any:
    environment = {**os.environ, "KNOCK_CPU_FEATURES": features, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = "from knock.engine.backends import compile_now; compile_now()" + DIGEST
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.mark.skipif(not llvm.get_process_triple().startswith("x86_64"), reason="knows the features of x86-64 only")
def test_every_instruction_set_has_the_same_bits(pool: ThreadPoolExecutor) -> None:
    """Kernels compiled for less than this CPU can do, each in a process of its own."""
    features = llvm.get_host_cpu_features()
    sets = {name: without for name, without in SETS.items() if name != "AVX-512" or features.get("avx512f")}
    found = dict(zip(sets, pool.map(digests, sets.values()), strict=True))
    assert len(set(map(json.dumps, found.values()))) == 1, found
