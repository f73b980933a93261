"""Tests of `knock train`: resuming, reading corpora, writing files, and several processes at once."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knock import ModelConfig, Vocab
from knock.cli.train.display import Display, loss_curve
from knock.errors import TextError, TrainingError, VocabError
from knock.files import text as text_module
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.files.text import decode_utf8, read_text
from knock.jobs.row_file import locked
from knock.models import shipped
from knock.weights import Weights
from knock_training import data, trainer
from knock_training.data import Corpus
from knock_training.recipe import Recipe
from knock_training.run import Progress
from knock_training.sizes import SIZES, size_for
from knock_training.state import read_state, state_path, write_state
from knock_training.trainer import train
from tests.cli.test_main import CORPUS, FAST, KNOCK, run
from tests.cli.test_sample import on_a_terminal

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")
TEXT = "the quick brown fox jumps over the lazy dog. " * 60
TINY = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 2, "n_heads": 2}
SHORT = Recipe(steps=30, batch_chars=256, eval_interval=7, warmup=5, dropout=0.2)
ENDLESS = [*FAST, "--steps", "1000000", "--seed", "3"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "mary.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


# Resuming


def tensors(value: Any) -> list[Any]:
    """Return all values of a state, flattened."""
    if isinstance(value, dict):
        return [leaf for key in value if key != "seconds" for leaf in tensors(value[key])]
    if isinstance(value, (list, tuple)):
        return [leaf for each in value for leaf in tensors(each)]
    return [value.tolist() if isinstance(value, torch.Tensor) else value]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("stops", [[1], [7], [10, 13, 25]])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, stops: list[int], optimizer: str) -> None:
    """Bit for bit, in weights and optimiser state, with dropout and a moving average."""
    corpus = Corpus.from_text(TEXT, "fox.txt")
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY)
    recipe = Recipe(**vars(SHORT) | {"optimizer": optimizer})
    whole = train(config, corpus, recipe, state=tmp_path / "whole")
    for i, stop in enumerate(stops):
        asked = iter(range(stop - (stops[i - 1] if i else 0)))
        part = train(
            config,
            corpus,
            recipe,
            state=tmp_path / "parts",
            resume=i > 0,
            should_stop=lambda it=asked: next(it, None) is None,
        )
        assert (part.ended, part.record["steps_done"]) == ("interrupted", stop)
    rest = train(config, corpus, recipe, state=tmp_path / "parts", resume=True)
    assert all(np.array_equal(rest.weights[name], whole.weights[name]) for name in whole.weights)
    assert rest.record["best_step"] == whole.record["best_step"]
    (_, expected), (_, result) = read_state(tmp_path / "whole"), read_state(tmp_path / "parts")
    assert tensors(result) == tensors(expected)


@POSIX
def test_killed_run_is_resumable(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(corpus_file), *FAST, "--steps", "400", "--dropout", "0.1"]
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert run(capsys, "train", *arguments, "--out", str(whole))[0] == 0
    process = subprocess.Popen([*KNOCK, "train", *arguments, "--out", str(parts)], stderr=subprocess.DEVNULL)
    while not state_path(parts).exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    if state_path(parts).exists():  # unless the run finished first
        model = read_checkpoint(parts)
        assert model.training["ended"] == "not yet"
        code, _, err = run(capsys, "train", *arguments, "--out", str(parts))
        assert code == 1
        assert "holds an unfinished run; pass --resume to continue it" in err
        assert run(capsys, "train", str(corpus_file), "--out", str(parts), "--resume", "--threads", "1")[0] == 0
    assert read_checkpoint(parts).digest == read_checkpoint(whole).digest
    assert not state_path(parts).exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mary.txt", parts.name, whole.name]


@POSIX
def test_kill_at_any_moment_leaves_valid_files(tmp_path: Path, corpus_file: Path) -> None:
    model = tmp_path / "m.safetensors"
    command = [*KNOCK, "train", str(corpus_file), "--out", str(model), *ENDLESS, "--eval-interval", "1"]
    rng = np.random.default_rng(0)
    for resume in (False, True, True):
        process = subprocess.Popen([*command, *(["--resume"] if resume else [])], stderr=subprocess.DEVNULL)
        before = model.stat().st_mtime_ns if resume else 0
        # The first state is written shortly after the first model; after that, kill at any moment.
        while process.poll() is None and not (state_path(model).exists() and model.stat().st_mtime_ns > before):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        read_checkpoint(model)
        what, saved = read_state(state_path(model))
        assert (what["recipe"]["seed"], saved["numbers"]["step"] > 0) == (3, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--learning-rate", "0.5"], "recipe learning_rate was 0.003 and is 0.5"),
        (["--T", "4"], "config T was 8 and is 4"),
        (["--size", "small"], "config T was 8 and is 64, config n_emb was 16 and is 128"),
        (["--lowercase"], "lowercase was False and is True"),
        (["--vocab-from", "shakespeare-nano"], "vocabulary was "),
        (["--seed", "4", "--dropout", "0.5"], "recipe dropout was 0.0 and is 0.5, recipe seed was 3 and is 4"),
    ],
)
def test_resume_rejects_other_settings(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    model = corpus_file.with_name("m.safetensors")
    stopped(corpus_file, model)
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), "--resume", *change)
    assert code == 1
    assert f"{str(state_path(model))!r} belongs to another run: " in err
    assert message in err


@pytest.mark.parametrize(("text", "message"), [("Mary had a little lamb.\n" * 90, "corpus was"), (CORPUS + "Ω", "'Ω'")])
def test_resume_rejects_another_corpus(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    model = corpus_file.with_name("m.safetensors")
    stopped(corpus_file, model)
    corpus_file.write_text(text, encoding="utf-8")
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), "--resume")
    assert (code, message in err, "another" in err) == (1, True, True)


def stopped(corpus_file: Path, model: Path) -> None:
    """Train for two steps and stop."""
    corpus = Corpus.read(corpus_file)
    shape = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 1, "n_heads": 2}
    recipe, asked = Recipe(steps=6, batch_chars=128, eval_interval=2, seed=3), iter(range(2))
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **shape)
    train(config, corpus, recipe, state=state_path(model), should_stop=lambda: next(asked, None) is None)


def test_missing_or_damaged_state_is_reported(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.safetensors"
    arguments = ["train", str(corpus_file), "--out", str(model), "--resume"]
    code, _, err = run(capsys, *arguments)
    assert (code, "no run to resume" in err) == (1, True)
    write_state(state_path(model), {"corpus": "x"}, {"a": torch.zeros(3)})
    whole = state_path(model).read_bytes()
    altered = [bytearray(whole) for _ in range(40)]
    for content, place in zip(altered, np.random.default_rng(0).integers(len(whole), size=40), strict=True):
        content[place] ^= 4
    for content in (b"", b"knock", whole[: len(whole) // 2], whole + b"\0", b"\x80\x04K\x01.", *altered):
        state_path(model).write_bytes(content)
        code, _, err = run(capsys, *arguments)
        assert (code, err.count("\n")) == (1, 1)
        assert re.search("not the state of a training run|is damaged|another version", err)


@POSIX
def test_no_space_for_the_state(tmp_path: Path, corpus_file: Path) -> None:
    model = tmp_path / "m.safetensors"
    code = f"""
