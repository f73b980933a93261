"""Tests of `knock train`: interrupted and resumed runs."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from knock import ModelConfig
from knock.errors import TrainingError
from knock.files.checkpoint import read_checkpoint
from knock.jobs.row_file import locked
from knock.models import shipped
from knock_training import trainer
from knock_training.data import Corpus
from knock_training.recipe import Recipe
from knock_training.state import read_state, state_path, write_state
from knock_training.trainer import TrainingResult, train
from tests.cli.test_main import CORPUS, FAST, KNOCK, run

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
        torch.set_num_threads(2)
        assert run(capsys, "train", str(corpus_file), "--out", str(parts), "--resume")[0] == 0
    assert read_checkpoint(parts).digest == read_checkpoint(whole).digest
    assert not state_path(parts).exists()
    left = {each.name for each in tmp_path.iterdir()} - {"mary.txt", parts.name, whole.name}
    assert len(left) <= 1  # it may have been killed while it wrote a file
    assert all(re.fullmatch(r"\.?parts\.safetensors\.\w+\.tmp", name) for name in left)


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


def test_resume_with_values_for_each_block(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights are those of an uninterrupted run, and other values are rejected."""
    shape = {"n_blocks": 2, "T": (2, 8), "head_type": ("reweight", "hybrid"), "reweight_T": 4}
    model, whole = corpus_file.with_name("m.safetensors"), corpus_file.with_name("whole.safetensors")
    stopped(corpus_file, model, **shape)
    resume = ["train", str(corpus_file), "--out", str(model), "--resume"]
    code, _, err = run(capsys, *resume, "--T", "2,4")
    assert (code, "--T was [2, 8] and is [2, 4]" in err) == (1, True)
    assert run(capsys, *resume)[0] == 0
    expected, result = stopped(corpus_file, whole, after=6, **shape).weights, read_checkpoint(model).weights
    assert result.config == expected.config
    assert result.config.windows == (2, 8)
    assert all(np.array_equal(result[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--learning-rate", "0.5"], ": --learning-rate was 0.003 and is 0.5;"),
        (["--T", "4"], ": --T was 8 and is 4;"),
        (["--size", "small"], "--n-emb was 16 and is 128"),
        (["--lowercase"], ": --lowercase was False and is True"),
        (["--vocab-from", "shakespeare-nano"], "vocabulary was "),
        (["--seed", "4", "--dropout", "0.5"], ": --dropout was 0.0 and is 0.5, --seed was 3 and is 4"),
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


def stopped(corpus_file: Path, model: Path, after: int = 2, **shape: Any) -> TrainingResult:
    """Train for a few steps and stop."""
    corpus = Corpus.read(corpus_file)
    shape = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 1, "n_heads": 2, **shape}
    recipe, asked = Recipe(steps=6, batch_chars=128, eval_interval=2, seed=3), iter(range(after))
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **shape)
    return train(config, corpus, recipe, state=state_path(model), should_stop=lambda: next(asked, None) is None)


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
        assert "pass --force instead of --resume, or another --out" in err


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
    message = f"cannot write {str(state_path(model))!r}: file too large; make room and start the run again"
    assert f"knock: error: {message}\n" in done.stderr
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


@pytest.mark.parametrize("rate", ["1e15", "1e30"])
def test_weights_that_are_not_finite_count_as_divergence(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], rate: str
) -> None:
    """No state is kept, because a resumed run would diverge too."""
    model = corpus_file.with_name("m.safetensors")
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST, "--eval-interval", "1"]
    code, _, err = run(capsys, *arguments, "--learning-rate", rate)
    assert (code, "rates" in err, "retrain" in err) == (1, True, False)
    assert not state_path(model).exists()


# The conditions of a resumed run


def interrupted(corpus_file: Path, model: Path, step: int, **change: Any) -> None:
    """Leave the state that `knock train` with `FAST` would leave after a step, with changes to its environment."""
    corpus = Corpus.read(corpus_file)
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, T=8, n_emb=16, nodes=16, n_blocks=1, n_heads=2)
    asked = iter(range(step))
    recipe = Recipe(steps=6, batch_chars=128, eval_interval=2)
    train(config, corpus, recipe, state=state_path(model), should_stop=lambda: next(asked, None) is None)
    what, saved = read_state(state_path(model))
    saved["environment"] |= change
    write_state(state_path(model), what, saved)


def test_resumed_run_keeps_its_number_of_threads(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = corpus_file.with_name("m.safetensors")
    for threads, options, expected in ((1, [], 1), (2, [], 2), (1, ["--threads", "2"], 2)):
        interrupted(corpus_file, model, 3, threads=threads)
        torch.set_num_threads(3)
        arguments = ["train", str(corpus_file), "--out", str(model), "--resume", *options]
        code, _, err = run(capsys, *arguments)
        assert code == 0, err
        assert read_checkpoint(model).training["recipe"]["threads"] == expected
        plural = "" if threads == 1 else "s"
        assert f"resuming after 3 of 6 steps, with {threads} CPU thread{plural} as before" in err or options
        assert ("resuming with CPU threads: 2, was 1. The weights will not be exactly" in err) == bool(options)
        model.unlink()


@pytest.mark.parametrize(
    ("change", "notice"),
    [
        ({"torch": "2.0"}, f"PyTorch: {torch.__version__}, was 2.0"),
        ({"processor": "Z80", "processes": 2}, "processes: 1, was 2; processor: "),
        ({"torch": "2.0", "threads": None}, ""),  # the fastest number of threads: never the same twice
    ],
)
def test_other_conditions_are_reported_if_they_matter(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], notice: str
) -> None:
    model = corpus_file.with_name("m.safetensors")
    interrupted(corpus_file, model, 3, **change)
    code, _, err = run(capsys, "train", str(corpus_file), "--out", str(model), "--resume")
    assert code == 0, err
    assert ("The weights will not be exactly those of an uninterrupted run" in err) == bool(notice)
    assert notice in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_resumed_run_keeps_its_device(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = corpus_file.with_name("m.safetensors")
    interrupted(corpus_file, model, 3, device="cuda", threads=None)
    arguments = ["train", str(corpus_file), "--out", str(model), "--resume"]
    code, _, err = run(capsys, *arguments)
    assert (code, "'cuda', which is not available here; pass --device cpu to continue it" in err) == (1, True)
    assert run(capsys, *arguments, "--device", "cpu")[0] == 0


def test_finished_run_is_not_resumed(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that the message suggests works, and leaves the model as it is."""
    model = corpus_file.with_name("m.safetensors")
    arguments = ["train", str(corpus_file), "--out", str(model), *FAST]
    assert run(capsys, *arguments)[0] == 0
    before = model.read_bytes()
    code, _, err = run(capsys, *arguments, "--resume")
    found = re.search(r"has no unfinished run to resume; .* run: knock (train CORPUS --from \S+ --out \S+)\n", err)
    assert (code, err.count("\n")) == (1, 1)
    assert found
    assert "--force" not in err
    new = model.with_name("NEW.safetensors")
    words = [{"CORPUS": str(corpus_file), new.name: str(new)}.get(word, word) for word in found[1].split()]
    assert run(capsys, *words, "--steps", "1", "--batch-chars", "64")[0] == 0
    assert model.read_bytes() == before
    assert new.exists()


def test_resume_without_a_state_raises() -> None:
    corpus = Corpus.from_text(TEXT, "fox.txt")
    with pytest.raises(TrainingError, match="resume=True needs a state to resume from"):
        train(ModelConfig(vocab_size=corpus.vocab.vocab_size, **TINY), corpus, SHORT, resume=True)
