"""Compare each kernel with its twin in the reference, or with float64 NumPy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from knock import Sampling, reference
from knock.engine.packing import controls_of, panels
from knock.engine.portable.arithmetic import exp_double, log_double
from knock.sampling import HOTTEST, LARGEST, SMALLEST, SMALLEST_ENTROPY
from knock_kernels.cache.store import loaded
from knock_kernels.lang.layout import (
    WIDTH,
    ZERO_BYTE,
    Block,
    Lane,
    Linear,
    Model,
    RecordArray,
    State,
    StateField,
    Stats,
    padded,
)
from knock_kernels.lang.memory import address as address_of
from knock_kernels.lang.memory import allocate, point
from knock_kernels.lang.units import UNITS
from knock_kernels.lang.vector import load, store
from knock_kernels.ops import double
from knock_kernels.ops import elementary as kernel_math
from knock_kernels.ops import rng as kernel_rng
from knock_kernels.ops import sampler as kernel_sampler
from knock_kernels.ops.attention import softmax_weights
from knock_kernels.ops.linear import code_linear, linear
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.norm import layer_norm
from knock_kernels.ops.quantize import layer_norm_codes, quantize, quantize_bytes
from tests.kernels.pointers import address, record_at

for unit in UNITS:  # kernels compiled in this module call units by symbol
    llvm.add_symbol(unit.symbol, loaded().get_function_address(unit.symbol))

linear_at, lane_at, model_at, state_at, stats_at = map(record_at, (Linear, Lane, Model, State, Stats))
block_at = record_at(Block)


@njit
def run_linear(layer: int, x: Any, out: Any, first: int, last: int) -> None:
    linear(linear_at(layer), address(x), x.shape[1], address(out), out.shape[1], len(out), first, last)


@njit
def run_layer_norm(x: Any, out: Any, C: int) -> None:
    layer_norm(address(x), address(out), C)


@njit
def run_mlp(block: int, x: Any, model: int, state: int) -> None:
    mlp(block_at(block), address(x), len(x), model_at(model), state_at(state))


@njit
def run_softmax(content: Any, reweight: Any, seen: int, slot: int, newest: Any, out: Any) -> float:
    return softmax_weights(address(content), address(reweight), len(out), seen, slot, np.float32(newest), address(out))


@njit(error_model="numpy")
def run_elementwise(x: Any, exps: Any, gelus: Any) -> None:
    for i in range(0, len(x), WIDTH):
        store(kernel_math.exp(load(address(x) + i)), address(exps) + i)
        store(kernel_math.gelu(load(address(x) + i)), address(gelus) + i)


@njit
def run_quantize(x: Any, codes: Any, largest: int) -> Any:
    return quantize(address(x), address(codes), len(x), np.float32(largest))


@njit
def run_quantize_bytes(x: Any, codes: Any, largest: int) -> Any:
    return quantize_bytes(address(x), address(codes), len(x), np.float32(largest))


@njit
def run_layer_norm_codes(x: Any, codes: Any, C: int, scale: int) -> None:
    layer_norm_codes(address(x), address(codes), C, np.float32(scale))


@njit
def run_code_linear(layer: int, codes: Any, scales: Any, out: Any) -> None:
    code_linear(linear_at(layer), address(codes), codes.shape[1], address(scales), address(out), out.shape[1], len(out),
                0, out.shape[1])  # fmt: skip


@njit
def run_double(x: float) -> Any:
    return double.log(max(x, 1e-300)), double.exp(min(max(x, -700.0), 700.0))


@njit
def run_uniform(seed: Any, stream: Any, step: Any) -> float:
    return kernel_rng.uniform(seed, stream, step)


@njit
def call_sampler(logits: Any, lane: int, u: float, model: int, state: int, stats: int) -> int:
    return kernel_sampler.sample(address(logits), lane_at(lane), u, model_at(model), state_at(state), stats_at(stats))


class Drawn(NamedTuple):
    token: int
    stats: dict[str, float]
    mu: float


def run_sample(
    logits: np.ndarray, controls: Sampling, u: float, mu: float | None = None, bias: np.ndarray | None = None,
    automaton: np.ndarray | None = None, left: int = 0, context: np.ndarray | None = None,
) -> Drawn:  # fmt: skip
    V = len(logits)
    model, state, lane, stats, row = Model.array(), State.array(), Lane.array(), Stats.array(), controls_of(controls)
    model["V"], model["V_padded"] = V, padded(V)
    padded_logits = np.full(padded(V), 77, np.float32)  # what is behind the last token must not matter
    padded_logits[:V] = logits
    arrays = allocate(State, state, {"work": (5, padded(V))})
    arrays["work"][:] = np.nan
    if mu is not None:
        row["mu"] = mu
    point(Lane, lane, controls=row, bias=bias, automaton=automaton, context=context)
    lane["is_masked"], lane["left"] = automaton is not None, left
    lane["context_size"] = 0 if context is None else len(context)
    token = call_sampler(padded_logits, address_of(lane), u, *map(address_of, (model, state, stats)))
    return Drawn(token, dict(zip(Stats.fields, stats[0].tolist(), strict=True)), float(row["mu"][0]))


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


class Packed(NamedTuple):
    record: RecordArray
    arrays: Any


def packed(w: np.ndarray, bias: np.ndarray | None = None) -> Packed:
    """Pack a matrix product [K, N], with N padded to whole vectors; without a bias it is added to the output."""
    record, (K, N) = Linear.array(), w.shape
    record["K"], record["N"], record["is_added"] = K, padded(N), bias is None
    arrays = allocate(Linear, record, {"weights": (K * padded(N),), "bias": (padded(N),)})
    panels(w, arrays["weights"])
    if bias is not None:
        arrays["bias"][:N] = bias
    return Packed(record, arrays)


@given(st.integers(1, 20), st.integers(0, 70), st.integers(1, 20), st.booleans(), st.data())
def test_linear(rows: int, K: int, vectors: int, added: bool, data: st.DataObject) -> None:
    first = WIDTH * data.draw(st.integers(0, vectors))
    last = WIDTH * data.draw(st.integers(first // WIDTH, vectors))
    rng, N = np.random.default_rng(data.draw(st.integers(0, 9))), vectors * WIDTH
    x, w = normal(rng, rows, max(K, 1)), normal(rng, K, N)
    out, bias = normal(rng, rows, N), normal(rng, N)
    expected = out.astype(np.float64)
    start = out if added else bias
    product = start + reference.linear(x[:, :K].astype(np.float64), w.astype(np.float64))
    expected[:, first:last] = product[:, first:last]
    layer = packed(w, None if added else bias)
    run_linear(address_of(layer.record), x, out, first, last)
    np.testing.assert_allclose(out, expected, atol=1e-5 * max(1, K))


@given(st.integers(1, 20), st.integers(0, 9))
def test_linear_is_bitwise_independent_of_the_batch(vectors: int, seed: int) -> None:
    rng, N = np.random.default_rng(seed), vectors * WIDTH
    x, layer = normal(rng, 15, 33), packed(normal(rng, 33, N), normal(rng, N))
    alone, together = np.empty((2, 15, N), np.float32)
    run_linear(address_of(layer.record), x, together, 0, N)
    for r in range(15):
        run_linear(address_of(layer.record), x[r : r + 1], alone[r : r + 1], 0, N)
    assert np.array_equal(alone, together)


@given(st.integers(1, 200), st.floats(1e-3, 1e3), st.integers(0, 9))
def test_layer_norm(C: int, scale: float, seed: int) -> None:
    x = normal(np.random.default_rng(seed), padded(C)) * np.float32(scale)
    out = np.full_like(x, 7)
    run_layer_norm(x, out, C)
    expected = reference.layer_norm(x[:C].astype(np.float64), np.ones(C), np.zeros(C))
    np.testing.assert_allclose(out[:C], expected, atol=1e-5)
    assert (out[C:] == 0).all()


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_mlp(rows: int, C: int, F: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, state, block = Model.array(), State.array(), Block.array()
    model["C"], model["C_padded"], model["F_padded"] = C, padded(C), padded(F)
    arrays = allocate(State, state, {"n": (rows, padded(C)), "hidden": (rows, padded(F))})
    x = np.zeros((rows, padded(C)), np.float32)
    n, x[:, :C], w0, w1 = normal(rng, rows, C), normal(rng, rows, C), normal(rng, C, F), normal(rng, F, C)
    arrays["n"][:, :C] = n
    expected = x[:, :C] + reference.mlp(n.astype(np.float64), w0.astype(np.float64), w1.astype(np.float64))
    first, second = packed(w0, np.zeros(F)), packed(w1)
    point(Block, block, w0=first.record, w1=second.record)
    run_mlp(address_of(block), x, address_of(model), address_of(state))
    np.testing.assert_allclose(x[:, :C], expected, atol=1e-4)
    assert (x[:, C:] == 0).all()


@given(st.integers(1, 5), st.sampled_from([5.0, 1e3, 1e12]), st.data())
def test_softmax_weights_match_hybrid_softmax(vectors: int, scale: float, data: st.DataObject) -> None:
    columns = vectors * WIDTH
    seen = data.draw(st.integers(1, columns))
    slot = data.draw(st.integers(0, seen - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    content, reweight = (np.float32(scale) * normal(rng, columns) for _ in range(2))
    out = np.empty(columns, np.float32)
    total = run_softmax(content, reweight, seen, slot, 3.25, out)
    content[slot] = 3.25
    logits = (content + reweight).astype(np.float64)
    expected = reference.hybrid_softmax(logits[None, None], None, None, np.arange(columns)[None] < seen)[0, 0]
    np.testing.assert_allclose(out / total, expected, atol=1e-6)
    assert (out[seen:] == 0).all()


def test_masked_columns_get_zero_weight() -> None:
    """Columns are masked by position, even if their logits are much larger than the visible ones."""
    content, out = np.zeros(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    content[:3] = -90
    total = run_softmax(content, np.zeros(WIDTH, np.float32), 3, 1, -90, out)
    assert np.array_equal(out / total, [1 / np.float32(3)] * 3 + [0] * (WIDTH - 3))


def test_exp_and_gelu() -> None:
    x = np.linspace(-87, 88, 1_000_000).astype(np.float32)
    exps, gelus = np.empty_like(x), np.empty_like(x)
    run_elementwise(x, exps, gelus)
    wide = x.astype(np.float64)
    assert (np.abs(exps / np.exp(wide) - 1) <= 2e-7 + 1e-7 * np.abs(wide)).all()
    np.testing.assert_allclose(gelus, reference.gelu(wide), rtol=1e-6, atol=1e-6)


@given(st.integers(1, 100), st.sampled_from([0.0, 1e-38, 1e-3, 1.0, 1e30]), st.integers(0, 9))
def test_quantize(n: int, scale: float, seed: int) -> None:
    x = np.zeros(padded(n), np.float32)
    x[:n] = normal(np.random.default_rng(seed), n) * np.float32(scale)
    codes = np.full(padded(n), 99, np.int16)
    step = run_quantize(x, codes, 4095)
    assert np.abs(codes).max() <= 4095
    np.testing.assert_allclose(codes * step, x, atol=0.51 * step + 2.0**-99)


@given(st.integers(1, 100), st.sampled_from([0.0, 1e-38, 1e-3, 1.0, 1e30]), st.integers(0, 9))
def test_quantize_bytes(n: int, scale: float, seed: int) -> None:
    x = np.zeros(padded(n), np.float32)
    x[:n] = normal(np.random.default_rng(seed), n) * np.float32(scale)
    codes = np.full(padded(n), 99, np.uint8)
    step = run_quantize_bytes(x, codes.view(np.int32), 127)
    assert codes.min() >= 1
    np.testing.assert_allclose((codes.astype(np.float32) - ZERO_BYTE) * step, x, atol=0.51 * step + 2.0**-99)


@given(st.integers(2, 200), st.floats(1e-3, 1e3), st.integers(0, 9))
def test_layer_norm_codes(C: int, scale: float, seed: int) -> None:
    x = normal(np.random.default_rng(seed), padded(C)) * np.float32(scale)
    codes = np.full(padded(C), 99, np.int16)
    run_layer_norm_codes(x, codes, C, 1000)
    expected = reference.layer_norm(x[:C].astype(np.float64), np.ones(C), np.zeros(C))
    np.testing.assert_allclose(codes[:C] / 1000, expected, atol=6e-4)
    assert (codes[C:] == 0).all()


@pytest.mark.parametrize(("dtype", "largest", "largest_weight"), [(np.int16, 4095, 2047), (np.int8, 127, 63)])
@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 20), st.booleans(), st.integers(0, 9))
def test_code_linear(
    dtype: type, largest: int, largest_weight: int, rows: int, K: int, vectors: int, added: bool, seed: int
) -> None:
    """Sums of codes are exact; each is then rounded, scaled and added."""
    rng, N, in_word = np.random.default_rng(seed), vectors * WIDTH, 4 // np.dtype(dtype).itemsize
    K_padded = -(-K // in_word) * in_word
    codes, weights = np.zeros((rows, K_padded), dtype), np.zeros((K_padded, N), dtype)
    codes[:, :K] = rng.integers(-largest, largest + 1, (rows, K))
    weights[:K] = rng.integers(-largest_weight, largest_weight + 1, (K, N))
    layer, out, scales = Linear.array(), normal(rng, rows, N), normal(rng, rows)
    layer["K"], layer["N"], layer["is_added"] = K_padded // in_word, N, added
    sizes = {"codes": (K_padded // in_word * N,), "bias": (N,), "factor": (N,)}
    given_codes = codes
    if dtype == np.int8:
        sizes["corrections"] = (N,)
        given_codes = (codes.astype(np.int16) + ZERO_BYTE).astype(np.uint8)
    arrays = allocate(Linear, layer, sizes)
    arrays["bias"][:], arrays["factor"][:] = normal(rng, N), normal(rng, N)
    if dtype == np.int8:
        arrays["corrections"][:] = -ZERO_BYTE * weights.sum(axis=0, dtype=np.int32)
    adjacent = np.ascontiguousarray(weights.reshape(-1, in_word, N).swapaxes(1, 2))
    panels(adjacent.view(np.int32)[:, :, 0], arrays["codes"])
    sums = (codes.astype(np.int64) @ weights.astype(np.int64)).astype(np.float32)
    expected = (out if added else arrays["bias"]) + sums * arrays["factor"] * scales[:, None]
    run_code_linear(address_of(layer), given_codes.view(np.int32), scales, out)
    assert np.array_equal(out, expected)


@given(st.floats(1e-300, 1e300) | st.floats(0.5, 2))
def test_double_log(x: float) -> None:
    assert run_double(x)[0] == log_double(x) == pytest.approx(math.log(x), rel=4e-16, abs=1e-20)


@given(st.floats(-700, 700))
def test_double_exp(x: float) -> None:
    assert run_double(x)[1] == exp_double(x) == pytest.approx(math.exp(x), rel=5e-16)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_uniform(seed: int, stream: int, step: int) -> None:
    assert run_uniform(np.uint64(seed), np.uint64(stream), np.uint64(step)) == reference.uniform(seed, stream, step)


@st.composite
def samplings(draw: st.DrawFn) -> Sampling:
    filters = {
        "top_n_sigma": st.floats(0.1, 4),
        "top_k": st.integers(1, 40),
        "typical_p": st.floats(0.01, 1),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0.001, 1),
    }
    options = {name: draw(value) for name, value in filters.items() if draw(st.booleans())}
    kind = draw(st.sampled_from(["temperature", "greedy", "exact", "ratio", "mirostat"]))
    if kind == "temperature":
        options["temperature"] = draw(st.floats(0.05, 5))
    elif kind == "greedy":
        options["temperature"] = 0
    elif kind == "mirostat":
        options = {"mirostat": draw(st.floats(0.5, 6)), "temperature": draw(st.floats(0.3, 2))}
    else:
        options |= {"target_entropy": draw(st.just(0.0) | st.floats(1e-6, 6)), "entropy_rule": kind}
    return Sampling(**options)


@given(samplings(), st.sampled_from([1, 2, 3, 17, 65, 700]), st.floats(0.01, 10), st.booleans(), st.integers(0, 2**32))
def test_sample(controls: Sampling, V: int, scale: float, biased: bool, seed: int) -> None:
    """The token is that of the reference, or a neighbour if u is at the boundary between them."""
    rng = np.random.default_rng(seed)
    logits, bias = np.float32(scale) * normal(rng, V), normal(rng, V)
    if V > 3:
        bias[1] = -np.inf
    mu = float(rng.uniform(0, 8))
    u = float(rng.random())
    wide = bias.astype(np.float64) if biased else None
    expected = reference.sample(logits.astype(np.float64), controls, u, mu, wide)
    drawn = run_sample(logits, controls, u, mu, bias if biased else None)
    near = {
        reference.sample(logits.astype(np.float64), controls, min(max(u + d, 0), 1 - 1e-9), mu, wide).token
        for d in (-2e-6, 0, 2e-6)
    }
    assert drawn.token in near
    if drawn.token == expected.token:
        for name, value in drawn.stats.items():
            assert value == pytest.approx(getattr(expected, name), rel=2e-5, abs=2e-5)
        assert drawn.mu == pytest.approx(expected.mu, abs=1e-5)


@st.composite
def repetitions(draw: st.DrawFn) -> dict[str, Any]:
    """Return controls of repetition, at least one of them on."""
    controls = {
        "no_repeat_ngram": draw(st.integers(0, 5)),
        "dry_multiplier": draw(st.sampled_from([0.0, 0.5, 3.0])),
        "dry_base": draw(st.floats(1, 4)),
        "dry_allowed_length": draw(st.integers(1, 4)),
        "repetition_range": draw(st.integers(0, 30)),
    }
    return controls if controls["no_repeat_ngram"] or controls["dry_multiplier"] else {"no_repeat_ngram": 3}


@given(samplings(), repetitions(), st.sampled_from([2, 3, 17, 65]), st.data())
def test_sample_with_constraints_and_repetition(
    controls: Sampling, repetition: dict[str, Any], V: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    states, left = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    fields = np.zeros((states, len(StateField)), np.int32)
    fields[:, StateField.distance] = rng.integers(0, 6, states)
    after = rng.integers(-1, states, (states, V))
    after[0, rng.integers(V)] = states - 1
    fields[states - 1, StateField.distance] = 0  # so that a token is allowed, whatever is left
    distances = np.where(after[0] >= 0, fields[after[0], StateField.distance], -1)
    fields[0, StateField.enough] = distances.max() + 1
    automaton = np.column_stack([after, fields]).astype(np.int32)
    allowed = (after[0] >= 0) & (distances < left)
    context = rng.integers(0, min(V, 4), data.draw(st.integers(1, 80))).astype(np.int32)
    controls = replace(controls, **repetition)
    logits, u = normal(rng, V), float(rng.random())
    mu = 5.0

    def expected(at: float) -> reference.Draw:
        return reference.sample(logits.astype(np.float64), controls, at, mu, None, allowed, context)

    drawn = run_sample(logits, controls, u, mu, None, automaton, left, context)
    assert allowed[drawn.token]
    assert drawn.token in {expected(min(max(u + d, 0), 1 - 1e-9)).token for d in (-2e-6, 0, 2e-6)}
    if drawn.token == expected(u).token:
        for name, value in drawn.stats.items():
            assert value == pytest.approx(getattr(expected(u), name), rel=2e-5, abs=2e-5)


def test_repeats_are_measured_by_their_definition() -> None:
    """The last characters of "abcabcab" are followed by c, after "cab", "abcab" and so on."""
    lengths = reference.repeats(np.array([0, 1, 2, 0, 1, 2, 0, 1]), 5)
    assert lengths.tolist() == [0, 0, 5, -1, -1]
    assert reference.repeats(np.array([3]), 5).tolist() == [-1, -1, -1, 0, -1]


@pytest.mark.parametrize(
    "controls",
    [
        Sampling(temperature=SMALLEST),
        Sampling(temperature=HOTTEST),
        Sampling(temperature=SMALLEST, top_p=0.5),
        Sampling(temperature=HOTTEST, top_p=SMALLEST),
        Sampling(temperature=HOTTEST, typical_p=SMALLEST),
        Sampling(temperature=HOTTEST, min_p=SMALLEST, top_n_sigma=SMALLEST),
        Sampling(temperature=HOTTEST, top_k=2**53, top_n_sigma=LARGEST),
        Sampling(target_entropy=0.0, min_temp=SMALLEST),
        Sampling(target_entropy=0.0, min_temp=SMALLEST, entropy_rule="ratio"),
        Sampling(target_entropy=9.0, max_temp=HOTTEST),
        Sampling(target_entropy=LARGEST, max_temp=HOTTEST, entropy_rule="ratio"),
        Sampling(target_entropy=1e-6, max_temp=HOTTEST, entropy_rule="ratio"),
        Sampling(target_entropy=1.0, min_temp=SMALLEST, max_temp=HOTTEST),
    ],
)
@pytest.mark.parametrize("biased", [False, True])
def test_sample_at_the_bounds(controls: Sampling, biased: bool) -> None:
    logits, bias = np.array([0.0, 3.0, -80.0, 3.0, 2.5], np.float32), np.array([0, 0, -np.inf, 0, 1], np.float32)
    for u in np.linspace(0.01, 0.99, 23):
        with np.errstate(over="ignore"):
            expected = reference.sample(
                logits.astype(np.float64), controls, u, bias=bias.astype(np.float64) if biased else None
            )
        drawn = run_sample(logits, controls, u, bias=bias if biased else None)
        assert drawn.token == expected.token
        assert drawn.stats["sampled_entropy"] == pytest.approx(expected.sampled_entropy, abs=1e-5)


@st.composite
def samplings_within_bounds(draw: st.DrawFn) -> Sampling:
    def number(low: float, high: float, *others: float) -> float:
        powers = st.floats(math.log(low), math.log(high)).map(lambda x: min(max(math.exp(x), low), high))
        return draw(st.sampled_from([low, high, *others]) | powers)

    kind = draw(st.sampled_from(["temperature", "exact", "ratio", "mirostat"]))
    options: dict[str, Any] = {}
    if kind == "mirostat":
        options = {"mirostat": number(SMALLEST, LARGEST), "mirostat_eta": number(SMALLEST, LARGEST)}
    else:
        limits = {
            "top_k": (1, 2**53, 0), "top_p": (SMALLEST, 1), "typical_p": (SMALLEST, 1), "min_p": (SMALLEST, 1, 0),
            "top_n_sigma": (SMALLEST, LARGEST, 0),
        }  # fmt: skip
        options = {name: number(*limit) for name, limit in limits.items() if draw(st.booleans())}
        options |= {"top_k": round(options["top_k"])} if "top_k" in options else {}
    if kind in ("exact", "ratio"):
        low, high = sorted((number(SMALLEST, HOTTEST), number(SMALLEST, HOTTEST)))
        options |= {"entropy_rule": kind, "min_temp": low, "max_temp": high}
        options |= {"target_entropy": number(SMALLEST_ENTROPY, LARGEST, 0, 0.5, 2)}
    else:
        options["temperature"] = number(SMALLEST, HOTTEST, *([] if kind == "mirostat" else [0]))
    return Sampling(**options)


@given(
    samplings_within_bounds(),
    st.sampled_from([1, 2, 3, 17, 65]),
    st.lists(st.sampled_from([0, 1, -1, 30, -30, 1e5, -1e5, LARGEST, -LARGEST, -math.inf]), max_size=17),
    st.integers(0, 2**32),
)
def test_sample_within_the_bounds(controls: Sampling, V: int, biases: list[float], seed: int) -> None:
    """Logits, biases and controls of any size up to their bounds: no overflow, and the token of the reference."""
    rng = np.random.default_rng(seed)
    logits, u = normal(rng, V), float(rng.random())
    bias = {token: bias for token, bias in enumerate(biases[:V]) if token or bias != -math.inf}
    wide = Sampling(logit_bias=bias).bias_array(V)
    mu = 2 * (controls.mirostat or 0.0)
    near = {
        reference.sample(logits.astype(np.float64), controls, min(max(u + d, 0), 1 - 1e-9), mu, wide).token
        for d in (-2e-5, 0, 2e-5)
    }
    drawn = run_sample(logits, controls, u, bias=None if wide is None else wide.astype(np.float32))
    assert drawn.token in near
    assert all(map(math.isfinite, [*drawn.stats.values(), drawn.mu]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sample_rejects_logits_that_are_not_finite(bad: float) -> None:
    logits = np.zeros(20, np.float32)
    logits[13] = bad
    assert run_sample(logits, Sampling(), 0.5).token == -1


@pytest.mark.parametrize(
    ("controls", "kept"),
    [
        (Sampling(top_k=2), 2),
        (Sampling(top_p=0.5), 2),
        (Sampling(top_p=0.51), 3),
        (Sampling(typical_p=0.25), 1),
        (Sampling(min_p=1.0), 4),
        (Sampling(top_n_sigma=1.0), 4),
    ],
)
def test_ties_keep_the_lowest_tokens(controls: Sampling, kept: int) -> None:
    drawn = [run_sample(np.zeros(4, np.float32), controls, u) for u in np.linspace(0, 0.999, 50)]
    assert {each.token for each in drawn} == set(range(kept))
    assert drawn[0].stats["sampled_entropy"] == pytest.approx(math.log2(kept))