import resource, sys
from knock.cli.main import main
import torch, knock_training.trainer
resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))
sys.exit(main({["train", str(corpus_file), "--out", str(model), *ENDLESS]!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"knock: error: cannot write {str(state_path(model))!r}: file too large; make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".txt"] == [model.name]
    read_checkpoint(model)


def test_interrupt_suggests_resume(corpus_file: Path) -> None:
    model = corpus_file.with_name("m.safetensors")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs may ignore it
    try:
        process = subprocess.Popen(
            [*KNOCK, "train", str(corpus_file), "--out", str(model), *ENDLESS], stderr=subprocess.PIPE, text=True
        )
        while not model.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 130
    assert "pass --resume to continue" in err
    assert read_checkpoint(model).training["ended"] == "interrupted"
    assert state_path(model).exists()


def test_interrupt_before_the_first_evaluation_keeps_the_existing_model(corpus_file: Path) -> None:
    model = corpus_file.with_name("m.safetensors")
    shutil.copy(shipped()["shakespeare-nano"], model)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = [
            *KNOCK,
            "train",
            str(corpus_file),
            "--out",
            str(model),
            *ENDLESS,
            "--eval-interval",
            "1000000",
            "--force",
        ]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = ""
        while "Ctrl-C stops early" not in said and process.poll() is None:
            said += process.stderr.readline()  # type: ignore[union-attr]
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=60)[1]
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 130
    assert f"{model} was not overwritten: there is no validation loss yet" in said
    assert model.read_bytes() == shipped()["shakespeare-nano"].read_bytes()
    assert state_path(model).exists()


def test_two_runs_cannot_write_the_same_model(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = corpus_file.with_name("m.safetensors")
    with locked(model):
        code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)
    assert (code, "another process is writing" in err, model.exists()) == (1, True, False)
    assert run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)[0] == 0
    assert sorted(each.name for each in model.parent.iterdir()) == ["m.safetensors", "mary.txt"]


@pytest.mark.parametrize("options", [["--vocab-from", "BASE", "--size", "small"], ["--minutes", "0.1"]])
def test_killed_command_is_resumed_with_its_original_plan(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    """The same options do not lead to a new plan or size."""
    base, model = tmp_path / "base.safetensors", tmp_path / "m.safetensors"
    assert run(capsys, "train", str(corpus_file), "--out", str(base), *FAST)[0] == 0
    shape = [] if "--vocab-from" in options else ["--T", "8", "--n-emb", "16", "--nodes", "16", "--n-blocks", "1"]
    shape += ["--eval-interval", "7", "--batch-chars", "128", "--threads", "1"]
    arguments = ["train", str(corpus_file), "--out", str(model), *shape]
    arguments += [str(base) if option == "BASE" else option for option in options]
    kept: list[dict[str, Any]] = []

    def stop(path: Path, what: dict[str, Any], saved: dict[str, Any]) -> None:
        kept.append(what)
        write_state(path, what, saved)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "write_state", stop)
        assert run(capsys, *arguments, *([] if "--minutes" in options else ["--steps", "20"]))[0] == 130
    assert kept[0]["recipe"]["eval_interval"] == 7
    code, _, err = run(capsys, *arguments, "--resume")
    assert code == 0, err
    done, planned = read_checkpoint(model).training["steps_done"], kept[0]["recipe"]["steps"]
    assert done == planned or ("--minutes" in options and done > 7)


@pytest.mark.parametrize("rate", ["1e15", "1e300"])
def test_weights_that_are_not_finite_count_as_divergence(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], rate: str
) -> None:
    """No state is kept, because a resumed run would diverge too."""
    model = corpus_file.with_name("m.safetensors")
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST, "--eval-interval", "1"]
    code, _, err = run(capsys, *arguments, "--learning-rate", rate)
    assert (code, "rates" in err, "retrain" in err) == (1, True, False)
    assert not state_path(model).exists()


