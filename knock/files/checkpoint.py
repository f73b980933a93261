"""Read and write model files: arrays, config, vocabulary and training record in one `.safetensors` or `.npz` file.

The metadata is the same in both formats: JSON strings `knock.format` ("1"), `knock.config`, `knock.vocab` (the list of
characters), `knock.lowercase`, `knock.boundary` (only in a model of items) and `knock.training` (recipe and losses),
and two SHA-256 digests in hex.
`knock.digest`, over arrays, config and vocabulary, identifies the model independent of the file format.
`knock.checksum`, over all other metadata, detects changes to the rest of the file.

Files are canonical: equal models with equal training records give equal bytes.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.choices import STORED_TYPES, StoredType
from knock.config import ModelConfig
from knock.errors import CheckpointError, KnockError
from knock.files.output import temporary_path, write_whole
from knock.models import NPZ, SUFFIXES
from knock.validation import is_one_of, shown
from knock.vocab import Vocab
from knock.weights import FloatArray, Weights

FORMAT = "1"

_HEAD = 4096  # bytes that are looked at to recognise a text
_ALIGNMENT = 8  # bytes; the arrays of a safetensors file start at a multiple of it
_ZIP_MAGIC = b"PK\x03\x04"  # every `.npz` file begins with it, and no `.safetensors` file can


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """The contents of a model file.

    Attributes:
        weights: the float32 arrays and their config.
        vocab: the vocabulary; None for a token-level model.
        training: the training record; may be empty.
        digest: SHA-256 of arrays, config and vocabulary, in hex.
    """

    weights: Weights
    vocab: Vocab | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


def model_digest(weights: Weights, vocab: Vocab | None = None) -> str:
    """Return the digest that identifies a model: SHA-256 of config, vocabulary and float32 arrays, 64 hex digits."""
    sha = hashlib.sha256()
    lowercase = vocab is not None and vocab.lowercase
    # Only what a file has counts, so that files of earlier versions keep their digest.
    boundary = [True] if vocab is not None and vocab.has_boundary else []
    sha.update(
        json.dumps([_config_json(weights.config), vocab.to_json() if vocab else None, lowercase, *boundary]).encode()
    )
    for name in sorted(weights):
        sha.update(f"{name} {weights[name].shape}".encode())
        sha.update(weights[name].astype("<f4", copy=False).data)
    return sha.hexdigest()


def write_checkpoint(
    path: str | os.PathLike[str],
    weights: Weights,
    vocab: Vocab | None = None,
    training: Mapping[str, Any] | None = None,
    *,
    stored: StoredType = "float32",
) -> str:
    """Write a model file atomically, and return the model's digest.

    Args:
        path: path ending in `.safetensors` or `.npz`; an existing file is replaced.
        weights: the model.
        vocab: the vocabulary; without one, the file can be used at token level only.
        training: the training record, JSON serialisable.
        stored: `"bfloat16"` halves the file size by rounding each value to 8 bits of precision (nearest, ties to
            even); only for `.safetensors`.

    Raises:
        CheckpointError: if the path has another suffix or cannot be written, or if the vocabulary, the record or
            `stored` does not fit.
    """
    target, is_npz = _target(path), Path(path).suffix.lower() == NPZ
    if not is_one_of(stored, STORED_TYPES):
        raise CheckpointError(f"stored must be one of {', '.join(STORED_TYPES)}, got {shown(stored)}")
    if vocab is not None and not isinstance(vocab, Vocab):
        raise CheckpointError(f"vocab must be a Vocab, got {shown(vocab)}")
    if is_npz and stored != "float32":
        raise CheckpointError(f"an {NPZ} file holds float32, got {stored!r}; write a .safetensors file")
    if vocab is not None and vocab.vocab_size != weights.config.vocab_size:
        raise CheckpointError(
            f"the model has {weights.config.vocab_size} tokens and the vocabulary {vocab.vocab_size} characters; "
            "save the model with its own vocabulary"
        )
    arrays: dict[str, npt.NDArray[Any]] = dict(weights)
    if stored == "bfloat16":
        arrays = {name: _to_bfloat16(array) for name, array in weights.items()}
        weights = Weights(weights.config, {name: _from_bfloat16(bits) for name, bits in arrays.items()})
    digest = model_digest(weights, vocab)
    metadata = {"knock.format": FORMAT, "knock.config": _config_json(weights.config)}
    if vocab is not None:
        metadata |= {"knock.vocab": vocab.to_json(), "knock.lowercase": json.dumps(vocab.lowercase)}
        if vocab.has_boundary:
            metadata["knock.boundary"] = json.dumps(True)
    if training:
        try:
            metadata["knock.training"] = json.dumps(dict(training), sort_keys=True)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"the training record must be JSON serialisable: {error}; use plain Python values"
            ) from error
    metadata["knock.digest"] = digest
    metadata["knock.checksum"] = _checksum(metadata)
    if is_npz:
        from knock.files import npz

        content = npz.serialize(weights, metadata)
    else:
        content = _serialize(arrays, stored, metadata)
    try:
        write_whole(target, content)
    except OSError as error:
        raise _unwritable(target, error) from error
    return digest


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check that a model file can be written, by creating and removing a temporary file in its folder.

    Call it before a long run.

    Raises:
        CheckpointError: if the path has another suffix or its folder is not writable.
    """
    target = _target(path)
    temporary = temporary_path(target)
    try:
        with temporary.open("xb"):
            pass
        temporary.unlink()
    except OSError as error:
        raise _unwritable(target, error) from error


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a model file and validate it: layout, names, shapes, types, values and digests.

    The format is detected from the content, not only the suffix. Reweight-only models in the older npz layout are
    read too.

    Raises:
        CheckpointError: if the file is missing or invalid.
    """
    path = _path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise CheckpointError(f"cannot read the model file {str(path)!r}: it is not a regular file; pass a file")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"no model file at {str(path)!r}; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CheckpointError(f"cannot read the model file {str(path)!r}: {_reason(error)}; check the path") from error
    try:
        return _parse_npz(content) if path.suffix.lower() == NPZ or content.startswith(_ZIP_MAGIC) else _parse(content)
    except (KnockError, ValueError, KeyError, TypeError, RecursionError) as error:
        if _is_text(content):
            raise CheckpointError(
                f"{str(path)!r} is not a valid knock model file: it is a text; pass a model's name or file"
            ) from error
        raise CheckpointError(
            f"{str(path)!r} is not a valid knock model file: {error}. Download or train it again"
        ) from error


def _path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path)
    except TypeError as error:
        raise CheckpointError(f"a model file must be given by its path, got {shown(path)}") from error


def _is_text(content: bytes) -> bool:
    """Whether the beginning of a file is UTF-8 text, as no model file is."""
    head = content[:_HEAD]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut off
    except UnicodeDecodeError:
        return False
    return bool(head) and b"\0" not in head


def _parse(content: bytes) -> Checkpoint:
    arrays, metadata = _deserialize(content)
    return _checkpoint(_config(metadata), arrays, metadata)


def _parse_npz(content: bytes) -> Checkpoint:
    from knock.files.npz import Archive

    archive = Archive(content)
    if archive.is_older:
        weights = archive.older_weights()
        return Checkpoint(weights=weights, digest=model_digest(weights))
    metadata = archive.metadata()
    config = _config(metadata)
    return _checkpoint(config, archive.arrays(config), metadata)


def _config(metadata: Mapping[str, str]) -> ModelConfig:
    """Validate the metadata and return the config in it."""
    found = metadata.get("knock.format")
    if found != FORMAT:
        raise ValueError(f"expected knock.format {FORMAT!r} in the metadata, got {shown(found)}")
    rest = {key: value for key, value in metadata.items() if key != "knock.checksum"}
    if metadata.get("knock.checksum") != _checksum(rest):
        raise ValueError("the metadata was altered: knock.checksum is missing or does not match")
    return ModelConfig.from_dict(json.loads(metadata["knock.config"]))


def _checkpoint(config: ModelConfig, arrays: Mapping[str, FloatArray], metadata: Mapping[str, str]) -> Checkpoint:
    vocab = None
    if "knock.vocab" in metadata:
        lowercase, boundary = (json.loads(metadata.get(f"knock.{name}", "false")) for name in ("lowercase", "boundary"))
        vocab = Vocab.from_json(metadata["knock.vocab"], lowercase=lowercase, boundary=boundary)
        if vocab.vocab_size != config.vocab_size:
            raise ValueError(f"the config has vocab_size {config.vocab_size}, but the vocabulary {vocab.vocab_size}")
    weights = Weights(config, arrays)
    digest = model_digest(weights, vocab)
    if digest != metadata.get("knock.digest"):
        raise ValueError("the weights were altered: the digest does not match")
    training = json.loads(metadata.get("knock.training", "{}"))
    if not isinstance(training, dict):
        raise ValueError(f"the training record must be a JSON object, got {type(training).__name__}")
    return Checkpoint(weights=weights, vocab=vocab, training=training, digest=digest)


def _config_json(config: ModelConfig) -> str:
    return json.dumps(config.to_dict(), sort_keys=True)


def _checksum(metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of the `knock.` entries of the metadata; other programs may add their own."""
    ours = sorted((key, value) for key, value in metadata.items() if key.startswith("knock."))
    return hashlib.sha256(json.dumps(ours).encode()).hexdigest()


