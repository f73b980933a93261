"""Tests of pickling and copying public objects, before and after use, as joblib, spawned pools and Spark do."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knock
from knock import Generation, Interrupted, LanguageModel, ModelConfig, Prompt, ReweightGPT, Sampling, Vocab, load
from knock.choices import HeadType
from knock.files.checkpoint import read_checkpoint
from knock.inspection import inspect_text
from knock.models import locate

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    **{f"pickle {n}": lambda each, n=n: pickle.loads(pickle.dumps(each, n)) for n in (2, pickle.HIGHEST_PROTOCOL)},
}


def results(model: LanguageModel) -> list[Any]:
    return [
        model.generate("ROMEO:", max_new_tokens=30, seed=1).text,
        [each.text for each in model.generate_batch(["A", "B"], seed=0, max_new_tokens=10)],
        model.score("To be").nats_per_char,
        model.digest,
        model.training,
        repr(model),
    ]


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("backend", ["numpy", "compiled", "auto"])
def test_models_before_and_after_use(backend: knock.engine.backends.Backend, copied: Callable[[Any], Any]) -> None:
    model = load("shakespeare-nano", backend=backend)
    before = copied(model)
    expected = results(model)
    after = copied(model)
    assert results(before) == results(after) == results(copied(after)) == results(model) == expected
    assert after.model.engine.backend == model.model.engine.backend
    assert after.vocab == model.vocab
    tokens, _ = model.model.generate([1, 2], 20, seed=3)
    np.testing.assert_array_equal(copied(model.model).generate([1, 2], 20, seed=3)[0], tokens)


@pytest.mark.parametrize("head_type", ["hybrid", "reweight", "content"])
def test_models_of_every_head_type(head_type: HeadType) -> None:
    model = ReweightGPT(vocab_size=5, head_type=head_type, T=8)
    logits = model.logits([0, 1, 2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).logits([0, 1, 2]), logits)


def test_used_model_in_another_process(default: LanguageModel) -> None:
    """The way a spawned worker receives it."""
    expected = default.generate("ROMEO:", max_new_tokens=30, seed=1).text
    code = """
import json, pickle, sys
print(json.dumps(pickle.load(sys.stdin.buffer).generate("ROMEO:", max_new_tokens=30, seed=1).text))
"""
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(default), capture_output=True, check=True)
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_values_stay_equal(copied: Callable[[Any], Any]) -> None:
    for value in (
        ModelConfig(vocab_size=3),
        Sampling(temperature=0.5, logit_bias={1: -1.0}),
        Prompt("A", sampling=Sampling(top_k=3), stop=["\n"], max_new_tokens=3, index=7),
        Vocab("abc", lowercase=True),
    ):
        assert copied(value) == value


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_results(default: LanguageModel, copied: Callable[[Any], Any]) -> None:
    text = default.generate("ROMEO:", max_new_tokens=10, seed=1, token_stats=True)
    assert_same_text(copied(text), text)
    score = default.score("To be")
    assert copied(score).nats_per_char == score.nats_per_char
    checkpoint = read_checkpoint(locate("shakespeare-nano"))
    assert copied(checkpoint).digest == checkpoint.digest
    inspection = inspect_text(default, "To be")
    np.testing.assert_array_equal(copied(inspection).surprise, inspection.surprise)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_errors(default: LanguageModel, copied: Callable[[Any], Any]) -> None:
    for name in ("KnockError", "CheckpointError"):
        error = getattr(knock, name)("what is wrong")
        assert (type(copied(error)), str(copied(error))) == (type(error), "what is wrong")
    (text,) = default.generate_batch(["A"], max_new_tokens=5)
    interrupted = copied(Interrupted([text], 1))
    assert_same_text(interrupted.finished[0], text)
    assert interrupted.first_missing == 1
    assert str(interrupted) == "1 text was finished; the first missing row is 1"


def assert_same_text(result: Generation, expected: Generation) -> None:
    facts = ("prompt", "text", "finish_reason", "seed", "stats", "index", "error", "stop_string", "extra")
    assert [getattr(result, name) for name in facts] == [getattr(expected, name) for name in facts]
    if expected.token_stats is not None:
        assert result.token_stats is not None
        np.testing.assert_array_equal(result.token_stats.entropy, expected.token_stats.entropy)


def test_stream_cannot_be_pickled(default: LanguageModel) -> None:
    stream = default.stream("A", max_new_tokens=20, seed=1)
    next(stream)
    for copied in COPIES.values():
        with pytest.raises(TypeError, match="a TextStream cannot be pickled or copied; pickle its model"):
            copied(stream)