# Corpora


@given(st.text(max_size=60), st.integers(1, 7), st.booleans())
def test_text_read_in_chunks(text: str, size: int, has_mark: bool) -> None:
    content = (b"\xef\xbb\xbf" if has_mark else b"") + text.encode("utf-8", "surrogatepass")
    expected: str | None
    try:
        expected = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        expected = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "_CHUNK", size)
        if expected is None:
            with pytest.raises(TextError, match="not UTF-8"):
                decode_utf8(content, "it")
        else:
            assert decode_utf8(content, "it") == expected


@given(st.text(max_size=20), st.integers(1, 9), st.booleans())
def test_offset_of_invalid_utf8(before: str, size: int, has_mark: bool) -> None:
    content = (b"\xef\xbb\xbf" if has_mark else b"") + before.encode("utf-8", "replace") + b"\xff"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "_CHUNK", size)
        with pytest.raises(TextError, match=f"byte 0xff at offset {len(content) - 1};"):
            decode_utf8(content + b"rest", "it")


def test_files_and_folders_form_one_corpus(tmp_path: Path) -> None:
    (tmp_path / "books" / "old").mkdir(parents=True)
    for name, text in {
        "books/b.txt": "two\r\n",
        "books/a.txt": "one ",
        "books/old/c.txt": "\ufeffthree",
        "d": " four",
    }.items():
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "books" / "notes.md").write_text("not this", encoding="utf-8")
    corpus = Corpus.read([tmp_path / "books", tmp_path / "d"])
    expected = Corpus.from_text("one two\nthree four", "books + d")
    assert (corpus.name, corpus.sha256) == (expected.name, expected.sha256)
    assert corpus.vocab.characters == expected.vocab.characters
    assert torch.equal(torch.cat([corpus.train, corpus.validation]), torch.cat([expected.train, expected.validation]))
    (tmp_path / "none").mkdir()
    with pytest.raises(TextError, match=r"has no \.txt files"):
        Corpus.read(tmp_path / "none")


