"""Tests of `knock train`: reading corpora, sizes, fine-tuning, and several processes at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knock import ModelConfig, Vocab
from knock.errors import TextError, TrainingError, VocabError
from knock.files import text as text_module
from knock.files import tokenizing
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.files.text import decode_utf8, read_text
from knock.weights import Weights
from knock_training.data import Corpus
from knock_training.recipe import Recipe
from knock_training.sizes import SIZES, size_for
from knock_training.state import state_path, write_state
from tests.cli.test_main import CORPUS, FAST, KNOCK, run

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "mary.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


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
    expected = Corpus.from_text("one \ntwo\nthree\n four", "books + d")
    assert (corpus.name, corpus.text.sha256) == (expected.name, expected.text.sha256)
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
    assert (skipped.text.unknown_count, len(skipped)) == (3, 9)
    assert (replaced.text.unknown_count, len(replaced)) == (3, 12)
    assert Corpus.read(files[:1], vocab=vocab).text.unknown_count == 0


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
    monkeypatch.setattr(tokenizing, "_LARGE", 100)
    monkeypatch.setattr(text_module, "_CHUNK", 64)
    mapped: list[Any] = []
    monkeypatch.setattr(
        tokenizing.np, "memmap", lambda *args, _make=np.memmap, **kw: mapped.append(_make(*args, **kw)) or mapped[0]
    )
    corpus = Corpus.read(corpus_file)
    assert len(mapped) == 1
    assert corpus.text.sha256 == expected.text.sha256
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
    config = checkpoint.weights.config
    assert config == ModelConfig(vocab_size=config.vocab_size, alpha=0.25, **SIZES[expected].shape)
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


# Values for each block

BY_BLOCK = [
    "--T", "2,4,8", "--head-type", "reweight,hybrid,content", "--reweight-T", "3", "--n-emb", "16", "--nodes", "16",
    "--n-blocks", "3", "--n-heads", "2", "--steps", "6", "--eval-interval", "2", "--batch-chars", "128",
]  # fmt: skip


def test_blocks_that_differ_train_and_fine_tune(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tuned = tmp_path / "m.safetensors", tmp_path / "tuned.safetensors"
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), *BY_BLOCK)
    assert code == 0
    assert "\nreweight,hybrid,content heads, relative positions, T=2,4,8 reweight_T=3 n_emb=16 " in err
    config = read_checkpoint(model).weights.config
    assert (config.windows, config.reweight_windows) == ((2, 4, 8), (2, 3, 0))
    assert config.head_types == ("reweight", "hybrid", "content")
    fine = ["--from", str(model), "--steps", "2", "--batch-chars", "128"]
    assert run(capsys, "train", str(corpus_file), "--out", str(tuned), *fine)[0] == 0
    assert read_checkpoint(tuned).weights.config == config
    for backend in ("numpy", "compiled"):
        code, out, _ = run(capsys, "generate", "--model", str(model), "--length", "20", "--backend", backend, "Mary")
        assert (code, len(out.rstrip("\n")) > 4) == (0, True)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--n-blocks", "4", "--T", "2,4"], "--T must be one value, or one for each of --n-blocks 4, got 2: (2, 4)"),
        (["--T", "2,x,3"], "argument --T: must be a whole number of at least 1, got 'x'"),
        (["--T", "2,"], "argument --T: must be a whole number of at least 1, got ''"),
        (["--head-type", "reweight,x"], "argument --head-type: must be one of hybrid, reweight, content, got 'x'"),
        (["--reweight-T", "-1"], "argument --reweight-T: must be a whole number of at least 0"),
        (
            ["--T", "32", "--reweight-T", "3"],
            "--reweight-T is for hybrid heads, but block 1 has reweight heads with --T 32",
        ),
        (
            ["--T", "32", "--head-type", "hybrid", "--reweight-T", "33"],
            "--reweight-T must be from 1 to the window, --T 32 in block 1",
        ),
        (["--n-blocks", "2", "--T", "2,3", "--position", "absolute"], "absolute positions have one window"),
        (["--n-heads", "3"], "--n-emb must be a multiple of --n-heads, got --n-emb 64 and --n-heads 3"),
    ],
)
def test_errors_name_the_options(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], says: str
) -> None:
    out = str(tmp_path / "m.safetensors")
    code, _, err = run(capsys, "train", str(corpus_file), "--out", out, "--size", "nano", *wrong)
    assert code == 2
    assert says in err


# Several processes


@pytest.mark.skipif(sys.platform == "win32", reason="PyTorch's own launcher has no gloo store there")
def test_two_processes_train_like_one(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Rounding errors grow from step to step: to 2e-4 in 40 steps of so small a model at nano's AdamW learning rate.
    options = [*FAST, "--steps", "40", "--eval-interval", "5", "--batch-chars", "256", "--learning-rate", "0.001"]
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
