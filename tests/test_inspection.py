"""Tests of inspection: attention and predictions against naive loops and the reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knock import ModelConfig, reference
from knock.errors import TextError, VocabError
from knock.inspection import attend, character_patterns, inspect_text, longest_text, own_text
from knock.weights import Weights
from tests import naive
from tests.cases import EVERY, SMALL, float64, models, random_tokens, random_weights
from tests.cli.inspect.command import ODD, small


def look(tokens: list[int], a: Any, config: ModelConfig, kind: str) -> list[list[list[dict[int, float]]]]:
    """Compute the attention of each block, head and position to each position, in naive loops."""
    T, D = config.longest_window, config.head_width
    if config.position == "absolute" and len(tokens) > T:
        out = look(tokens[:T], a, config, kind)
        for end in range(T + 1, len(tokens) + 1):
            window = look(tokens[end - T : end], a, config, kind)
            for b, h in np.ndindex(config.n_blocks, config.n_heads):
                out[b][h].append({s + end - T: weight for s, weight in window[b][h][-1].items()})
        return out
    xs = [list(a["embed"][token]) for token in tokens]
    if config.position == "absolute":
        xs = [[u + v for u, v in zip(x, a["pos"][slot], strict=True)] for slot, x in enumerate(xs)]
    out = []
    for b in range(config.n_blocks):
        p, head_type, reach = f"blocks.{b}.", config.head_types[b], config.reweight_windows[b]
        width = reach if kind == "reweight" else config.windows[b]
        ns = [naive.layer_norm(x, a[p + "ln1.gain"], a[p + "ln1.bias"]) for x in xs]
        out.append([])
        for h in range(config.n_heads):
            mine = slice(h * D, (h + 1) * D)
            mixed = kind == "weights" and head_type == "hybrid"
            gate = a[p + "gate"][h] if mixed else float(kind == "reweight" or head_type == "reweight")
            rows = []
            for t, n in enumerate(ns):
                if kind not in ("weights", head_type) and head_type != "hybrid":
                    rows.append({})
                    continue
                seen = range(max(0, t - width + 1), t + 1)
                logits = []
                for s in seen:
                    logit = 0.0
                    column = t - s if config.position == "relative" else s
                    if gate > 0 and column < reach:
                        logit += gate * naive.dot(n, a[p + "wr"][:, h * reach + column])
                    if gate < 1:
                        q, k = naive.times(n, a[p + "wq"][:, mine]), naive.times(ns[s], a[p + "wk"][:, mine])
                        logit += (1 - gate) * naive.dot(q, k) / math.sqrt(D)
                    logits.append(logit)
                rows.append(dict(zip(seen, naive.softmax(logits), strict=True)))
            out[-1].append(rows)
        heads = [naive.head(ns, b, h, a, config) for h in range(config.n_heads)]
        for t, x in enumerate(xs):
            x[:] = [u + v for u, v in zip(x, [value for head in heads for value in head[t]], strict=True)]
            n = naive.layer_norm(x, a[p + "ln2.gain"], a[p + "ln2.bias"])
            hidden = [naive.gelu(u) for u in naive.times(n, a[p + "w0"])]
            x[:] = [u + v for u, v in zip(x, naive.times(hidden, a[p + "w1"]), strict=True)]
    return out


@settings(max_examples=25)
@given(models(), st.integers(1, 14), st.integers(0, 9))
def test_attention_matches_naive_loops(weights: Weights, length: int, seed: int) -> None:
    config, read = weights.config, random_tokens(weights.config, length, seed)
    result = attend(weights, read)
    back = result.back()
    assert (result.reweight is None, result.content is None) == (not config.has_reweight, not config.has_content)
    assert result.weights.shape == (config.n_blocks, config.n_heads, length, min(length, config.longest_window))
    for kind in ("weights", "reweight", "content"):
        found = getattr(result, kind)
        if found is None:
            continue
        expected = look(read.tolist(), float64(weights), config, kind)
        for b, h, t in np.ndindex(found.shape[:3]):
            there = {int(t + 1 - back[t, j]): found[b, h, t, j] for j in np.flatnonzero(back[t])}
            if not expected[b][h][t]:  # the block has no such logits
                assert np.isnan(found[b, h, t]).all()
                continue
            assert {s: there.pop(s) for s in expected[b][h][t]} == pytest.approx(expected[b][h][t], rel=1e-7, abs=1e-10)
            assert not any(there.values())  # past the window of the block
            assert found[b, h, t].sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", EVERY)
def test_predictions_match_the_model_and_the_reference(kind: str) -> None:
    model, text = small(kind, precision="float32"), (ODD * 2)[3:]
    tokens = model.vocab.encode(text)
    result = inspect_text(model, text, top=3)
    read = np.concatenate(([model.vocab.start_id], tokens[:-1]))
    assert np.array_equal(result.attention.read, read)
    logits = reference.forward(read, float64(model.model.weights), model.model.config)
    np.testing.assert_allclose(model.model.logits(read), logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result.surprise, -model.score(text).log_probs / math.log(2), atol=1e-4)
    for t, row in enumerate(logits):
        p = naive.softmax(row.tolist())
        assert result.entropy[t] == pytest.approx(naive.entropy(p), abs=1e-3)
        assert result.surprise[t] == pytest.approx(-math.log2(p[tokens[t]]), abs=1e-3)
        assert result.probabilities[t] == pytest.approx(sorted(p, reverse=True)[:3], abs=1e-3)
        assert [p[token] for token in result.alternatives[t]] == pytest.approx(result.probabilities[t], abs=1e-3)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("length", [4, 6, 25])
def test_patterns_average_over_full_windows(kind: str, length: int) -> None:
    weights = random_weights(EVERY[kind], 4)
    attention = attend(weights, random_tokens(weights.config, length))
    for token in (None, int(attention.read[2])):
        result = attention.patterns(token=token)
        rows = [t for t in range(length) if token in (None, attention.read[t])]
        rows = [t for t in rows if t >= weights.config.longest_window - 1] or rows
        for j in range(attention.weights.shape[-1]):
            seen = [t for t in rows if j <= t]
            values = attention.weights[-1, 2, seen, j]
            assert result.inputs[j] == len(seen)
            if seen and j < weights.config.windows[-1]:
                assert result.mean[-1, 2, j] == pytest.approx(values.mean(), abs=1e-12)
                assert result.spread[-1, 2, j] == pytest.approx(values.std(), abs=1e-12)
            else:
                assert math.isnan(result.mean[-1, 2, j])
    with pytest.raises(ValueError, match="have no"):
        attend(random_weights(SMALL["content-absolute"], 0), np.zeros(3, np.int32)).patterns("reweight")


def test_looked_at_is_sorted_by_weight() -> None:
    for kind in ("hybrid-relative", "hybrid-absolute"):
        attention = attend(random_weights(EVERY[kind], 5), random_tokens(EVERY[kind], 15))
        back, weight = attention.looked_at(attention.weights, 4)
        order = sorted(range(6), key=lambda j: -attention.weights[1, 0, 12, j])[:4]
        assert weight[1, 0, 12].tolist() == attention.weights[1, 0, 12, order].tolist()
        newest = 0 if kind.endswith("relative") else 5  # column of the last character read
        assert back[1, 0, 12].tolist() == [1 + abs(j - newest) for j in order]


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("length", [4, 6, 25])
def test_patterns_by_distance_and_mean_distance(kind: str, length: int) -> None:
    weights = random_weights(EVERY[kind], 4)
    attention = attend(weights, random_tokens(weights.config, length))
    back = attention.back()
    for token in (None, int(attention.read[2])):
        result, distances = attention.patterns(token=token, by="distance"), attention.mean_distance(token=token)
        rows = [t for t in range(length) if token in (None, attention.read[t])]
        rows = [t for t in rows if t >= weights.config.longest_window - 1] or rows
        for distance in range(1, attention.weights.shape[-1] + 1):
            values = [attention.weights[-1, 2, t, j] for t in rows for j in np.flatnonzero(back[t] == distance)]
            assert result.inputs[distance - 1] == len(values)
            if values and distance <= weights.config.windows[-1]:
                assert result.mean[-1, 2, distance - 1] == pytest.approx(np.mean(values), abs=1e-12)
                assert result.spread[-1, 2, distance - 1] == pytest.approx(np.std(values), abs=1e-12)
            else:
                assert math.isnan(result.mean[-1, 2, distance - 1])
        of_rows = [float((attention.weights[-1, 2, t] * back[t]).sum()) for t in rows]
        assert distances[-1, 2] == pytest.approx(np.mean(of_rows))
        assert distances.shape == (weights.config.n_blocks, 3)


def test_patterns_of_characters_in_and_not_in_the_text() -> None:
    model = small("hybrid-relative")
    seen = inspect_text(model, "a <&a <&a <&").attention
    patterns, is_there = character_patterns(model, seen, "<")
    assert is_there
    assert patterns.inputs.tolist() == [2] * 6  # position 3 does not see a full window
    np.testing.assert_allclose(patterns.mean, seen.weights[:, :, [7, 11]].mean(2))
    patterns, is_there = character_patterns(model, seen, "🦜")
    assert not is_there
    expected = inspect_text(model, "a <&a <&a 🦜&").attention.weights[:, :, 11]
    np.testing.assert_allclose(patterns.mean, expected)
    assert not np.allclose(expected, seen.weights[:, :, 11])
    with pytest.raises(VocabError):
        character_patterns(model, seen, "z")


def test_own_text_is_reproducible_and_longer_than_the_window() -> None:
    model = small("hybrid-relative", T=200)
    assert own_text(model) == own_text(model)
    assert len(own_text(model)) == 400


def test_texts_that_cannot_be_inspected() -> None:
    model = small("hybrid-relative")
    for text in ("", "a" * (longest_text(model.model.config) + 1)):
        with pytest.raises(TextError, match="must have from 1 to 4,096 characters"):
            inspect_text(model, text)
    with pytest.raises(TextError, match="got 0"):
        inspect_text(model, "zzz", unknown="skip")
    assert longest_text(ModelConfig(vocab_size=2, T=1024, n_emb=512)) < 100
