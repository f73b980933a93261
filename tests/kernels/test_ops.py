"""Compare each kernel with its twin in the reference, or with float64 NumPy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit, types
from numba.extending import intrinsic

from knock import Sampling, reference
from knock.engine.packing import control_row, panels
from knock.sampling import HOTTEST, LARGEST, SMALLEST, SMALLEST_ENTROPY
from knock_kernels.cache.store import loaded
from knock_kernels.lang.cpu import WIDTH
from knock_kernels.lang.layout import Control, Stat, StateField
from knock_kernels.lang.simd import softmax_weights
from knock_kernels.lang.units import UNITS
from knock_kernels.ops import elementary as kernel_math
from knock_kernels.ops import rng as kernel_rng
from knock_kernels.ops import sampler as kernel_sampler
from knock_kernels.ops.linear import linear
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.norm import layer_norm

for unit in UNITS:  # kernels compiled in this module call units by symbol
    llvm.add_symbol(unit.symbol, loaded().get_function_address(unit.symbol))


@intrinsic
def address(_context: Any, array: Any) -> Any:
    """Pointer to the first element of a contiguous array."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), codegen


@njit
def run_linear(x: Any, w: Any, init: Any, ldinit: int, out: Any, K: int, first: int, last: int) -> None:
    rows, columns = out.shape
    linear(address(x), x.shape[1], address(w), address(init), ldinit, address(out), columns, rows, K,
           columns // WIDTH, first, last)  # fmt: skip


@njit
def run_layer_norm(x: Any, out: Any, C: int) -> None:
    layer_norm(address(x), address(out), C)


@njit
def run_mlp(n: Any, w0: Any, b0: Any, w1: Any, hidden: Any, x: Any, C: int, F: int) -> None:
    mlp(address(n), address(w0), address(b0), address(w1), address(hidden), address(x), len(x), C, F, x.shape[1],
        hidden.shape[1])  # fmt: skip


@njit
def run_softmax(content: Any, reweight: Any, seen: int, slot: int, newest: Any, out: Any) -> float:
    return softmax_weights(
        address(content), address(reweight), len(out) // WIDTH, seen, slot, np.float32(newest), address(out)
    )


@njit(error_model="numpy")
def run_elementwise(x: Any, exps: Any, gelus: Any) -> None:
    for i in range(len(x)):
        exps[i] = kernel_math.exp(x[i])
        gelus[i] = kernel_math.gelu(x[i])


@njit
def run_uniform(seed: Any, stream: Any, step: Any) -> float:
    return kernel_rng.uniform(seed, stream, step)


@njit
def run_constrained(
    logits: Any, bias: Any, has_bias: bool, automaton: Any, state: int, left: int, context: Any, controls: Any,
    u: float, stats: Any,
) -> int:  # fmt: skip
    work = np.empty(5 * len(logits), np.float32)
    return kernel_sampler.sample(
        address(logits), address(bias), has_bias, address(automaton), state, left, address(context), len(context),
        len(logits), address(controls), u, address(work), address(stats),
    )  # fmt: skip


NOTHING = np.zeros(1, np.int32)


def run_sample(logits: Any, bias: Any, has_bias: bool, controls: Any, u: float, stats: Any) -> int:
    return run_constrained(logits, bias, has_bias, NOTHING, -1, 0, NOTHING, controls, u, stats)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def packed(w: np.ndarray) -> np.ndarray:
    out = np.zeros(w.size, np.float32)
    panels(w, out)
    return out


@given(st.integers(1, 20), st.integers(0, 70), st.integers(1, 30), st.booleans(), st.data())
def test_linear(rows: int, K: int, vectors: int, bias: bool, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, vectors))
    last = data.draw(st.integers(first, vectors))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    x, w = normal(rng, rows, max(K, 1)), normal(rng, K, vectors * WIDTH)
    init = normal(rng, 1 if bias else rows, vectors * WIDTH)
    out = np.full((rows, vectors * WIDTH), 7, np.float32)
    run_linear(x, packed(w), init, 0 if bias else vectors * WIDTH, out, K, first, last)
    expected = np.full(out.shape, 7.0)
    part = slice(first * WIDTH, last * WIDTH)
    expected[:, part] = (init + reference.linear(x[:, :K].astype(np.float64), w.astype(np.float64)))[:, part]
    np.testing.assert_allclose(out, expected, atol=1e-5 * max(1, K))


