"""Tests of the precision of a model: how it is chosen, and what keeps it."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from knock import KnockError, LanguageModel, ReweightGPT, Vocab, load
from knock.choices import DEFAULT_PRECISION, PRECISIONS, Precision
from knock.engine.engine import Engine
from knock.files.checkpoint import write_checkpoint
from tests.cases import SMALL, random_weights

CONFIG = SMALL["hybrid-relative"]
WEIGHTS = random_weights(CONFIG, 0)
VOCAB = Vocab("\nabcdefghij")
TOKENS = [1, 5, 0, 10, 3, 3, 7]

# Each makes a model of the same weights, given the path of their file and the keywords of a constructor.
CONSTRUCTORS: dict[str, Callable[..., Engine]] = {
    "Engine": lambda path, **options: Engine(WEIGHTS, **options),
    "from_weights": lambda path, **options: ReweightGPT.from_weights(WEIGHTS, **options).engine,
    "ReweightGPT.load": lambda path, **options: ReweightGPT.load(path, **options).engine,
    "load": lambda path, **options: load(path, **options).model.engine,
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda each: pickle.loads(pickle.dumps(each)),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "m.safetensors", WEIGHTS, VOCAB)
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize("make", CONSTRUCTORS.values(), ids=CONSTRUCTORS)
def test_every_constructor_takes_a_precision(make: Callable[..., Engine], path: Path) -> None:
    logits = {}
    for precision in PRECISIONS:
        engine = make(path, backend="compiled", precision=precision)
        assert engine.precision == precision
        logits[precision] = engine.logits(TOKENS)
        np.testing.assert_array_equal(logits[precision], Engine(WEIGHTS, "compiled", precision).logits(TOKENS))
    for precision, tolerance in (("int16", 0.1), ("int8", 1.0)):
        assert not np.array_equal(logits[precision], logits["float32"])
        np.testing.assert_allclose(logits[precision], logits["float32"], atol=tolerance)
    assert make(path).precision == DEFAULT_PRECISION


@pytest.mark.parametrize("precision", PRECISIONS)
def test_new_models_take_a_precision(precision: Precision) -> None:
    model = ReweightGPT(5, T=8, seed=3, backend="compiled", precision=precision)
    assert model.engine.precision == precision
    same = ReweightGPT.from_weights(model.weights, backend="compiled", precision=precision)
    np.testing.assert_array_equal(model.logits([0, 4, 2]), same.logits([0, 4, 2]))


def test_one_constant_is_the_default() -> None:
    assert DEFAULT_PRECISION in get_args(Precision)
    for function in (Engine, ReweightGPT, ReweightGPT.from_weights, ReweightGPT.load, load):
        assert inspect.signature(function).parameters["precision"].default == DEFAULT_PRECISION


@pytest.mark.parametrize("wrong", ["int4", "INT16", "", None, 16, np.float32, ["int16"]])
@pytest.mark.parametrize("make", [*CONSTRUCTORS.values(), lambda path, **options: ReweightGPT(5, **options)])
def test_others_are_rejected(make: Callable[..., Engine], path: Path, wrong: Any) -> None:
    with pytest.raises(KnockError, match=f"^precision must be one of {', '.join(PRECISIONS)}, got .+$"):
        make(path, precision=wrong)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_keep_it(copied: Callable[[Any], Any], precision: Precision) -> None:
    gpt = ReweightGPT.from_weights(WEIGHTS, backend="compiled", precision=precision)
    model = LanguageModel(gpt, VOCAB)
    before, expected = copied(model), model.score("abba\nbee").log_probs
    for each in (before, copied(model), copied(copied(model))):
        assert each.model.engine.precision == precision
        np.testing.assert_array_equal(each.score("abba\nbee").log_probs, expected)
    np.testing.assert_array_equal(copied(gpt).logits(TOKENS), gpt.logits(TOKENS))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_texts_statistics_and_scores_follow_it(precision: Precision) -> None:
    model = LanguageModel(ReweightGPT.from_weights(WEIGHTS, backend="compiled", precision=precision), VOCAB)
    options = {"max_new_tokens": 60, "seed": 5, "token_stats": True}
    text = model.generate("", **options)
    (row,) = model.generate_batch([""], **options)
    assert row.text == text.text
    # What a text's statistics say of each character is its score, in the same precision.
    for each in (text, row):
        assert each.token_stats is not None
        np.testing.assert_allclose(each.token_stats.log_probs, model.score(each.text).log_probs, atol=2e-6)
