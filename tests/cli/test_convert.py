"""Tests of `knock convert`: conversion is lossless."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import knock
from knock import ReweightGPT, Vocab
from knock.cli.main import main
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.models import shipped
from knock.weights import Weights
from tests.cases import SMALL, models, random_tokens, random_weights
from tests.cli.test_main import run
from tests.files.test_npz import OLDER, older

VOCAB = Vocab("\nabcdefghij")
TEXT = "abcdefghij\nbadge\n"
RECORD = {"corpus": {"name": "a.txt"}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, random_weights(SMALL["hybrid-relative"], 0), VOCAB, RECORD)
    return path


def test_round_trip(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    npz, again = file.with_suffix(".npz"), file.with_name("again.safetensors")
    digest = read_checkpoint(file).digest
    assert run(capsys, "convert", str(file), str(npz)) == (
        0,
        f"{npz}: {npz.stat().st_size:,} bytes, from {file.stat().st_size:,}\ndigest {digest}\n",
        "",
    )
    assert run(capsys, "convert", str(npz), str(again))[0] == 0
    tokens = random_tokens(SMALL["hybrid-relative"], 30)
    expected = knock.load(file).model.logits(tokens)
    for path in (npz, again):
        model = knock.load(path)
        assert np.array_equal(model.model.logits(tokens), expected)
        assert (model.digest, model.vocab, model.training) == (digest, VOCAB, RECORD)


def test_conversion_there_and_back_gives_the_same_bytes(file: Path) -> None:
    first, *others = (file.with_name(name) for name in ("1.npz", "2.npz", "3.npz"))
    for out in (first, *others):
        assert main(["convert", str(file), str(out)]) == 0
        assert out.read_bytes() == first.read_bytes()
    for name in ("4.safetensors", "5.safetensors", "6.safetensors"):
        assert main(["convert", str(first), str(file.with_name(name))]) == 0
        assert file.with_name(name).read_bytes() == file.read_bytes()


def test_repeated_conversion_in_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    for seed, name in enumerate(("1.safetensors", "2.safetensors", "3.safetensors")):
        command = [sys.executable, "-m", "knock", "convert", "shakespeare-nano", str(tmp_path / name)]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        subprocess.run(command, check=True, capture_output=True, env=environment)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@given(models(), st.sampled_from([".npz", ".safetensors"]), st.sampled_from([".npz", ".safetensors"]))
def test_any_model_to_any_format(
    tmp_path_factory: pytest.TempPathFactory, weights: Weights, before: str, after: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    source, out = folder / f"in{before}", folder / f"out{after}"
    write_checkpoint(source, weights)
    assert main(["convert", str(source), str(out)]) == 0
    result = read_checkpoint(out)
    assert result.weights.config == weights.config
    assert all(np.array_equal(result.weights[name], weights[name]) for name in weights)


def test_every_command_takes_the_converted_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "nano.npz"
    assert run(capsys, "convert", "shakespeare-nano", str(path))[0] == 0
    arguments = ["generate", "ROMEO:", "--length", "60", "--seed", "7"]
    generated = run(capsys, *arguments, "--model", str(path))
    assert generated == run(capsys, *arguments, "--model", "shakespeare-nano")
    assert generated[0] == 0
    assert (
        run(capsys, "info", str(path))[1].splitlines()[3:]
        == (run(capsys, "info", "shakespeare-nano")[1].splitlines()[3:])
    )


def test_bfloat16_is_smaller_and_reports_the_changed_digest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    npz, half, whole = (tmp_path / name for name in ("m.npz", "half.safetensors", "whole.npz"))
    weights = random_weights(SMALL["hybrid-relative"], 0)
    exact = write_checkpoint(npz, weights, VOCAB)
    code, out, err = run(capsys, "convert", str(npz), str(half), "--stored", "bfloat16")
    assert code == 0
    rounded = read_checkpoint(half)
    assert err == f"knock: the weights were rounded to bfloat16, which changes the digest; it was {exact}\n"
    assert out.endswith(f"digest {rounded.digest}\n")
    assert rounded.digest != exact
    assert half.stat().st_size < npz.stat().st_size
    assert run(capsys, "convert", str(half), str(whole))[::2] == (0, "")  # rounded weights are preserved exactly
    assert read_checkpoint(whole).digest == rounded.digest
    again = tmp_path / "again.safetensors"
    assert run(capsys, "convert", str(whole), str(again), "--stored", "bfloat16")[::2] == (0, "")
    assert read_checkpoint(again).digest == rounded.digest


def test_older_layout_with_its_corpus(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, corpus, out = tmp_path / "older.npz", tmp_path / "corpus.txt", tmp_path / "m.safetensors"
    older(source, OLDER, 0)
    corpus.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert run(capsys, "convert", str(source), str(out), "--vocab", str(corpus))[::2] == (0, "")
    tokens = random_tokens(OLDER, 20)
    model = knock.load(out)
    assert model.vocab.characters == tuple("\nabcdefghij")
    assert np.array_equal(model.model.logits(tokens), ReweightGPT.load(source).logits(tokens))
    code, _, err = run(capsys, "convert", str(source), str(tmp_path / "bare.npz"))
    assert code == 0
    assert err == "knock: the model has no vocabulary, so it cannot be used for text; pass --vocab FILE to add one\n"
    assert read_checkpoint(tmp_path / "bare.npz").vocab is None


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["m.safetensors"], 2, "OUT"),
        (["m.safetensors", "o.npz", "--stored", "float16"], 2, "invalid choice: 'float16'"),
        (["m.safetensors", "o.bin"], 2, "argument OUT: must end in .safetensors or .npz, got 'o.bin'"),
        (["m.safetensors", "o.npz", "--stored", "bfloat16"], 1, "holds float32, got 'bfloat16'"),
        (["m.safetensors", "none/o.npz"], 1, "cannot write the model file"),
        (["m.safetensors", "folder.npz"], 1, "not a regular file"),
        (["m.safetensors", "./m.safetensors", "--force"], 1, "is also an input of this command; choose another name"),
        ([".", "m.safetensors", "--force"], 1, "is also an input of this command; choose another name"),
        (
            ["m.safetensors", "there.npz"],
            1,
            "'there.npz' already exists; pass --force to overwrite it",
        ),
        (["nowhere.npz", "o.npz"], 1, "neither a file nor a shipped model"),
        (["there.npz", "o.safetensors"], 1, "not a valid knock model file"),
        (["m.safetensors", "o.npz", "--vocab", "corpus.txt"], 1, "the model already has a vocabulary, 11 characters"),
        (["older", "o.npz", "--vocab", "short.txt"], 1, "has 11 tokens, but 'short.txt' has 3 distinct characters"),
        (["older", "o.npz", "--vocab", "empty.txt"], 1, "'empty.txt' is empty"),
        (["older", "o.npz", "--vocab", "nowhere.txt"], 1, "no such file"),
        (["older", "o.npz", "--vocab", "binary.txt"], 1, "not UTF-8 text: byte 0xff"),
    ],
)
def test_invalid_input_is_reported_on_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str],
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(file.parent)
    Path("folder.npz").mkdir()
    Path("older").mkdir()
    older(Path("older/o.npz"), OLDER, 0)
    for name, content in {
        "corpus.txt": TEXT.encode(),
        "short.txt": b"aab\n",
        "empty.txt": b"",
        "binary.txt": b"\xff",
    }.items():
        Path(name).write_bytes(content)
    if arguments[0] != ".":
        Path("there.npz").write_bytes(b"mine")
    if arguments[0] == ".":
        Path("folder.npz").rmdir()
    before = {path: path.stat().st_size for path in file.parent.rglob("*")}
    exit_code, out, err = run(capsys, "convert", *arguments)
    assert (exit_code, out) == (code, "")
    assert says in err
    assert err.startswith("knock")
    assert err.count("\n") == 1
    assert {path: path.stat().st_size for path in file.parent.rglob("*")} == before


def test_force_overwrites_a_file(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    out = file.with_suffix(".npz")
    out.write_bytes(b"mine")
    assert run(capsys, "convert", str(file), str(out), "--force")[0] == 0
    assert read_checkpoint(out).digest == read_checkpoint(file).digest


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_link_to_the_input_is_rejected_as_output(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    before = file.read_bytes()
    for name, link in (("soft.npz", Path.symlink_to), ("hard.npz", Path.hardlink_to)):
        other = file.with_name(name)
        link(other, file)
        code, _, err = run(capsys, "convert", str(file), str(other), "--force")
        assert (code, err.count("\n")) == (1, 1)
        assert "is also an input of this command; choose another name" in err
    assert file.read_bytes() == before


def test_in_a_separate_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "knock", "convert", str(shipped()["shakespeare-nano"]), str(tmp_path / "m.npz")]
    # An own environment: readline, if it is loaded here, adds COLUMNS to the inherited one.
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 2