@POSIX
def test_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(CORPUS,))
    writer.start()
    corpus = Corpus.read(pipe)
    writer.join()
    assert corpus.vocab.decode(torch.cat([corpus.train, corpus.validation]).numpy()) == CORPUS


def test_name_of_the_current_folder(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus_file.parent)
    assert Corpus.read(".").name == "."


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_unknown_characters_are_located_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The error names the file and the offset, for any chunk size."""
    monkeypatch.setattr(text_module, "_CHUNK", size)
    for name, text in {"a.txt": "abcab", "b.txt": "bcaéaéé"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    files, vocab = [tmp_path / "a.txt", tmp_path / "b.txt"], Vocab("abc")
    with pytest.raises(VocabError, match=r"unknown character 'é' \(U\+00E9\) at offset 3 of '.*b.txt'"):
        Corpus.read(files, vocab=vocab)
    skipped, replaced = (Corpus.read(files, vocab=vocab, unknown=how) for how in ("skip", "replace"))
    assert (skipped.unknown_count, len(skipped)) == (3, 9)
    assert (replaced.unknown_count, len(replaced)) == (3, 12)
    assert Corpus.read(files[:1], vocab=vocab).unknown_count == 0


def test_command_reports_unknown_characters(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.safetensors"
    assert run(capsys, "train", str(corpus_file), "--out", str(base), *FAST)[0] == 0
    corpus_file.write_text(CORPUS + "ΩΩΩ", encoding="utf-8")
    for how, share in {"skip": "skipped", "replace": "replaced"}.items():
        arguments = ["train", str(corpus_file), "--out", str(tmp_path / f"{how}.npz"), "--vocab-from", str(base)]
        arguments += ["--steps", "1", "--unknown", how]
        _, _, err = run(capsys, *arguments)
        assert f"{share} unknown characters: 3, {3 / (len(CORPUS) + 3):.2%} of the text" in err


def test_large_corpus_is_memory_mapped(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Corpus.read(corpus_file)
    monkeypatch.setattr(data, "_LARGE", 100)
    monkeypatch.setattr(text_module, "_CHUNK", 64)
    mapped: list[Any] = []
    monkeypatch.setattr(
        data.np, "memmap", lambda *args, _make=np.memmap, **kw: mapped.append(_make(*args, **kw)) or mapped[0]
    )
    corpus = Corpus.read(corpus_file)
    assert len(mapped) == 1
    assert corpus.sha256 == expected.sha256
    assert torch.equal(corpus.train, expected.train)
    assert torch.equal(corpus.validation, expected.validation)
    assert corpus.train.data_ptr() == mapped[0].ctypes.data


def test_corpus_with_eight_thousand_distinct_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 8000))) + "".join(
        map(chr, rng.integers(0x4E00, 0x4E00 + 8000, 3000))
    )
    path, model = tmp_path / "c.txt", tmp_path / "m.safetensors"
    path.write_text(text, encoding="utf-8")
    assert run(capsys, "train", str(path), "--out", str(model), *FAST)[0] == 0
    assert read_checkpoint(model).weights.config.vocab_size == 8000


def test_corpus_with_one_distinct_character(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = tmp_path / "c.txt", tmp_path / "m.safetensors"
    path.write_text("a" * 500, encoding="utf-8")
    code, _, err = run(capsys, "train", str(path), "--out", str(model), *FAST)
    assert code == 0
    assert "500 characters, 1 distinct" in err
    assert "the corpus is small" in err


# Sizes and plans


def test_size_depends_on_corpus_length() -> None:
    assert [size_for(length) for length in (10, 1_115_394, 50_000_000)] == ["nano", "nano", "small"]
    for name, largest in (("nano", 110_000), ("small", 1_100_000)):
        assert Weights.random(ModelConfig(vocab_size=65, **SIZES[name].shape)).n_parameters <= largest
        Recipe(**SIZES[name].recipe)


@pytest.mark.parametrize(("given_options", "expected"), [([], "nano"), (["--size", "small"], "small")])
def test_size_option(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], given_options: list[str], expected: str
) -> None:
    model = corpus_file.with_name("m.safetensors")
    options = ["--steps", "1", "--batch-chars", "64", "--alpha", "0.25", *given_options]
    assert run(capsys, "train", str(corpus_file), "--out", str(model), *options)[0] == 0
    checkpoint = read_checkpoint(model)
    shape = checkpoint.weights.config.to_dict()
    assert {name: shape[name] for name in SIZES[expected].shape} == SIZES[expected].shape
    assert shape["alpha"] == 0.25
    assert checkpoint.training["recipe"]["dropout"] == SIZES[expected].recipe.get("dropout", 0.0)


def test_patience_stops_an_overfitting_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = tmp_path / "turn.txt", tmp_path / "m.safetensors"
    path.write_text("ab" * 306 + "cd" * 34, encoding="utf-8")  # the validation text differs, so its loss rises
    options = [*FAST, "--steps", "1000", "--learning-rate", "0.02", "--out", str(model)]
    code, _, err = run(capsys, "train", str(path), *options, "--patience", "5")
    assert code == 0
    assert err.count("the model overfits: for 3 evaluations only the training loss has fallen") == 1
    assert "stopped early because the validation loss stopped falling" in err
    record = read_checkpoint(model).training
    assert (record["ended"], record["steps_done"] - record["best_step"]) == ("early", 5 * 2)
    assert not state_path(model).exists()


# Fine-tuning


def test_vocab_from_fine_tunes_a_model(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, model = tmp_path / "base.safetensors", tmp_path / "m.safetensors"
    vocab = Vocab.from_text(CORPUS.replace("M", "xyz"))
    config = ModelConfig(vocab_size=vocab.vocab_size, T=8, n_emb=16, nodes=8, n_blocks=1, n_heads=2)
    weights = Weights.random(config, 9)
    write_checkpoint(base, weights, vocab)
    little = ["--steps", "1", "--batch-chars", "64", "--learning-rate", "1e-9", "--matrix-learning-rate", "1e-9"]
    arguments = ["train", str(corpus_file), "--out", str(model), "--vocab-from", str(base), *little]
    code, _, err = run(capsys, *arguments)
    assert (code, "unknown character 'M'" in err) == (1, True)
    assert run(capsys, *arguments, "--unknown", "skip")[0] == 0
    made = read_checkpoint(model)
    assert (made.weights.config, made.vocab.characters) == (config, vocab.characters)  # type: ignore[union-attr]
    assert all(np.allclose(made.weights[name], weights[name], atol=1e-6) for name in weights)
    assert made.training["corpus"]["characters"] == len(CORPUS) - CORPUS.count("M")
    for wrong in (["--T", "16"], ["--lowercase"]):
        assert run(capsys, *arguments, *wrong)[0] == 2
    assert run(capsys, *arguments[:4], "--vocab-from", "none")[0] == 1


# What is shown and written


def test_metrics_of_a_resumed_run(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They equal those of an uninterrupted run."""
    model, metrics = tmp_path / "m.safetensors", tmp_path / "metrics.jsonl"
    options = [*FAST, "--steps", "45", "--eval-interval", "9", "--metrics", str(metrics)]
    arguments = ["train", str(corpus_file), "--out", str(model), *options]
    assert run(capsys, *arguments)[0] == 0
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [9, 10, 18, 20, 27, 30, 36, 40, 45]
    assert [line["step"] for line in lines if line["validation_loss"] is not None] == [9, 18, 27, 36, 45]
    model.unlink()
    code, _, err = run(capsys, *arguments)
    assert (code, f"{str(metrics)!r} already exists; pass --force to overwrite it" in err) == (1, True)

    asked = iter(range(20))
    corpus = Corpus.read(corpus_file)
    shape = {**SIZES["nano"].shape, "T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 1, "n_heads": 2}
    recipe = Recipe(**{**SIZES["nano"].recipe, "steps": 45, "batch_chars": 128, "eval_interval": 9})
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **shape)
    train(config, corpus, recipe, state=state_path(model), should_stop=lambda: next(asked, None) is None)
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines[:6]) + '{"step": 3', encoding="utf-8")
    assert run(capsys, *arguments, "--resume")[0] == 0
    again = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    for name in ("step", "loss", "validation_loss", "learning_rate"):
        assert [line[name] for line in again] == [line[name] for line in lines]


