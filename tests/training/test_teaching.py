"""Tests of distillation: what teachers expect of a text, and runs that learn from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from knock import LanguageModel, Vocab, load
from knock.engine.engine import Engine
from knock.errors import TrainingError
from knock.files.checkpoint import Checkpoint, write_checkpoint
from knock_training import train
from knock_training.data import Corpus
from knock_training.recipe import Recipe
from knock_training.teaching import Teachers, Written, teach
from knock_training.trainer import train as run
from tests.cases import EVERY, SMALL, random_weights
from tests.cli.test_main import run as knock

CPU = torch.device("cpu")
TEXT = "abcdefghijk" * 60 + "kjihgfedcba" * 40
CORPUS = Corpus.from_text(TEXT, "x.txt")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of such small models take longer on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def checkpoint(kind: str, seed: int, vocab: Vocab = CORPUS.vocab) -> Checkpoint:
    return Checkpoint(weights=random_weights(EVERY[kind], seed), vocab=vocab, digest=str(seed))


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("kind", EVERY)
def test_targets_are_the_mean_of_what_the_models_expect(kind: str) -> None:
    files = [(kind, checkpoint(kind, 0)), ("all", checkpoint("all", 1))]
    taught = teach(files, CORPUS.train, CORPUS.vocab, CPU)
    ids = CORPUS.train.numpy()
    expected = np.mean([softmax(Engine(file.weights, "numpy", "float32").logits(ids)) for _, file in files], axis=0)
    assert taught.targets.numpy() == pytest.approx(expected, abs=1e-3)
    assert taught.record == [{"name": kind, "digest": "0"}, {"name": "all", "digest": "1"}]


def test_every_item_is_read_on_its_own() -> None:
    corpus = Corpus.from_items(["abc", "kkk", "abcdefghijk"] * 20, "x", ["abc"])
    config = replace(SMALL["hybrid-relative"], vocab_size=corpus.vocab.vocab_size)
    file = Checkpoint(weights=random_weights(config, 0), vocab=corpus.vocab)
    targets = teach([("x", file)], corpus.train, corpus.vocab, CPU).targets
    ids = corpus.train.numpy()
    starts = np.flatnonzero(ids[:-1] == corpus.vocab.boundary)
    for start, end in zip(starts, [*starts[1:], len(ids) - 1], strict=True):
        alone = softmax(Engine(file.weights, "numpy", "float32").logits(ids[start:end]))
        assert targets[start:end].numpy() == pytest.approx(alone, abs=1e-3)


def test_a_run_learns_what_the_teachers_expect() -> None:
    """A text of one character cannot teach that others follow it; a teacher can."""
    corpus = Corpus.from_text("a" * 450 + "abc" * 20, "x.txt")
    config = replace(SMALL["hybrid-relative"], vocab_size=3)
    targets = torch.tensor([0.5, 0.3, 0.2]).half().expand(len(corpus.train), 3)
    for share, wanted in ((1.0, 0.5), (0.5, 0.75)):
        recipe = Recipe(steps=150, batch_chars=64, eval_interval=150, distillation=share, learning_rate=0.02)
        result = run(config, corpus, recipe, teachers=Teachers(targets, []))
        p = softmax(Engine(result.weights, "numpy", "float32").logits([0] * 8))[-1]
        assert p[0] == pytest.approx(wanted, abs=0.05)


def test_without_a_share_teachers_change_nothing() -> None:
    recipe = Recipe(steps=3, batch_chars=64, eval_interval=3, distillation=0)
    taught = teach([("x", checkpoint("all", 0))], CORPUS.train, CORPUS.vocab, CPU)
    with_teachers, alone = (run(SMALL["hybrid-relative"], CORPUS, recipe, teachers=each) for each in (taught, None))
    for name, array in alone.weights.items():
        assert np.array_equal(with_teachers.weights[name], array)
    assert with_teachers.record["teachers"] == taught.record
    assert "teachers" not in alone.record


def test_written_text_is_read_on_its_own() -> None:
    text = CORPUS.train[:300]
    taught = teach([("x", checkpoint("all", 0))], CORPUS.train, CORPUS.vocab, CPU, Written(text, 0.5))
    alone = teach([("x", checkpoint("all", 0))], text, CORPUS.vocab, CPU)
    assert torch.equal(taught.targets[len(CORPUS.train) :], alone.targets)


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 0.8), (0.25, 0.65), (0.75, 0.35), (1.0, 0.2)])
def test_a_run_learns_from_the_written_text(share: float, wanted: float) -> None:
    """The texts look the same, but teachers expect different characters in them: a model has to expect both."""
    corpus = Corpus.from_text("abc" + "a" * 450 + "ab" * 25, "x.txt")
    config = replace(SMALL["hybrid-relative"], vocab_size=3)
    text = torch.zeros(200, dtype=torch.uint8)
    first = torch.tensor([0.8, 0.2, 0.0]).expand(len(corpus.train), 3)
    second = torch.tensor([0.2, 0.8, 0.0]).expand(len(text), 3)
    targets = torch.cat([first, second]).half()
    recipe = Recipe(steps=150, batch_chars=128, eval_interval=150, distillation=1, learning_rate=0.02)
    result = run(config, corpus, recipe, teachers=Teachers(targets, [], Written(text, share)))
    p = softmax(Engine(result.weights, "numpy", "float32").logits([0] * 8))[-1]
    assert p[0] == pytest.approx(wanted, abs=0.05)
    assert result.record["written"] == {"characters": 200, "share": share}


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        (Vocab("abcdefghijl"), "knows other characters than the corpus has"),
        (Vocab("abcdefghijk", boundary=True), "knows other items than the corpus has"),
        (None, "has no vocabulary"),
    ],
)
def test_teachers_must_know_the_characters(vocab: Vocab, message: str) -> None:
    with pytest.raises(TrainingError, match=f"teacher 'x' {message}"):
        teach([("x", checkpoint("all", 0, vocab))], CORPUS.train, CORPUS.vocab, CPU)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "teacher.safetensors", random_weights(SMALL["hybrid-relative"], 0), CORPUS.vocab)
    return tmp_path / "teacher.safetensors"


def test_from_python(teacher: Path) -> None:
    options = {"T": 4, "n_emb": 8, "nodes": 8, "n_blocks": 1, "n_heads": 2, "steps": 3, "threads": 1}
    by_path, by_model = (train(TEXT, teachers=[each], **options) for each in (teacher, load(teacher)))
    for name, array in by_path.model.weights.items():
        assert np.array_equal(by_model.model.weights[name], array)
    assert by_path.training["teachers"][0]["digest"] == by_model.training["teachers"][0]["digest"]
    assert isinstance(train(TEXT, teachers=teacher, **options), LanguageModel)


def test_command_and_resume(tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    shape = ["--T", "4", "--n-emb", "8", "--nodes", "8", "--n-blocks", "1", "--n-heads", "2", "--threads", "1"]
    command = ["train", str(tmp_path / "text.txt"), *shape, "--steps", "4", "--distillation", "0.7"]
    whole = tmp_path / "whole.safetensors"
    code, _, _ = knock(capsys, *command, "--teacher", str(teacher), "--out", str(whole))
    assert code == 0
    record = load(whole).training
    assert (record["teachers"][0]["name"], record["recipe"]["distillation"]) == (str(teacher), 0.7)
    code, _, err = knock(capsys, *command, "--out", str(tmp_path / "x.safetensors"))
    assert code == 2
    assert "--distillation is the teachers' share of the loss; pass --teacher MODEL" in err
