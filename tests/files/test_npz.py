"""Tests of model files in NumPy's format: writing, reading and hostile archives."""

from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import knock
from knock import LanguageModel, ReweightGPT, Vocab
from knock.config import ModelConfig
from knock.errors import CheckpointError
from knock.files.checkpoint import model_digest, read_checkpoint, write_checkpoint
from knock.models import locate
from knock.weights import Weights
from tests import naive
from tests.cases import SMALL, float64, models, random_tokens, random_weights

CONFIG = SMALL["hybrid-absolute"]
VOCAB = Vocab('\n\x07 "\\abé日😀z')
RECORD = {"corpus": {"name": "a\u2028b.txt"}, "losses": [1.5, 2.25]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.npz"
    write_checkpoint(path, random_weights(CONFIG, 0), VOCAB, RECORD)
    return path


def rejects(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def npy(array: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


@given(models(), st.sampled_from([None, False, True]), st.dictionaries(st.text(max_size=3), st.integers()))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, weights: Weights, lowercase: bool | None, record: dict[str, int]
) -> None:
    path = tmp_path_factory.mktemp("round") / "m.npz"
    characters = '\x00\n"\\abcdeé日😀\u0300\u2028xyz-+!?'[: weights.config.vocab_size]
    vocab = None if lowercase is None else Vocab(characters, lowercase=lowercase)
    digest = write_checkpoint(path, weights, vocab, record)
    checkpoint = read_checkpoint(path)
    assert checkpoint.weights.config == weights.config
    assert all(np.array_equal(checkpoint.weights[name], weights[name]) for name in weights)
    assert checkpoint.vocab == vocab
    assert checkpoint.training == record
    assert checkpoint.digest == digest == model_digest(weights, vocab)
    assert write_checkpoint(path.with_suffix(".safetensors"), weights, vocab, record) == digest


def test_numpy_reads_the_file(file: Path) -> None:
    weights = random_weights(CONFIG, 0)
    with np.load(file, allow_pickle=False) as arrays:
        texts = {name: arrays[name].item() for name in arrays.files if name.startswith("knock.")}
        assert set(arrays.files) == set(weights) | set(texts)
        assert all(np.array_equal(arrays[name], weights[name]) for name in weights)
        assert {arrays[name].dtype for name in weights} == {np.dtype("<f4")}
    assert texts["knock.format"] == "1"
    assert json.loads(texts["knock.config"]) == CONFIG.to_dict()
    assert json.loads(texts["knock.vocab"]) == list(VOCAB.characters)
    assert json.loads(texts["knock.training"]) == RECORD
    assert texts["knock.digest"] == model_digest(weights, VOCAB)


def test_file_is_reproducible(file: Path) -> None:
    again = file.with_name("again.npz")
    write_checkpoint(again, random_weights(CONFIG, 0), VOCAB, RECORD)
    assert again.read_bytes() == file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}


def test_every_way_to_load_and_save(file: Path, tmp_path: Path) -> None:
    model = knock.load(file)
    assert isinstance(model, LanguageModel)
    tokens = random_tokens(CONFIG, 20)
    expected = model.model.logits(tokens)
    assert np.array_equal(ReweightGPT.load(file).logits(tokens), expected)
    model.save(tmp_path / "text.npz")
    model.model.save(tmp_path / "tokens.npz", vocab=model.vocab)
    for name in ("text", "tokens"):
        again = knock.load(tmp_path / f"{name}.npz")
        assert again.digest == model.digest
        assert np.array_equal(again.model.logits(tokens), expected)
    assert knock.load(tmp_path / "text.npz").training == RECORD


def test_folder_must_hold_one_model(file: Path) -> None:
    assert locate(file.parent) == file
    file.with_suffix(".safetensors").touch()
    with pytest.raises(CheckpointError, match=r"must hold exactly one .safetensors or .npz file, got 2"):
        locate(file.parent)


@pytest.mark.parametrize("model", [None, 3, b"m.npz", ["m.npz"], np.zeros(2), ""])
def test_model_must_be_a_name_or_a_path(model: object) -> None:
    with pytest.raises(CheckpointError, match=r"must be a name or a path, got .*; the default is 'shakespeare-small'"):
        knock.load(model)  # type: ignore[arg-type]


def test_format_is_detected_from_the_content(file: Path) -> None:
    other = file.with_suffix(".model")
    file.rename(other)
    assert read_checkpoint(other).vocab == VOCAB


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_written_by_numpy_are_read(file: Path, save: Callable[..., None]) -> None:
    with np.load(file) as arrays:
        content = dict(arrays)
    digest = read_checkpoint(file).digest
    save(file, **content)
    assert read_checkpoint(file).digest == digest
    order = {name: np.asfortranarray(array) if array.ndim == 2 else array for name, array in content.items()}
    save(file, **order)
    assert read_checkpoint(file).digest == digest
    save(file, **{name: array.astype(array.dtype.newbyteorder(">")) for name, array in content.items()})
    assert read_checkpoint(file).digest == digest


def test_bfloat16_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"an .npz file holds float32, got 'bfloat16'"):
        write_checkpoint(tmp_path / "m.npz", random_weights(CONFIG, 0), stored="bfloat16")
    assert list(tmp_path.iterdir()) == []