@pytest.mark.parametrize("content", [b"Once upon a time\nthere was.\n", b"no end", b'{"step": "x"}\n', b"\xff\xfe\n"])
def test_metrics_do_not_overwrite_other_files(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    model, other = corpus_file.with_name("m.safetensors"), corpus_file.with_name("other")
    stopped(corpus_file, model)
    other.write_bytes(content)
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), "--resume", "--metrics", str(other))
    assert (code, "so it is left unchanged; choose another name" in err) == (1, True)
    assert other.read_bytes() == content


@POSIX
def test_metrics_to_a_pipe(corpus_file: Path) -> None:
    model = corpus_file.with_name("m.safetensors")
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST, "--metrics", "/dev/stdout"]
    done = subprocess.run([*KNOCK, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    assert [json.loads(line)["step"] for line in done.stdout.splitlines()] == [2, 4, 6]


def test_empty_metrics_file_is_removed(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise TrainingError("no")

    monkeypatch.setattr(trainer, "train", failing)
    model, metrics = corpus_file.with_name("m.safetensors"), corpus_file.with_name("metrics")
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST, "--metrics", str(metrics)]
    assert (run(capsys, *arguments)[0], metrics.exists()) == (1, False)


@pytest.mark.parametrize(("falls", "warns"), [(True, True), (False, False)])
def test_overfitting_warning(falls: bool, warns: bool) -> None:
    """It needs a falling training loss: a run whose losses both stagnate does not overfit."""
    said: list[str] = []
    options = argparse.Namespace(metrics=None, tensorboard=None, resume=False, force=False)
    with Display(options, Vocab("ab"), said.append) as display:
        for i in range(5):
            display.report(
                Progress(
                    step=i + 1, steps=9, loss=2.0 - i / 10 if falls else 2.0, validation_loss=2.0 + i / 10,
                    best_loss=2.0, learning_rate=0.1, chars_per_second=1.0, seconds=1.0, seconds_left=1.0,
                    weights=Weights.random(ModelConfig(vocab_size=2, **TINY), 0), unigram_loss=3.0, is_lost=False,
                )
            )  # fmt: skip
    assert sum("the model overfits" in line for line in said) == warns


def test_samples_cannot_control_the_terminal(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus_file.write_text("\x1b[2J\x07" * 400, encoding="utf-8")
    model = corpus_file.with_name("m.safetensors")
    _, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST)
    assert "^[[2J^G" in err or "^[" in err
    assert not set(err) & set("\x1b\x07")


def test_missing_tensorboard(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    model = corpus_file.with_name("m.safetensors")
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST, "--tensorboard", "runs")
    assert code == 1
    assert "--tensorboard needs TensorBoard, which is not installed; run: pip install tensorboard" in err


def test_tensorboard_events(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for TensorBoard's writer."""
    events: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == "runs"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            events.append((name, value, step))

        def close(self) -> None:
            events.append(("closed", 0.0, 0))

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    model = corpus_file.with_name("m.safetensors")
    assert run(capsys, "train", str(corpus_file), "--out", str(model), *FAST, "--tensorboard", "runs")[0] == 0
    assert [step for name, _, step in events if name == "loss/validation"] == [2, 4, 6]
    assert events[-1][0] == "closed"


def test_loss_curve() -> None:
    points = [(i, 3.0 - i / 50, 3.1 - i / 50 if i % 10 == 0 else None) for i in range(1, 101)]
    lines = loss_curve(points, 100, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].split()[0] == "2.780"
    marks = [(line.index("●") if "●" in line else None) for line in lines[:-1]]
    assert [mark for mark in marks if mark is not None] == sorted(mark for mark in marks if mark is not None)
    assert sum(line.count("●") for line in lines[:-1]) >= 8
    assert loss_curve([], 100, 60) == loss_curve(points, 100, 12) == ""
    assert "●" in loss_curve([(1, 2.0, 2.0)], 1, 40)
    assert len(loss_curve(points, 100, 60, 5).splitlines()) == 5 + 1


@POSIX
def test_live_display_on_a_terminal(corpus_file: Path) -> None:
    model = corpus_file.with_name("m.safetensors")
    said = on_a_terminal("train", str(corpus_file), "--out", str(model), *FAST, "--steps", "60")
    assert "nats per character: · training, ● validation" in said
    assert "    | " in said
    assert "done after 60 steps" in said


# Several processes


@pytest.mark.skipif(sys.platform == "win32", reason="PyTorch's own launcher has no gloo store there")
def test_two_processes_train_like_one(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # At nano's AdamW learning rate of 0.01, rounding errors grow to 2e-4 in 40 steps of so small a model.
    options = [*FAST, "--steps", "40", "--eval-interval", "5", "--batch-chars", "256", "--learning-rate", "0.003"]
    curves = []
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, command in {"one": [*KNOCK, "train"], "two": [*torchrun, "-m", "knock_training"]}.items():
        model, metrics = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.jsonl"
        arguments = [str(corpus_file), "--out", str(model), "--metrics", str(metrics), *options]
        done = subprocess.run(
            [*command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("done after 40 steps") == 1
        lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
        curves.append([(line["loss"], line["validation_loss"] or 0.0) for line in lines])
        assert read_checkpoint(model).training["recipe"]["processes"] == (1 if name == "one" else 2)
    np.testing.assert_allclose(curves[0], curves[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_unavailable_device(corpus_file: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
    model = corpus_file.with_name("m.safetensors")
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *FAST, "--device", device)
    assert (code, err.count("\n")) == (1, 1)
    assert f"cannot compute on {device!r}" in err


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK is not set; start with torchrun"),
        ({"RANK": "x"}, "RANK and WORLD_SIZE must be whole numbers"),
    ],
)
def test_incomplete_torchrun_variables(
    corpus_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(corpus_file.with_name("m.npz")), *FAST)
    assert (code, err.count("\n"), message in err) == (1, 1, True)


def test_read_and_write_of_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"cannot read .*: no such file"):
        read_text(tmp_path / "none")
    with pytest.raises(TrainingError, match="cannot write"):
        write_state(tmp_path / "none" / "s", {}, {})
