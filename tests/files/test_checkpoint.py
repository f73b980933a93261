import hashlib
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given

from knock import Vocab
from knock.errors import CheckpointError
from knock.files.checkpoint import check_writable, model_digest, read_checkpoint, write_checkpoint
from knock.models import shipped
from knock.weights import Weights
from tests.cases import MIXED, SMALL, models, random_weights

CONFIG = SMALL["hybrid-absolute"]
VOCAB = Vocab('\n\x07 "\\abé日😀z')
RECORD = {"corpus": {"name": "a.txt"}, "losses": [1.5, 2.25]}
ROOT = Path(__file__).parents[2]
SHIPPED = shipped()["shakespeare-hybrid"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, random_weights(CONFIG, 0), VOCAB, RECORD)
    return path


def rejects(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    return str(caught.value)


@given(models())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> None:
    path = tmp_path_factory.mktemp("round") / "m.safetensors"
    digest = write_checkpoint(path, weights)
    checkpoint = read_checkpoint(path)
    assert checkpoint.weights.config == weights.config
    assert all(np.array_equal(checkpoint.weights[name], weights[name]) for name in weights)
    assert checkpoint.vocab is None
    assert checkpoint.training == {}
    assert checkpoint.digest == digest == model_digest(weights)


@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_blocks_that_differ_are_written_as_lists(tmp_path: Path, kind: str, suffix: str) -> None:
    config = MIXED[kind]
    path = tmp_path / f"m{suffix}"
    write_checkpoint(path, random_weights(config, 0), VOCAB, RECORD)
    checkpoint = read_checkpoint(path)
    assert checkpoint.weights.config == config
    again = path.with_name(f"again{suffix}")
    write_checkpoint(again, checkpoint.weights, checkpoint.vocab, checkpoint.training)
    assert again.read_bytes() == path.read_bytes()


def test_models_whose_blocks_are_alike_are_written_as_ever(tmp_path: Path) -> None:
    """The bytes are those of before there were values for each block."""
    digest = hashlib.sha256()
    for config in SMALL.values():
        for path in (tmp_path / "m.safetensors", tmp_path / "m.npz"):
            write_checkpoint(path, random_weights(config, 0), VOCAB, RECORD)
            digest.update(path.read_bytes())
    assert digest.hexdigest()[:16] == "e020ed4729b144bf"


def test_round_trip_of_vocabulary_and_record(file: Path) -> None:
    checkpoint = read_checkpoint(file)
    assert checkpoint.vocab == VOCAB
    assert checkpoint.training == RECORD


WRITES = """
import sys
from knock import Vocab
from knock.files.checkpoint import write_checkpoint
from tests.cases import SMALL, random_weights
for path in sys.argv[1:]:
    record = {name: name for name in {"corpus", "losses", "recipe", "seconds", "seed"}}  # in the order of their hashes
    stored = "bfloat16" if "half" in path else "float32"
    write_checkpoint(path, random_weights(SMALL["hybrid-absolute"], 0), Vocab("abcdefghijk"), record, stored=stored)
"""


@pytest.mark.parametrize("name", ["m.safetensors", "half.safetensors", "m.npz"])
def test_equal_models_give_equal_bytes(tmp_path: Path, name: str) -> None:
    paths = [[str(tmp_path / f"{seed}{repeat}{name}") for repeat in range(4)] for seed in range(3)]
    for seed, repeats in enumerate(paths):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        subprocess.run([sys.executable, "-c", WRITES, *repeats], check=True, env=environment, cwd=ROOT)
    first, *others = [Path(path).read_bytes() for repeats in paths for path in repeats]
    assert all(other == first for other in others)
    assert read_checkpoint(paths[0][0]).training["seed"] == "seed"


def test_header_is_sorted_and_aligned(file: Path) -> None:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert list(header) == sorted(header)
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert max(ends) == len(content) - 8 - length
    arrays = safetensors.numpy.load_file(file)
    assert all(np.array_equal(arrays[name], array) for name, array in random_weights(CONFIG, 0).items())


def test_files_with_an_unsorted_header_are_read(file: Path) -> None:
    content = file.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header = {**dict(reversed(header.items())), "__metadata__": dict(reversed(header["__metadata__"].items()))}
    shuffled = json.dumps(header).encode()
    shuffled += b" " * (-len(shuffled) % 8)
    file.write_bytes(len(shuffled).to_bytes(8, "little") + shuffled + content[begin:])
    checkpoint = read_checkpoint(file)
    assert (checkpoint.vocab, checkpoint.training) == (VOCAB, RECORD)
    write_checkpoint(file, checkpoint.weights, checkpoint.vocab, checkpoint.training)
    assert file.read_bytes() == content


def test_round_trip_of_lowercase(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, random_weights(CONFIG, 0), Vocab("abcdefghijk", lowercase=True))
    assert read_checkpoint(path).vocab.lowercase


def test_metadata_follows_the_format(file: Path) -> None:
    with safetensors.safe_open(file, "np") as opened:
        metadata = opened.metadata()
    assert metadata["knock.format"] == "1"
    assert json.loads(metadata["knock.config"]) == CONFIG.to_dict()
    assert json.loads(metadata["knock.vocab"]) == list(VOCAB.characters)
    assert json.loads(metadata["knock.training"]) == RECORD
    assert len(metadata["knock.digest"]) == 64


def test_digest_depends_on_arrays_config_and_vocabulary() -> None:
    weights = random_weights(CONFIG, 0)
    digests = {
        model_digest(weights, VOCAB),
        model_digest(weights),
        model_digest(weights, Vocab(reversed(VOCAB.characters))),
        model_digest(random_weights(CONFIG, 1), VOCAB),
        model_digest(Weights(type(CONFIG)(**CONFIG.to_dict() | {"alpha": 0.25}), weights), VOCAB),
    }
    assert len(digests) == 5


def test_bfloat16_halves_the_file_and_rounds_to_nearest(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    arrays = dict(random_weights(SMALL["hybrid-relative"], 0))
    halfway = (np.arange(12, dtype=np.uint32) << 16) + 0x3F808000  # halfway between two neighbours, to round to even
    arrays["ln_f.gain"] = halfway.view(np.float32)
    weights = Weights(SMALL["hybrid-relative"], arrays)
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    write_checkpoint(full, weights)
    digest = write_checkpoint(half, weights, stored="bfloat16")
    checkpoint = read_checkpoint(half)
    assert checkpoint.digest == digest
    for name, array in weights.items():
        expected = torch.from_numpy(array.copy()).to(torch.bfloat16).float().numpy()
        assert np.array_equal(checkpoint.weights[name], expected)
    saved = full.stat().st_size - half.stat().st_size
    assert saved == pytest.approx(2 * weights.n_parameters, abs=2000)


def test_truncated_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(SHIPPED.read_bytes())
    read_checkpoint(path)
    for length in reversed(range(0, path.stat().st_size, 97)):
        os.truncate(path, length)
        rejects(path)


def test_2000_single_bit_flips_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "flipped.safetensors"
    content = bytearray(SHIPPED.read_bytes())
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    # Half of them in the small header, where more can go wrong.
    places = np.concatenate((rng.integers(0, 8 * header, 1000), rng.integers(8 * header, 8 * len(content), 1000)))
    for place in places.tolist():
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        rejects(path)
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    read_checkpoint(path)


def test_every_bit_flip_in_a_header_is_rejected(file: Path) -> None:
    content = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for place in range(8 * header):
        content[place // 8] ^= 1 << place % 8
        file.write_bytes(content)
        rejects(file)
        content[place // 8] ^= 1 << place % 8


def test_trailing_bytes_are_rejected(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    rejects(file)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"hello, I am a text file\n" * 50, b"[" * 100_000])
def test_other_content_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.safetensors"
    path.write_bytes(content)
    assert "not a valid knock model file" in rejects(path)


def test_model_of_another_program_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"weight": np.zeros((2, 2), np.float32)}, path)
    assert "knock.format" in rejects(path)


def rewritten(file: Path, **metadata: str) -> str:
    """Rewrite a file with other metadata and a matching checksum; return the error of reading it."""
    from knock.files.checkpoint import _checksum

    arrays = safetensors.numpy.load_file(file)
    with safetensors.safe_open(file, "np") as opened:
        changed = opened.metadata() | {f"knock.{key}": value for key, value in metadata.items()}
    del changed["knock.checksum"]
    changed["knock.checksum"] = _checksum(changed)
    safetensors.numpy.save_file(arrays, file, changed)
    return rejects(file)


def test_wrong_digest_and_format_are_rejected(file: Path) -> None:
    assert "digest does not match" in rewritten(file, digest="0" * 64)
    assert "knock.format '1'" in rewritten(file, format="2")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("config", "[]", "not a valid"),
        ("config", "{}", "missing"),
        ("config", "nonsense", "not a valid"),
        ("vocab", '["a"]', "vocab_size 11, but the vocabulary 1"),
        ("training", "[1]", "training record"),
        ("config", json.dumps(CONFIG.to_dict() | {"n_blocks": 3}), "missing"),
        ("config", json.dumps(CONFIG.to_dict() | {"T": 2**20}), "must have shape"),
        ("config", json.dumps(CONFIG.to_dict() | {"T": 10**9}), "T must be"),
        ("config", json.dumps(CONFIG.to_dict() | {"n_blocks": 1000}), "..., unknown []"),
        ("config", json.dumps(CONFIG.to_dict() | {"T": [6]}), "one for each of n_blocks=2, got 1: [6]"),
        (
            "config",
            json.dumps(CONFIG.to_dict() | {"T": [6] * 10**6}),
            "one for each of n_blocks=2, got 1000000: ",
        ),
        ("config", json.dumps(CONFIG.to_dict() | {"T": [[6], 6]}), "T of block 1 must be a whole number"),
        ("config", json.dumps(CONFIG.to_dict() | {"T": [6, 10**9]}), "T of block 2 must be a whole number"),
        ("config", json.dumps(CONFIG.to_dict() | {"T": [6, 5]}), "absolute positions have one window"),
        ("config", json.dumps(CONFIG.to_dict() | {"T": {"6": 6}}), "T must be a whole number"),
        (
            "config",
            json.dumps(CONFIG.to_dict() | {"head_type": [["hybrid"], "hybrid"]}),
            "head_type of block 1 must be",
        ),
        ("config", json.dumps(CONFIG.to_dict() | {"head_type": ["hybrid", "content"]}), "unknown ['blocks.1.gate"),
        ("config", json.dumps(CONFIG.to_dict() | {"reweight_T": 7}), "reweight_T must be from 1 to the window"),
        ("config", json.dumps(CONFIG.to_dict() | {"position": "relative", "reweight_T": 2}), "unknown ['pos']"),
        ("config", json.dumps(CONFIG.to_dict()).replace('"T": 6', '"T": ' + "[" * 99999 + "]" * 99999), "not a valid"),
    ],
)
def test_altered_metadata_is_rejected(file: Path, key: str, value: str, says: str) -> None:
    assert says in rewritten(file, **{key: value})


