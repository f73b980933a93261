"""Tests of how `knock train` reads its corpus, and of what it reports about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from knock.cli.train import corpus as corpus_module
from knock.cli.train.corpus import recommended_min_count
from knock.files.checkpoint import read_checkpoint
from knock_training.data import Corpus
from knock_training.recipe import Recipe
from knock_training.sizes import SIZES
from knock_training.state import read_state, state_path
from knock_training.trainer import train
from tests.cli.test_main import CORPUS, FAST, KNOCK, run

RARE = CORPUS + "ΩΩ" + "π"
LARGE = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))  # characters seen once


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str]:
    """A corpus with rare characters, and the model to write."""
    corpus = tmp_path / "rare.txt"
    corpus.write_text(RARE, encoding="utf-8")
    return str(corpus), str(tmp_path / "m.safetensors")


def test_marks_and_joined_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "10.txt").write_text(CORPUS.rstrip("\n") + "\ufeff", encoding="utf-8")
    (tmp_path / "9.txt").write_text(CORPUS.rstrip("\n"), encoding="utf-8")
    model = tmp_path / "m.safetensors"
    code, _, err = run(capsys, "train", str(tmp_path), "--out", str(model), *FAST)
    assert code == 0
    assert f"{2 * len(CORPUS.rstrip()) + 1:,} characters, {len(set(CORPUS))} distinct" in err
    assert err.count("dropped byte-order marks (U+FEFF) inside the text: 1\n") == 1
    assert read_checkpoint(model).vocab.characters == tuple(sorted(set(CORPUS)))


def test_standard_input_is_spooled(tmp_path: Path) -> None:
    command = [*KNOCK, "train", "-", "--out", "m.safetensors", *FAST]
    folder = tmp_path / "temporary"
    folder.mkdir()
    result = subprocess.run(
        command,
        input=CORPUS.encode(),
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(folder)},
        check=True,
    )
    assert f"standard input: {len(CORPUS):,} characters".encode() in result.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_full_temporary_folder_is_named(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); "
        "from knock.cli.main import main; sys.exit(main(['train', '-', '--out', 'm.npz']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=CORPUS.encode(),
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=False,
    )
    assert result.returncode == 1
    error = result.stderr.decode().splitlines()[-1]
    assert (
        f"cannot write to the temporary folder {str(tmp_path)!r}: file too large; set TMPDIR to another folder" in error
    )


@pytest.mark.parametrize(("given", "done"), [([], "skipped"), (["--unknown", "replace"], "replaced")])
def test_min_count(paths: tuple[str, str], capsys: pytest.CaptureFixture[str], given: list[str], done: str) -> None:
    corpus, model = paths
    code, _, err = run(capsys, "train", corpus, "--out", model, *FAST, "--min-count", "3", *given)
    assert code == 0
    rare = f"2 of {len(set(RARE))} distinct ones, 3 in all, {3 / len(RARE):.2%} of the text\n"
    assert f"{done} characters that occur fewer than 3 times: {rare}" in err
    assert read_checkpoint(model).vocab.characters == tuple(sorted(set(CORPUS)))


def test_min_count_is_part_of_the_state(paths: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A resumed run has the vocabulary of the run that it resumes, and ends in the weights of an uninterrupted one."""
    corpus, model = paths
    arguments = ["train", corpus, "--out", model, *FAST]
    assert run(capsys, *arguments, "--min-count", "2", "--unknown", "replace")[0] == 0
    whole = read_checkpoint(model)
    Path(model).unlink()
    of_fast = {"steps": 6, "batch_chars": 128, "eval_interval": 2, "precision": "float32"}
    recipe = Recipe(**SIZES["nano"].recipe | of_fast)
    text = Corpus.read(corpus, min_count=2, unknown="replace")
    steps = iter(range(3))
    train(whole.weights.config, text, recipe, state=state_path(model), should_stop=lambda: next(steps, None) is None)
    assert read_state(state_path(model))[0]["min_count"] == 2
    code, _, err = run(capsys, *arguments, "--resume", "--min-count", "3")
    assert code == 1
    assert "--min-count was 2 and is 3" in err
    code, _, err = run(capsys, *arguments, "--resume")
    assert code == 0
    assert f"replaced characters that occur fewer than 2 times: 1 of {len(set(RARE))} distinct ones, 1 in all, " in err
    resumed = read_checkpoint(model)
    assert resumed.vocab == whole.vocab
    assert all(np.array_equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--min-count", "2", "--unknown", "error"], "--unknown must be skip or replace"),
        (["--min-count", "2", "--vocab-from", "shakespeare-nano"], "drop --min-count"),
        (["--min-count", "0"], "at least 1"),
    ],
)
def test_min_count_excludes_other_options(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, _, err = run(capsys, "train", paths[0], "--out", paths[1], *arguments)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_min_count_that_leaves_nothing(paths: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", paths[0], "--out", paths[1], "--min-count", "100000")
    assert code == 1
    assert "no character of corpus 'rare.txt' occurs 100,000 times; lower the minimum count" in err


def test_min_count_is_recommended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = tmp_path / "c.txt", tmp_path / "m.safetensors"
    path.write_text(CORPUS * 10 + LARGE, encoding="utf-8")
    share = f"{1000 / (1000 + 10 * len(CORPUS)):.2%}"
    common = ["train", str(path), "--out", str(model), *FAST, "--force"]
    notice = f"1,000 of its {1000 + len(set(CORPUS)):,} characters occur fewer than 2 times, {share} of the text; "
    err = run(capsys, *common)[2]
    assert f"{notice}--min-count 2 leaves them out\n" in err
    assert err.count("--min-count") == 1
    err = run(capsys, *common, "--min-count", "2")[2]
    rare = f"1,000 of {1000 + len(set(CORPUS)):,} distinct ones, 1,000 in all, {share} of the text\n"
    assert f"skipped characters that occur fewer than 2 times: {rare}" in err
    assert "--min-count" not in err


@pytest.mark.parametrize(
    ("occurrences", "expected"),
    [
        ([1] * 1000 + [200_000], 2),
        ([1] * 1000 + [2] * 1000 + [3, 4] * 500 + [1_000_000], 5),
        ([1] * 1000 + [2] * 1000 + [100_000], 2),
        ([1] * 1000 + [1000], None),  # half of the text
        ([1] * 100 + [1_000_000], None),  # not worth it
        ([1_000] * 5000, None),
    ],
)
def test_recommended_min_count(occurrences: list[int], expected: int | None) -> None:
    assert recommended_min_count(np.array(occurrences)) == expected


def test_no_recommendation_for_a_model_to_fine_tune(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "_MANY", 1)
    path, base = tmp_path / "c.txt", tmp_path / "base.safetensors"
    path.write_text(CORPUS * 10 + LARGE, encoding="utf-8")
    assert "--min-count" in run(capsys, "train", str(path), "--out", str(base), *FAST)[2]
    arguments = ["train", str(path), "--out", str(tmp_path / "m.npz"), "--vocab-from", str(base), "--steps", "1"]
    assert "--min-count" not in run(capsys, *arguments)[2]