def _serialize(arrays: Mapping[str, npt.NDArray[Any]], stored: StoredType, metadata: dict[str, str]) -> bytes:
    from safetensors import TensorSpec, serialize

    little_endian = {name: array.astype(array.dtype.newbyteorder("<")) for name, array in arrays.items()}
    specs = {
        name: TensorSpec(dtype=stored, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, array in little_endian.items()
    }
    return _canonical(bytes(serialize(specs, metadata)))


def _canonical(content: bytes) -> bytes:
    """Return a safetensors file with its header sorted: the package writes the metadata in random order."""
    begin = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:begin])
    # Unescaped, because a changed hex digit of an escape, E9 for e9, would go undetected.
    header = json.dumps(entries, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    return len(header).to_bytes(8, "little") + header + content[begin:]


def _deserialize(content: bytes) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return the arrays as float32, and the metadata."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(content)
    except SafetensorError as error:
        raise ValueError(f"expected the safetensors layout ({error})") from error
    header_length = int.from_bytes(content[:8], "little")  # validated by deserialize
    metadata = json.loads(content[8 : 8 + header_length]).get("__metadata__", {})
    arrays = {}
    for name, entry in entries:
        dtype, shape, data = entry["dtype"], entry["shape"], entry["data"]
        if dtype == "F32":
            arrays[name] = np.frombuffer(memoryview(data).toreadonly(), "<f4").reshape(shape)
        elif dtype == "BF16":
            arrays[name] = _from_bfloat16(np.frombuffer(data, "<u2")).reshape(shape)
        else:
            raise ValueError(f"array {name!r} must be F32 or BF16, got {dtype}")
    return arrays, metadata


def _to_bfloat16(array: FloatArray) -> npt.NDArray[np.uint16]:
    """Return the upper 16 bits of each float32, rounded to nearest, ties to even."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _from_bfloat16(bits: npt.NDArray[np.uint16]) -> FloatArray:
    wide = bits.astype(np.uint32)
    wide <<= 16
    wide.flags.writeable = False  # read-only, so that Weights need not copy it
    return wide.view(np.float32)


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file to write, with links resolved: a link is kept and its target replaced."""
    path = _path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(
            f"a model file must end in {' or '.join(SUFFIXES)}, got {str(path)!r}; choose another name"
        )
    try:
        target = path.resolve()
        irregular = target.exists() and not target.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a NUL
        raise _unwritable(path, error) from error
    if irregular:
        raise CheckpointError(
            f"cannot write the model file {str(path)!r}: it is not a regular file; choose another name"
        )
    return target


def _unwritable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"cannot write the model file {str(path)!r}: {_reason(error)}; choose another location")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