def test_weights_with_nan_are_rejected(file: Path) -> None:
    arrays = safetensors.numpy.load_file(file)
    with safetensors.safe_open(file, "np") as opened:
        metadata = opened.metadata()
    arrays["blocks.1.w0"][2, 3] = np.nan
    safetensors.numpy.save_file(arrays, file, metadata)
    assert "'blocks.1.w0' has values that are not finite" in rejects(file)


def test_arrays_of_another_type_are_rejected(file: Path) -> None:
    arrays = safetensors.numpy.load_file(file)
    with safetensors.safe_open(file, "np") as opened:
        metadata = opened.metadata()
    safetensors.numpy.save_file({name: array.astype(np.float64) for name, array in arrays.items()}, file, metadata)
    assert "must be F32 or BF16, got F64" in rejects(file)


def test_missing_file_and_folder_are_rejected(tmp_path: Path) -> None:
    assert "no model file" in rejects(tmp_path / "none.safetensors")
    assert "cannot read" in rejects(tmp_path)


def test_write_is_atomic(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="no space left on device"):
        write_checkpoint(file, random_weights(CONFIG, 1), VOCAB)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_write_follows_links_and_the_umask(file: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("links and modes are different there")
    link = file.with_name("link.safetensors")
    link.symlink_to(file)
    write_checkpoint(link, random_weights(CONFIG, 1), VOCAB)
    assert link.is_symlink()
    assert read_checkpoint(file).digest == model_digest(random_weights(CONFIG, 1), VOCAB)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links and pipes")
def test_links_and_pipes_are_rejected(file: Path) -> None:
    folder = file.parent
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    (folder / "dangling.safetensors").symlink_to(folder / "none" / "m.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    weights = random_weights(CONFIG, 0)
    for name in ("loop", "dangling", "pipe"):
        path = folder / f"{name}.safetensors"
        with pytest.raises(CheckpointError, match="cannot write the model file"):
            check_writable(path)
        with pytest.raises(CheckpointError, match="cannot write the model file"):
            write_checkpoint(path, weights)
        rejects(path)
    assert "not a regular file" in rejects(Path("/dev/null"))


def test_interrupted_write_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(file, random_weights(CONFIG, 1), VOCAB)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_concurrent_writers_leave_one_valid_file(file: Path) -> None:
    all_weights = [random_weights(CONFIG, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda weights: write_checkpoint(file, weights, VOCAB), all_weights * 10))
    assert read_checkpoint(file).digest in digests
    assert list(file.parent.iterdir()) == [file]


def test_record_that_is_not_json_serialisable_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="JSON serialisable"):
        write_checkpoint(tmp_path / "m.safetensors", random_weights(CONFIG, 0), training={"loss": np.float32(1)})


def test_check_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder.safetensors").mkdir()
    for bad in ("m.txt", "m", "none/m.safetensors", "folder.safetensors"):
        with pytest.raises(CheckpointError):
            check_writable(tmp_path / bad)


def test_vocabulary_of_another_size_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="11 tokens and the vocabulary 2"):
        write_checkpoint(tmp_path / "m.safetensors", random_weights(CONFIG, 0), Vocab("ab"))


def test_a_text_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text("To be, or not to be é" * 300, encoding="utf-8")
    with pytest.raises(CheckpointError, match="it is a text; pass"):
        read_checkpoint(path)


@pytest.mark.parametrize("path", [None, 3, b"m.npz", ["m.npz"]])
def test_a_path_must_be_a_path(path: Any) -> None:
    weights = random_weights(SMALL["hybrid-relative"], 0)
    for call in (lambda: read_checkpoint(path), lambda: write_checkpoint(path, weights)):
        with pytest.raises(CheckpointError, match="must be given by its path, got"):
            call()
    with pytest.raises(CheckpointError, match="vocab must be a Vocab, got True"):
        write_checkpoint("m.npz", weights, True)  # type: ignore[arg-type]