@given(st.integers(1, 30), st.integers(0, 9))
def test_linear_is_bitwise_independent_of_the_batch(vectors: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, init = normal(rng, 15, 33), packed(normal(rng, 33, vectors * WIDTH)), normal(rng, vectors * WIDTH)
    alone, together = np.empty((15, vectors * WIDTH), np.float32), np.empty((15, vectors * WIDTH), np.float32)
    run_linear(x, w, init, 0, together, 33, 0, vectors)
    for r in range(15):
        run_linear(x[r : r + 1], w, init, 0, alone[r : r + 1], 33, 0, vectors)
    assert np.array_equal(alone, together)


@given(st.integers(1, 200), st.floats(1e-3, 1e3), st.integers(0, 9))
def test_layer_norm(C: int, scale: float, seed: int) -> None:
    x = normal(np.random.default_rng(seed), -(-C // WIDTH) * WIDTH) * np.float32(scale)
    out = np.full_like(x, 7)
    run_layer_norm(x, out, C)
    expected = reference.layer_norm(x[:C].astype(np.float64), np.ones(C), np.zeros(C))
    np.testing.assert_allclose(out[:C], expected, atol=1e-5)
    assert (out[C:] == 0).all()


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_mlp(rows: int, C: int, F: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Cp, Fp = -(-C // WIDTH) * WIDTH, -(-F // WIDTH) * WIDTH
    n, x = np.zeros((rows, Cp), np.float32), np.zeros((rows, Cp), np.float32)
    w0, w1 = np.zeros((C, Fp), np.float32), np.zeros((F, Cp), np.float32)
    n[:, :C], x[:, :C], w0[:, :F], w1[:, :C] = (
        normal(rng, rows, C),
        normal(rng, rows, C),
        normal(rng, C, F),
        normal(rng, F, C),
    )
    expected = x + reference.mlp(n[:, :C].astype(np.float64), w0.astype(np.float64)[:, :F], w1.astype(np.float64))
    run_mlp(n, packed(w0), np.zeros(Fp, np.float32), packed(w1), np.empty((rows, Fp), np.float32), x, C, F)
    np.testing.assert_allclose(x, expected, atol=1e-4)


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
    x = np.linspace(-87, 88, 1_000_001).astype(np.float32)
    exps, gelus = np.empty_like(x), np.empty_like(x)
    run_elementwise(x, exps, gelus)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(exps, np.exp(wide), rtol=2.5e-7)
    np.testing.assert_allclose(gelus, reference.gelu(wide), rtol=1e-6, atol=1e-6)


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
    row, stats = np.array(control_row(controls)), np.zeros(len(Stat))
    row[Control.mu] = mu
    u = float(rng.random())
    wide = bias.astype(np.float64) if biased else None
    expected = reference.sample(logits.astype(np.float64), controls, u, mu, wide)
    token = run_sample(logits, bias, biased, row, u, stats)
    near = {
        reference.sample(logits.astype(np.float64), controls, min(max(u + d, 0), 1 - 1e-9), mu, wide).token
        for d in (-2e-6, 0, 2e-6)
    }
    assert token in near
    if token == expected.token:
        for stat in Stat:
            assert stats[stat] == pytest.approx(getattr(expected, stat.name), rel=2e-5, abs=2e-5)
        assert row[Control.mu] == pytest.approx(expected.mu, abs=1e-5)


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
    row, stats, mu = np.array(control_row(controls)), np.zeros(len(Stat)), 5.0
    row[Control.mu] = mu

    def expected(at: float) -> reference.Draw:
        return reference.sample(logits.astype(np.float64), controls, at, mu, None, allowed, context)

    token = run_constrained(logits, logits, False, automaton, 0, left, context, row, u, stats)
    assert allowed[token]
    assert token in {expected(min(max(u + d, 0), 1 - 1e-9)).token for d in (-2e-6, 0, 2e-6)}
    if token == expected(u).token:
        for stat in Stat:
            assert stats[stat] == pytest.approx(getattr(expected(u), stat.name), rel=2e-5, abs=2e-5)


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
    stats = np.zeros(len(Stat))
    for u in np.linspace(0.01, 0.99, 23):
        with np.errstate(over="ignore"):
            expected = reference.sample(
                logits.astype(np.float64), controls, u, bias=bias.astype(np.float64) if biased else None
            )
        assert run_sample(logits, bias, biased, np.array(control_row(controls)), u, stats) == expected.token
        assert stats[Stat.sampled_entropy] == pytest.approx(expected.sampled_entropy, abs=1e-5)


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
    narrow = np.zeros(V, np.float32) if wide is None else wide.astype(np.float32)
    row, stats, mu = np.array(control_row(controls)), np.zeros(len(Stat)), 2 * (controls.mirostat or 0.0)
    near = {
        reference.sample(logits.astype(np.float64), controls, min(max(u + d, 0), 1 - 1e-9), mu, wide).token
        for d in (-2e-5, 0, 2e-5)
    }
    assert run_sample(logits, narrow, wide is not None, row, u, stats) in near
    assert np.isfinite(stats).all()
    assert math.isfinite(row[Control.mu])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sample_rejects_logits_that_are_not_finite(bad: float) -> None:
    logits = np.zeros(20, np.float32)
    logits[13] = bad
    row, stats = np.array(control_row(Sampling())), np.zeros(len(Stat))
    assert run_sample(logits, logits, False, row, 0.5, stats) == -1


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
    logits, stats = np.zeros(4, np.float32), np.zeros(len(Stat))
    row = np.array(control_row(controls))
    drawn = {run_sample(logits, logits, False, row, u, stats) for u in np.linspace(0, 0.999, 50)}
    assert drawn == set(range(kept))
    assert stats[Stat.sampled_entropy] == pytest.approx(math.log2(kept))