def test_write_is_atomic(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="no space left on device"):
        write_checkpoint(file, random_weights(CONFIG, 1), VOCAB)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_truncated_file_is_rejected(file: Path) -> None:
    content = file.read_bytes()
    for length in range(0, len(content), 53):
        file.write_bytes(content[:length])
        rejects(file)


def test_bit_flip_is_rejected_or_harmless(file: Path) -> None:
    """Some bits, such as a member's date, do not affect the model; a file that is read equals the original."""
    content, digest = bytearray(file.read_bytes()), read_checkpoint(file).digest
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(8 * len(content), 1000, replace=False).tolist():
        content[place // 8] ^= 1 << place % 8
        file.write_bytes(content)
        try:
            checkpoint = read_checkpoint(file)
        except CheckpointError:
            refused += 1
        else:
            assert (checkpoint.digest, checkpoint.training, checkpoint.vocab) == (digest, RECORD, VOCAB)
        content[place // 8] ^= 1 << place % 8
    assert refused > 700


def header_with(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace a part of an array's header without changing its length."""
    assert old in data
    changed = data.replace(old, new, 1)
    spare = len(data) - len(changed)
    return changed.replace(b"}", b"}" + b" " * spare, 1) if spare > 0 else changed.replace(b" " * -spare + b"\n", b"\n")


def shell_command() -> object:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
            return os.mkdir, ("pwned",)

    return Trap()


GAIN = "ln_f.gain.npy"
HOSTILE: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "unknown member": (lambda m: m | {"extra.npy": npy(np.zeros(3, np.float32))}, "unknown ['extra']"),
    "unknown metadata": (lambda m: m | {"knock.more.npy": npy(np.array("x"))}, "metadata was altered"),
    "missing member": (lambda m: {name: data for name, data in m.items() if name != GAIN}, "missing ['ln_f.gain']"),
    "path up": (lambda m: m | {"../../evil.npy": npy(np.zeros(3, np.float32))}, "unknown ['../../evil']"),
    "absolute path": (lambda m: m | {"/etc/passwd": b"x"}, "got '/etc/passwd'"),
    "no array": (lambda m: m | {"readme.txt": b"x"}, "got 'readme.txt'"),
    "folder": (lambda m: m | {"folder/": b""}, "got 'folder/'"),
    "pickled": (lambda m: m | {GAIN: npy(np.array([shell_command()] * 12, object), allow_pickle=True)}, "numbers or"),
    "pickled text": (lambda m: m | {"knock.config.npy": npy(np.array({}, object), allow_pickle=True)}, "numbers or"),
    "bytes for text": (lambda m: m | {"knock.config.npy": npy(np.array(b"{}"))}, "numbers or text, got '|S2'"),
    "numbers for text": (lambda m: m | {"knock.config.npy": npy(np.array(1))}, "knock.config must be a single text"),
    "texts for text": (lambda m: m | {"knock.format.npy": npy(np.array(["1"]))}, "must be a single text, got <U1"),
    "no Unicode": (lambda m: m | {"knock.format.npy": npy(np.array("1"))[:-4] + b"\0\0\x11\0"}, "not a valid"),
    "float64": (lambda m: m | {GAIN: npy(np.ones(12))}, "must be float32, got <f8"),
    "float16": (lambda m: m | {GAIN: npy(np.ones(12, np.float16))}, "must be float32, got <f2"),
    "integers": (lambda m: m | {GAIN: npy(np.ones(12, np.int32))}, "must be float32, got <i4"),
    "structured": (lambda m: m | {GAIN: npy(np.zeros(12, "f4,f4"))}, "invalid NumPy header"),
    "complex": (lambda m: m | {GAIN: npy(np.zeros(12, np.complex64))}, "numbers or text"),
    "shape": (lambda m: m | {GAIN: npy(np.ones((3, 4), np.float32))}, "shape [12] by the config, got [3, 4]"),
    "huge shape": (lambda m: m | {GAIN: header_with(m[GAIN], b"12", b"9" * 40)}, "bytes by its shape"),
    "no axes": (lambda m: m | {GAIN: header_with(m[GAIN], b"(12,)", b"(,,)")}, "bytes by its shape"),
    "broken axes": (lambda m: m | {GAIN: header_with(m[GAIN], b"(12,)", b"(1 2,)")}, "invalid type or shape"),
    "no type": (lambda m: m | {GAIN: header_with(m[GAIN], b"<f4", b"<f7")}, "invalid type or shape"),
    "too few values": (lambda m: m | {GAIN: m[GAIN][:-4]}, "must have 176 bytes by its shape, got 172"),
    "too many values": (lambda m: m | {GAIN: m[GAIN] + b"\0" * 4}, "must have 176 bytes by its shape, got 180"),
    "empty": (lambda m: m | {GAIN: b""}, "not in NumPy's format: it begins with b''"),
    "other magic": (lambda m: m | {GAIN: b"\x93NUMPX" + m[GAIN][6:]}, "not in NumPy's format"),
    "other version": (lambda m: m | {GAIN: b"\x93NUMPY\x09\0" + m[GAIN][8:]}, "not in NumPy's format"),
    "code": (lambda m: m | {GAIN: header_with(m[GAIN], b"False", b"f(0)+")}, "invalid NumPy header"),
    "deep header": (lambda m: m | {GAIN: b"\x93NUMPY\x01\0\x60\xea" + b"(" * 60_000}, "invalid NumPy header"),
    "long header": (lambda m: m | {GAIN: b"\x93NUMPY\x02\0\xff\xff\xff\xff" + m[GAIN]}, "invalid NumPy header"),
    "not finite": (lambda m: m | {GAIN: npy(np.full(12, np.inf, np.float32))}, "'ln_f.gain' has values that are not"),
    "other weights": (lambda m: m | {GAIN: npy(np.ones(12, np.float32))}, "the digest does not match"),
    "no metadata": (lambda m: {name: data for name, data in m.items() if "knock." not in name}, "knock.format '1'"),
    "nothing": (lambda m: {}, "knock.format '1'"),
}  # fmt: skip


@pytest.mark.parametrize("trap", HOSTILE)
def test_hostile_archives_are_rejected(file: Path, monkeypatch: pytest.MonkeyPatch, trap: str) -> None:
    monkeypatch.chdir(file.parent)
    make, says = HOSTILE[trap]
    zipped(file, make(members(file)))
    assert says in rejects(file)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_array_is_rejected(file: Path) -> None:
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(GAIN, npy(np.ones(12, np.float32)))
    assert "array 'ln_f.gain' occurs twice" in rejects(file)


def test_encrypted_and_unusually_compressed_arrays_are_rejected(file: Path) -> None:
    content = members(file)
    zipped(file, content, zipfile.ZIP_LZMA)
    assert "must be stored or deflated, got compression type 14" in rejects(file)
    zipped(file, content)
    encrypted = bytearray(file.read_bytes())
    place = encrypted.index(b"PK\x01\x02")  # the first member, in the central directory
    encrypted[place + 8] |= 1
    file.write_bytes(encrypted)
    assert "is encrypted" in rejects(file)


def test_zip_bombs_are_not_unpacked(file: Path) -> None:
    content = members(file)
    for name, data in {
        "padded": {GAIN: content[GAIN] + bytes(50_000_000)},
        "text": {"knock.vocab.npy": npy(np.array("a" * 20_000_000))},
        "unknown": {"bomb.npy": bytes(50_000_000)},
    }.items():
        zipped(file, content | data, zipfile.ZIP_DEFLATED)
        tracemalloc.start()
        assert "more than weights can compress" in rejects(file), name
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000


def test_wrong_size_in_the_directory_is_rejected(file: Path) -> None:
    """The size in the directory fits the config, but the data are longer."""
    content = members(file)
    zipped(file, content | {GAIN: content[GAIN] + bytes(1000)}, zipfile.ZIP_DEFLATED)
    raw = bytearray(file.read_bytes())
    place = raw.index(GAIN.encode(), raw.index(b"PK\x01\x02")) - 46  # in the central directory
    raw[place + 24 : place + 28] = len(content[GAIN]).to_bytes(4, "little")
    file.write_bytes(raw)
    rejects(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"To be, or not to be\n" * 99])
def test_other_content_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    assert "not a valid knock model file" in rejects(path)


def older(path: Path, config: ModelConfig, seed: int, **changes: Any) -> Weights:
    """Write a model in the older layout; return the weights that reading should give."""
    weights = random_weights(config, seed)
    arrays = {name: np.ones_like(a) if name.endswith("gain") else np.zeros_like(a) if name.endswith("bias") else a
              for name, a in weights.items()}  # fmt: skip
    sizes = {name: getattr(config, name) for name in ("T", "n_emb", "nodes", "n_blocks", "n_heads", "vocab_size")}
    content: dict[str, Any] = {**sizes, "embed": arrays["embed"], "pos": arrays["pos"], "w2": arrays["wout"]}
    T, D = config.T, config.n_emb // config.n_heads
    for b in range(config.n_blocks):
        content |= {f"blocks.{b}.{name}": arrays[f"blocks.{b}.{name}"] for name in ("w0", "w1")}
        for h in range(config.n_heads):
            content[f"blocks.{b}.heads.{h}.wv"] = arrays[f"blocks.{b}.wv"][:, h * D : (h + 1) * D]
            content[f"blocks.{b}.heads.{h}.wr"] = arrays[f"blocks.{b}.wr"][:, h * T : (h + 1) * T]
    kept = {name: value for name, value in (content | changes).items() if value is not None}
    np.savez(path, **kept)
    return Weights(config, arrays)


OLDER = ModelConfig(
    vocab_size=11, T=6, n_emb=12, nodes=10, n_blocks=2, n_heads=3, head_type="reweight", position="absolute"
)


def test_older_layout(tmp_path: Path) -> None:
    path = tmp_path / "older.npz"
    expected = older(path, OLDER, 0)
    checkpoint = read_checkpoint(path)
    assert checkpoint.weights.config == OLDER
    assert all(np.array_equal(checkpoint.weights[name], expected[name]) for name in expected)
    assert (checkpoint.vocab, checkpoint.training) == (None, {})
    assert checkpoint.digest == model_digest(expected)
    tokens = random_tokens(OLDER, OLDER.T)
    logits = ReweightGPT.load(path, backend="numpy", precision="float32").logits(tokens)
    assert np.allclose(logits, naive.forward(tokens, float64(expected), OLDER), atol=1e-5)
    with pytest.raises(CheckpointError, match="no vocabulary"):
        knock.load(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"w2": None}, "require 25 arrays, got 24"),
        ({"w2": None, "wout": np.zeros((12, 11), np.float32)}, "missing ['w2'], unknown ['wout']"),
        ({"pos": np.zeros((6, 12))}, "'pos' must be float32, got <f8"),
        ({"pos": np.full((6, 12), np.nan, np.float32)}, "'pos' has values that are not finite"),
        ({"blocks.1.heads.2.wr": np.zeros((12, 7), np.float32)}, "must have shape [12, 6] by the config"),
        ({"T": 7}, "must have shape [7, 12]"),
        ({"T": 6.0}, "T must be a single whole number, got <f8"),
        ({"T": [6]}, "T must be a single whole number, got <i8 of shape [1]"),
        ({"T": True}, "numbers or text, got '|b1'"),
        ({"n_heads": 5}, "n_emb must be a multiple of n_heads"),
        ({"n_heads": 2**20, "n_emb": 2**20, "n_blocks": 1000}, "require 2,097,154,009 arrays, got 25"),
        ({"n_blocks": -1}, "n_blocks must be a whole number"),
        ({"knock.format": "1"}, "knock.checksum is missing"),
    ],
)  # fmt: skip
def test_invalid_older_layout_is_rejected(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    if sys.platform == "win32" and changes == {"T": [6]}:
        pytest.skip("whole numbers are narrower there")
    path = tmp_path / "older.npz"
    older(path, OLDER, 0, **changes)
    assert says in rejects(path)
