"""What the page's engine shows besides texts: the stages of the pipeline, the attention of heads, characters."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knock import LanguageModel, ReweightGPT, Vocab, reference
from knock.config import ModelConfig
from knock.errors import UnknownCharacterError
from knock.inspection import attend
from knock.sampling import Sampling
from tests.cases import CASES, random_tokens, random_weights
from tests.page.chromium import encoded, needs_chromium, results
from tests.page.test_engine import as_json, with_characters

pytestmark = needs_chromium


def test_stages_are_those_of_the_pipeline(tmp_path: Path) -> None:
    """In order, only those that are on, and as the reference defines them."""
    V = 40
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal(V)).astype(np.float32)
    context = [1, 2, 3, 1, 2, 3, 1, 2]
    controls: dict[str, Any] = {
        "logit_bias": {5: -math.inf, 6: 3.0}, "no_repeat_ngram": 3, "top_n_sigma": 1.8, "temperature": 1.4, "top_k": 9,
        "typical_p": 0.9, "top_p": 0.8, "min_p": 0.3,
    }  # fmt: skip
    z = logits.astype(np.float64)
    expected = {"model": z}
    bias = Sampling(**controls).bias_array(V)
    assert bias is not None
    expected["bias"] = z = z + bias
    expected["repetition"] = z = reference.penalize_repetition(z, np.array(context), Sampling(**controls))
    expected["top_n_sigma"] = z = reference.keep_top_n_sigma(z, 1.8)
    expected["temperature"] = z = (z - z.max()) / 1.4
    expected["top_k"] = z = reference.keep_top_k(z, 9)
    expected["typical_p"] = z = reference.keep_typical_p(z, 0.9)
    expected["top_p"] = z = reference.keep_top_p(z, 0.8)
    expected["min_p"] = z = reference.keep_min_p(z, 0.3)
    assert len({int(np.isfinite(each).sum()) for each in expected.values()}) >= 7  # most stages drop something

    lm = with_characters(random_weights(ModelConfig(vocab_size=V, T=1, n_emb=1, n_heads=1), 0))
    others: list[dict[str, Any]] = [
        {},
        {"target_entropy": 1.0, "min_temp": 0.01},
        {"temperature": 0},
        {"mirostat": 1.0},
        {"top_k": V},
    ]
    jobs = [
        {"kind": "stages", "model": 0, "logits": encoded(logits), "controls": as_json(each), "context": context}
        for each in (controls, *others)
    ]
    shown, *rest = results(jobs, tmp_path, [lm])
    assert [stage["name"] for stage in shown] == list(expected)
    with np.errstate(divide="ignore"):
        for stage, logits_then in zip(shown, expected.values(), strict=True):
            assert stage["probabilities"] == pytest.approx(np.exp(reference.log_softmax(logits_then)), abs=1e-6)
    assert [[stage["name"] for stage in stages] for stages in rest] == [
        ["model"], ["model", "temperature"], ["model", "temperature"], ["model", "mirostat"], ["model"],
    ]  # fmt: skip
    steered, greedy = rest[1][-1], rest[2][-1]
    p = steered["probabilities"][steered["probabilities"] > 0].astype(np.float64)
    assert -(p * np.log2(p)).sum() == pytest.approx(1.0, abs=1e-4)
    assert steered["temperature"] < 1
    assert greedy["probabilities"].tolist() == (logits == logits.max()).tolist()


def test_attention_is_that_of_inspection(tmp_path: Path) -> None:
    """Of every head, as a whole and of each kind of logits alone, by distance."""
    some = [random_weights(config, 5, 0.3) for config in CASES.values()]
    tokens = [random_tokens(weights.config, 14, 5) for weights in some]
    jobs = [{"kind": "trace", "model": i, "tokens": each.tolist()} for i, each in enumerate(tokens)]
    for weights, read, traces in zip(some, tokens, results(jobs, tmp_path, [*map(with_characters, some)]), strict=True):
        seen = attend(weights, read)
        back = seen.back()
        for t, blocks in enumerate(traces):
            for b, heads in enumerate(blocks):
                block = weights.config.blocks[b]
                assert len(heads) == weights.config.n_heads
                for h, head in enumerate(heads):
                    for kind in ("weights", "reweight", "content"):
                        of_kind = getattr(seen, kind)
                        if kind != "weights" and not (block.has_reweight if kind == "reweight" else block.has_content):
                            assert head[kind] is None
                            continue
                        reach = min(block.reweight_T if kind == "reweight" else block.T, t + 1)
                        near = (back[t] > 0) & (back[t] <= reach)
                        expected = np.zeros(reach)
                        expected[back[t][near] - 1] = of_kind[b, h, t][near]
                        assert head[kind] == pytest.approx(expected, abs=3e-3)


VOCABULARIES = {
    "plain": Vocab("\n !?abcé"),
    "decomposed": Vocab("abe\u0301 \u0327"),
    "lowercase": Vocab("aeiıß é", lowercase=True),
    "items": Vocab("ab\u0301", boundary=True),
    "hangul": Vocab("각\u1100\u1161가"),
    "no space": Vocab("ab"),
}
TEXTS = [
    "", "abc", "caf\u00e9", "cafe\u0301", "e\u0301e\u0327\u0301a", "AÉİI\u212a\u1e9e", "\ud7b0\u1100\u1161\u11a8",
    "😀a\u200d😀", "\u0301a", "a\ud800b", "b" * 300 + "\u2028</script><!--",
]  # fmt: skip


def test_prompts_are_read_as_vocabularies_read_them(tmp_path: Path) -> None:
    """In lower case, in other normal forms, with unknown characters."""
    lms = [
        LanguageModel(ReweightGPT(vocab.vocab_size, T=2, n_emb=2, nodes=2, n_heads=1, n_blocks=1), vocab)
        for vocab in VOCABULARIES.values()
    ]
    cases = [
        (i, vocab, text, unknown)
        for i, vocab in enumerate(VOCABULARIES.values())
        for text in TEXTS
        for unknown in ("error", "skip", "replace")
    ]
    jobs = [{"kind": "encode", "model": i, "text": text, "unknown": unknown} for i, _, text, unknown in cases]
    for (_, vocab, text, unknown), tokens in zip(cases, results(jobs, tmp_path, lms), strict=True):
        try:
            with pytest.warns() if vocab.respellings(text) else nullcontext():
                expected = vocab.encode(text, unknown=unknown).tolist()  # type: ignore[arg-type]
        except UnknownCharacterError as error:
            offset = str(error).partition("at offset ")[2].partition(";")[0]
            assert f"at offset {offset}" in tokens["error"], (vocab, text)
        else:
            assert tokens == expected, (vocab, text, unknown)
