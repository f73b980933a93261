"""Precision int16: the NumPy twin and the kernels have the same bits, on every instruction set, and are accurate."""

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
from knock.engine.automaton import Automaton
from knock.engine.batch import Request
from knock.engine.engine import Engine
from knock.engine.portable.arithmetic import exp_double, log_double
from knock.engine.portable.model import PortableModel
from knock.engine.quantizing import quantize
from knock.generation.constraints.automaton import Rules, build
from knock.sampling import TokenStats
from knock.weights import Weights
from tests.cases import EVERY, float64, models, random_tokens, random_weights

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
SHIPPED = ["shakespeare-hybrid", "shakespeare-nano", "shakespeare-classic", "names"]
ROOT = Path(__file__).parents[2]


def both(weights: Weights) -> tuple[Engine, Engine]:
    return Engine(weights, "compiled", "int16"), Engine(weights, "numpy", "int16")


def drawn(engine: Engine, request: Request, length: int) -> tuple[bytes, ...]:
    """The bits of the tokens and statistics of a text."""
    rows = engine.run([replace(request, max_new_tokens=length)], 3, threads=1, keep_stats=True)
    assert rows.stats is not None
    return rows.tokens.tobytes(), rows.stats.tobytes(), rows.lengths.tobytes(), rows.kept.tobytes()


@settings(max_examples=100)
@given(models(), st.integers(1, 60), st.integers(0, 9))
def test_logits_are_equal(weights: Weights, length: int, seed: int) -> None:
    compiled, portable = both(weights)
    tokens = random_tokens(weights.config, length, seed)
    expected = compiled.logits(tokens)
    assert np.array_equal(portable.logits(tokens), expected)
    targets = random_tokens(weights.config, length, seed + 1)
    assert np.array_equal(portable.log_probs(tokens, targets), compiled.log_probs(tokens, targets))


@pytest.mark.parametrize("kind", EVERY)
def test_tokens_one_by_one_equal_the_full_pass(kind: str) -> None:
    weights = random_weights(EVERY[kind], 0)
    model, tokens = PortableModel(weights), random_tokens(EVERY[kind], EVERY[kind].longest_window)
    cache = model.empty_cache()
    steps = [model.step(int(token), cache) for token in tokens]
    assert np.array_equal(steps, model.forward(tokens))


@pytest.mark.parametrize("kind", EVERY)
def test_texts_and_statistics_are_equal(kind: str) -> None:
    compiled, portable = both(random_weights(EVERY[kind], 0))
    for index, sampling in enumerate(CONTROLS):
        request = Request(random_tokens(EVERY[kind], 17), sampling, None, 0, index)
        assert drawn(portable, request, 60) == drawn(compiled, request, 60), sampling


@settings(max_examples=150)
@given(models(), st.data())
def test_texts_of_any_model_are_equal(weights: Weights, data: st.DataObject) -> None:
    compiled, portable = both(weights)
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


@pytest.mark.parametrize("name", SHIPPED)
def test_texts_of_shipped_models_are_equal(name: str) -> None:
    weights = load(name, backend="numpy").model.weights
    compiled, portable = both(weights)
    request = Request(np.array([0], np.int32), Sampling(temperature=0.8, top_p=0.95), None, 0, 5)
    assert drawn(portable, request, 2000) == drawn(compiled, request, 2000)


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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", EVERY)
def test_batches_change_no_bit(kind: str, threads: int) -> None:
    """More rows than lanes, of different lengths, that begin and end at different times."""
    requests = [
        Request(random_tokens(EVERY[kind], 1 + 3 * (i % 20), i % 20), CONTROLS[i % len(CONTROLS)], None, 20 + i, i)
        for i in range(40)
    ]
    check_batch(Engine(random_weights(EVERY[kind], 0), "compiled", "int16"), requests, threads)


@settings(max_examples=40)
@given(models(), st.data())
def test_batches_of_any_model_change_no_bit(weights: Weights, data: st.DataObject) -> None:
    controls = [Sampling(temperature=data.draw(st.floats(0.05, 5))), *CONTROLS[:3]]
    requests = [
        Request(random_tokens(weights.config, data.draw(st.integers(1, 30)), i), controls[i % 4], None, 5 + i, i)
        for i in range(20)
    ]
    check_batch(Engine(weights, "compiled", "int16"), requests, 1)


@pytest.mark.parametrize("name", SHIPPED)
def test_codes_cost_next_to_nothing(name: str) -> None:
    """On the model's own text: 0.0005 nats a character at most, and 99.5% of the likeliest tokens are the same."""
    weights = load(name, backend="numpy").model.weights
    exact, quantized = Engine(weights, "numpy", "float32"), Engine(weights, "compiled", "int16")
    tokens, _ = quantized.start([0], Sampling(), 1).advance(3000)
    read, targets = tokens[:-1], tokens[1:]
    losses = [-engine.log_probs(read, targets).mean() for engine in (exact, quantized)]
    assert abs(losses[0] - losses[1]) < 5e-4
    same = exact.logits(read).argmax(-1) == quantized.logits(read).argmax(-1)
    assert same.mean() > 0.995


@settings(max_examples=60)
@given(models(), st.integers(0, 9))
def test_any_model_stays_close_to_the_reference(weights: Weights, seed: int) -> None:
    """A product of 12-bit codes errs by 1 in 4,000; large random weights amplify that from block to block."""
    tokens = random_tokens(weights.config, 30, seed)
    expected = reference.forward(tokens, float64(weights), weights.config)
    error = Engine(weights, "compiled", "int16").logits(tokens) - expected
    assert np.sqrt((error**2).mean()) <= 0.05 * np.sqrt((expected**2).mean()) + 1e-3


@given(models())
def test_codes_fit_in_their_bits(weights: Weights) -> None:
    """The largest sums that bounded rows, weights and values can have fit in 32 bits."""
    model, C = quantize(weights), weights.config.n_emb
    for block in model.blocks:
        for layer in (*block.inputs.values(), block.w0, block.w1, model.output):
            assert np.abs(layer.codes).max(initial=0) <= 2047
        elements = int(model.norm_scale * np.sqrt(C))
        assert elements <= 32767
        assert C * float(model.norm_scale) * 2047 < 2**31
        assert model.hidden_codes * 2047 * weights.config.nodes < 2**31


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
from knock.engine.engine import Engine
from tests.cases import EVERY, random_tokens, random_weights
digests = {}
for precision in ("int16", "float32"):
    digest = hashlib.sha256()
    shipped = load("shakespeare-hybrid", backend="numpy").model.weights
    for weights in [shipped, *(random_weights(config, 0) for config in EVERY.values())]:
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
