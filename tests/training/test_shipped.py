"""Tests of what makes the shipped models: copying, figures in the file and in its card."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from knock import load
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.models import locate
from knock_training.data import Corpus
from tests.cases import SMALL, random_weights
from training import shipped
from training.cards import Shipped
from training.copying import RUN, copied_share, copying
from training.writing import LENGTH, TEMPERATURE, written

ROMEO = "It is the east, and Juliet is the sun. Arise, fair sun, and kill the envious moon."


def test_copied_share() -> None:
    assert copied_share([ROMEO], ROMEO) == 1
    assert copied_share([ROMEO.lower(), ROMEO[: RUN - 1]], ROMEO) == 0
    assert copied_share(["x" * 90 + ROMEO[: RUN + 9]], ROMEO) == 10 / 100  # 90 runs begin with an x
    assert copied_share([], ROMEO) == 0


def test_copying_counts_what_the_model_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.copying._TEXTS", 2)
    model = load("shakespeare-nano")
    first, second = model.generate_batch([""] * 2, seed=0, max_new_tokens=2000)
    found = copying(model, first.text + ROMEO, ROMEO)
    assert found == {"run": 50, "characters": 4000, "share": 0.5, "share_of_held_out": 1}
    assert copying(model, first.text + second.text, ROMEO)["share"] == 1


def test_measuring_writes_the_file_and_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.from_text(ROMEO * 40, "romeo.txt")
    config = SMALL["hybrid-relative"].to_dict() | {"vocab_size": corpus.vocab.vocab_size}
    weights = random_weights(type(SMALL["hybrid-relative"]).from_dict(config), 0)
    given = read_checkpoint(Path(locate("shakespeare-hybrid"))).training
    write_checkpoint(tmp_path / "m.safetensors", weights, corpus.vocab, {**given, "corpus": corpus.record})
    monkeypatch.setitem(shipped.EVERY, "m", Shipped("a test", {}, {}))
    monkeypatch.setattr("training.copying._TEXTS", 3)
    shipped.measure("m", corpus, tmp_path / "m.safetensors")
    record = read_checkpoint(tmp_path / "m.safetensors").training
    assert record["evaluation"]["stream"]["characters"] == len(corpus.validation) - 1
    assert record["copying"]["characters"] == 6000
    card = (tmp_path / "m.md").read_text(encoding="utf-8")
    assert f"| loss, stream | {record['evaluation']['stream']['nats_per_char']:.4f} nats/char" in card
    assert "of the runs of 50 characters in 6,000 generated ones stand in the training data" in card


def test_written_texts_are_what_the_teachers_generate() -> None:
    names = ("shakespeare-nano", "shakespeare-classic")
    files = [read_checkpoint(Path(locate(name))) for name in names]
    vocab = files[0].vocab
    assert vocab is not None
    tokens = written(files, vocab, seed=3, texts=2)
    texts = vocab.decode(tokens.numpy())
    settings = {"seed": 3, "max_new_tokens": LENGTH, "temperature": TEMPERATURE}
    expected = [text.text for name in names for text in load(name).generate_batch([""] * 2, **settings)]
    assert texts == "".join(f"{text}\n" for text in expected)


def test_teachers_and_what_learns_from_them_are_made_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus.txt").write_text((ROMEO + "\n") * 40, encoding="utf-8")
    shape = {"T": 4, "n_emb": 8, "nodes": 8, "n_blocks": 1, "n_heads": 2}
    recipe = {"steps": 2, "eval_interval": 2, "batch_chars": 64}
    teachers = {"one": Shipped("a teacher", shape, recipe), "two": Shipped("a teacher", shape, {**recipe, "seed": 1})}
    student = Shipped("a student", shape, recipe, teachers=tuple(teachers), written=0.5)
    monkeypatch.setattr(shipped, "TEACHERS", teachers)
    monkeypatch.setattr(shipped, "EVERY", {**teachers, "student": student})
    monkeypatch.setattr(shipped, "written", partial(written, texts=2))
    monkeypatch.setattr("training.copying._TEXTS", 1)
    folder, into = str(tmp_path / "teachers"), tmp_path / "models"  # neither exists
    for arguments in (["teachers", "--into", folder], ["student", "--teachers", folder, "--into", str(into)]):
        monkeypatch.setattr("sys.argv", ["shipped", str(tmp_path / "corpus.txt"), *arguments])
        shipped.main()
    assert sorted(each.name for each in into.iterdir()) == ["student.md", "student.safetensors"]
    record = read_checkpoint(into / "student.safetensors").training
    digests = [read_checkpoint(tmp_path / "teachers" / f"{name}.safetensors").digest for name in teachers]
    assert [each["digest"] for each in record["teachers"]] == digests
    assert record["written"] == {"characters": 2 * 2 * (LENGTH + 1), "share": 0.5}
    card = (into / "student.md").read_text(encoding="utf-8")
    assert "| written text | 50% of the training sequences are from 8,004 characters that the teachers wrote" in card
    assert "on one CPU thread" in card
