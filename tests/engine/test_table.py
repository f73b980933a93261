"""The table of what the first blocks compute changes no bit of logits, texts or statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knock import ModelConfig, Sampling
from knock.choices import HEAD_TYPES, PRECISIONS, HeadType, Precision
from knock.engine import compiled_backend, packing
from knock.engine.batch import Request, work_together
from knock.engine.compiled_backend import CompiledBackend
from knock.engine.packed_model import PackedModel
from knock.engine.packing import Table, pack
from knock.weights import Weights
from knock_kernels.cache.store import ROWS, SPAN, Model, entry_points
from tests.cases import CASES, SMALL, models, random_tokens, random_weights

CONTROLS = [Sampling(), Sampling(temperature=0.7, top_p=0.9), Sampling(target_entropy=1.5), Sampling(temperature=0)]
TABLES: tuple[Table, ...] = ("none", "tokens", "pairs")
PAIRS = {
    kind: config for kind, config in CASES.items() if config.position == "relative" and config.windows[0] == 2
}  # fmt: skip
Arrays = tuple[npt.NDArray[np.float64], ...]


def backends(weights: Weights, precision: Precision) -> list[CompiledBackend]:
    return [CompiledBackend(weights, entry_points(), precision, table=table) for table in TABLES]


def scored(backend: CompiledBackend, tokens: npt.NDArray[np.int32]) -> Arrays:
    logits = np.concatenate([piece for _, piece in backend.logits(tokens)])
    return logits, backend.log_probs(tokens, np.roll(tokens, -1))


def streamed(backend: CompiledBackend, request: Request, lengths: Sequence[int]) -> Arrays:
    stream = backend.stream(request, 3)
    pieces = [stream.advance(length) for length in lengths]
    return np.concatenate([tokens for tokens, _ in pieces]), np.concatenate([stats.surprise for _, stats in pieces])


def batched(backend: CompiledBackend, requests: Sequence[Request], threads: int) -> Arrays:
    job = backend.job(requests, 3, True, threads)
    work_together(job, threads)
    rows = job.rows()
    assert rows.stats is not None
    return rows.tokens, rows.stats


def all_equal(results: Iterator[Arrays]) -> bool:
    expected = next(results)
    return all(np.array_equal(a, b, equal_nan=True) for each in results for a, b in zip(each, expected, strict=True))


def requests_of(config: ModelConfig, count: int, longest: int, seed: int) -> list[Request]:
    """Rows with prompts of different lengths, of which every third is the one before."""
    rng, prompts = np.random.default_rng(seed), [random_tokens(config, 1, seed)]
    while len(prompts) < count:
        is_same = len(prompts) % 3 == 2
        prompts.append(prompts[-1] if is_same else random_tokens(config, int(rng.integers(1, longest)), len(prompts)))
    return [
        Request(prompt, CONTROLS[i % len(CONTROLS)], None, int(rng.integers(1, 40)), i)
        for i, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=60)
@given(weights=models(), length=st.integers(1, 3 * SPAN), seed=st.integers(0, 9))
def test_logits_and_log_probs(precision: Precision, weights: Weights, length: int, seed: int) -> None:
    tokens = random_tokens(weights.config, length, seed)
    assert all_equal(scored(backend, tokens) for backend in backends(weights, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", PAIRS)
def test_scores_in_several_calls(kind: str, precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, tokens = random_weights(CASES[kind], 0), random_tokens(CASES[kind], 5 * SPAN)
    whole = scored(backends(weights, precision)[0], tokens)
    monkeypatch.setattr(compiled_backend, "_POSITIONS_AT_ONCE", SPAN + 3)
    assert all_equal(iter([whole, *(scored(backend, tokens) for backend in backends(weights, precision))]))


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=60)
@given(weights=models(), length=st.integers(1, 3 * SPAN), seed=st.integers(0, 9))
def test_streams(precision: Precision, weights: Weights, length: int, seed: int) -> None:
    request = Request(random_tokens(weights.config, length, seed), CONTROLS[seed % 4], None, 50, seed)
    assert all_equal(streamed(backend, request, (1, 30, 19)) for backend in backends(weights, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_prompts_read_in_several_passes(head_type: HeadType, precision: Precision) -> None:
    """The window of the second block reaches over the ends of the passes."""
    config = replace(SMALL["hybrid-relative"], T=(2, 3 * SPAN), head_type=head_type)
    weights = random_weights(config, 0)
    for length in (SPAN, SPAN + 1, SPAN + 2, SPAN + 3, 2 * SPAN + 5):
        request = Request(random_tokens(config, length), CONTROLS[0], None, 9, 0)
        assert all_equal(streamed(backend, request, (9,)) for backend in backends(weights, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=40)
@given(weights=models(), count=st.integers(1, 4 * ROWS), threads=st.integers(1, 3), seed=st.integers(0, 9))
def test_batches(precision: Precision, weights: Weights, count: int, threads: int, seed: int) -> None:
    requests = requests_of(weights.config, count, 2 * SPAN, seed)
    assert all_equal(batched(backend, requests, threads) for backend in backends(weights, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_threads_that_fill_the_table_together(precision: Precision) -> None:
    """Rows of many different pairs, from an empty table, so that threads often compute the same rows at a time."""
    config = ModelConfig(vocab_size=60, T=(2, 8), n_emb=32, nodes=16, n_blocks=2, n_heads=2, head_type="reweight")
    weights = random_weights(config, 0, scale=0.1)
    requests = [Request(random_tokens(config, 1, i), Sampling(), None, 100, i) for i in range(64)]
    expected = batched(CompiledBackend(weights, entry_points(), precision, table="none"), requests, 1)
    for _ in range(20):
        cold = CompiledBackend(weights, entry_points(), precision)
        assert all_equal(iter([expected, batched(cold, requests, 4)]))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", PAIRS)
def test_rows_are_computed_when_they_are_needed(kind: str, precision: Precision) -> None:
    config = CASES[kind]
    packed = PackedModel(random_weights(config, 0), entry_points(), precision)
    V, tokens = config.vocab_size, random_tokens(config, 20)
    filled = rows_of(packed, "filled", V * (V + 1))
    scratch, (cache,) = packed.scratch(), packed.caches(1)
    packed.kernels.score(
        tokens.astype(np.int64), tokens.astype(np.int64), 20, -1, 0, cache, packed.record, scratch.state,
        np.empty(20), every_logit=False,
    )  # fmt: skip
    pairs = zip([-1, *tokens[:-1].tolist()], tokens.tolist(), strict=True)
    assert np.flatnonzero(filled).tolist() == sorted({(previous + 1) * V + token for previous, token in pairs})


def rows_of(packed: PackedModel, name: str, count: int) -> npt.NDArray[np.int16]:
    """A view of an array that the model's record points to."""
    (array,) = (arrays[name] for arrays in packed._packed.memory if isinstance(arrays, dict) and name in arrays)
    assert array.dtype == Model.fields[name].target
    assert len(array) == count
    return array


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", PAIRS)
def test_replaced_block_has_no_cache(kind: str, precision: Precision) -> None:
    weights = random_weights(CASES[kind], 0)
    sizes = {table: int(pack(weights, precision, table=table).model["cache_size"][0]) for table in TABLES}
    assert sizes["pairs"] < sizes["tokens"] == sizes["none"]


@pytest.mark.parametrize("kind", PAIRS)
def test_large_tables_are_not_kept(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(CASES[kind], 0)

    def rows() -> int | None:
        tables = [arrays["table"] for arrays in pack(weights, "int16").memory if "table" in arrays]
        return len(tables[0]) if tables else None

    V = CASES[kind].vocab_size
    by_pair = int(pack(weights, "int16").model["table_stride"][0]) * V * (V + 1)
    for most, expected in ((by_pair, V * (V + 1)), (by_pair - 1, V), (0, None)):
        monkeypatch.setattr(packing, "_TABLE_FLOATS", most)
        assert rows() == expected


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind not in PAIRS])
def test_other_models_have_no_table_of_pairs(kind: str) -> None:
    assert pack(random_weights(CASES[kind], 0), "int16").model["first"][0] == 0
