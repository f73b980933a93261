"""The `.npz` layout of model files: untrusted zip archives of NumPy arrays.

Nothing is unpickled. The names, sizes, types and shapes of all arrays are checked against the config before any array
is read. The layout of older reweight-only models is read too.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from knock.config import ModelConfig
from knock.validation import shown
from knock.weights import FloatArray, Weights, shapes

_OWN = "knock."  # prefix of metadata names
_NPY_MAGIC = b"\x93NUMPY"
# The header exactly as NumPy writes it. NumPy's own reader accepts any Python literal, and fails in more ways.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?)([a-zA-Z])(\d{0,9})', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \} *\n"
)
_MAX_HEADER = 1024  # bytes; NumPy writes 128
_MAX_RATIO = 32  # of compression: weights hardly compress, so a high ratio means a zip bomb
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, RuntimeError)

# The older layout stores these fields of the config, each as a 0-d integer array.
_OLDER_SIZES = ("T", "n_emb", "nodes", "n_blocks", "n_heads", "vocab_size")


def serialize(arrays: Mapping[str, FloatArray], metadata: Mapping[str, str]) -> bytes:
    """Return the content of an `.npz` file; equal models give equal bytes.

    Args:
        arrays: the arrays of the model.
        metadata: texts, each stored as a 0-d array before the others.

    Raises:
        ValueError: if an entry of the metadata is not Unicode text.
    """
    members: dict[str, npt.NDArray[Any]] = {
        name: np.frombuffer(text.encode("utf-32-le"), f"<U{len(text)}").reshape(()) for name, text in metadata.items()
    }
    members |= {name: array.astype("<f4", copy=False) for name, array in arrays.items()}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in members.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")  # without a date, so that the bytes depend on the model alone
            entry.create_system = 3  # Unix on every platform, for the same reason
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, member.getbuffer())
    return content.getvalue()


class _Header(NamedTuple):
    """A parsed `.npy` header, itself `length` bytes long."""

    dtype: np.dtype[Any]
    fortran_order: bool
    shape: tuple[int, ...]
    length: int


class Archive:
    """An `.npz` file opened for reading.

    Args:
        content: the content of the file.

    Raises:
        ValueError: if it is not a zip archive of arrays, or has duplicate, encrypted, oddly compressed or suspiciously
            well compressed members.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except _UNREADABLE as error:
            raise ValueError(f"expected the npz layout, a zip archive of arrays ({error})") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            name, is_npy = member.filename.removesuffix(".npy"), member.filename.endswith(".npy")
            if not is_npy:
                raise ValueError(f"every member must be an array ending in .npy, got {shown(member.filename)}")
            if name in self._members:
                raise ValueError(f"array {shown(name)} occurs twice")
            if member.flag_bits & 1:
                raise ValueError(f"array {shown(name)} is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"array {shown(name)} must be stored or deflated, got compression type {member.compress_type}"
                )
            self._members[name] = member
        unpacked = sum(member.file_size for member in self._members.values())
        if unpacked > _MAX_RATIO * len(content):
            raise ValueError(f"{len(content):,} bytes would unpack to {unpacked:,}, more than weights can compress")

    @property
    def is_older(self) -> bool:
        """Whether the file has the older layout of reweight-only models."""
        return not any(name.startswith(_OWN) for name in self._members) and set(_OLDER_SIZES) <= set(self._members)

    def metadata(self) -> dict[str, str]:
        """Return the metadata.

        Raises:
            ValueError: if an entry is not a single text.
        """
        return {name: self._text(name) for name in self._members if name.startswith(_OWN)}

    def arrays(self, config: ModelConfig) -> dict[str, FloatArray]:
        """Return the arrays of the model, read-only.

        Raises:
            ValueError: if an array is missing or unknown, or does not match the config.
        """
        return self._floats(shapes(config), [name for name in self._members if name.startswith(_OWN)])

    def older_weights(self) -> Weights:
        """Return the weights of a file in the older layout.

        There, each head has its own arrays and `wout` is called `w2`. The LayerNorms have no parameters, so gains are 1
        and biases 0.

        Raises:
            KnockError: if a size or a weight is out of range.
            ValueError: if an array is missing or unknown, or does not match the sizes.
        """
        sizes = {name: self._whole_number(name) for name in _OLDER_SIZES}
        config = ModelConfig(**sizes, head_type="reweight", position="absolute")
        V, T, C, F, H, D = (
            config.vocab_size, config.longest_window, config.n_emb, config.nodes, config.n_heads, config.head_width
        )  # fmt: skip
        count = len(_OLDER_SIZES) + 3 + config.n_blocks * (2 + 2 * H)
        if len(self._members) != count:  # before listing the names, of which a hostile file may declare billions
            raise ValueError(f"the sizes require {count:,} arrays, got {len(self._members):,}")
        expected: dict[str, tuple[int, ...]] = {"embed": (V, C), "pos": (T, C), "w2": (C, V)}
        for b in range(config.n_blocks):
            expected |= {f"blocks.{b}.w0": (C, F), f"blocks.{b}.w1": (F, C)}
            for h in range(H):
                expected |= {f"blocks.{b}.heads.{h}.wv": (C, D), f"blocks.{b}.heads.{h}.wr": (C, T)}
        found = self._floats(expected, _OLDER_SIZES)

        def array(name: str) -> FloatArray:
            block, _, kind = name.rpartition(".")
            if kind in ("gain", "bias"):
                return np.full(C, kind == "gain", np.float32)
            if kind in ("wv", "wr"):
                return np.concatenate([found[f"{block}.heads.{h}.{kind}"] for h in range(H)], axis=-1)
            return found["w2" if name == "wout" else name]

        return Weights(config, {name: array(name) for name in shapes(config)})

    def _floats(self, expected: Mapping[str, tuple[int, ...]], others: Iterable[str]) -> dict[str, FloatArray]:
        """Return the `expected` arrays; check all of them, and that only `others` exist beside them, before reading."""
        names = self._members.keys() - set(others)
        if names != expected.keys():
            missing, unknown = sorted(expected.keys() - names), sorted(names - expected.keys())
            raise ValueError(
                f"the config requires {len(expected)} arrays; missing {shown(missing)}, unknown {shown(unknown)}"
            )
        headers = {name: self._header(name) for name in expected}
        for name, shape in expected.items():
            header = headers[name]
            if (header.dtype.kind, header.dtype.itemsize) != ("f", 4):
                raise ValueError(f"array {name!r} must be float32, got {header.dtype.str}")
            if header.shape != shape:
                raise ValueError(
                    f"array {name!r} must have shape {list(shape)} by the config, got {list(header.shape)}"
                )
        return {name: self._array(name, header).astype(np.float32, copy=False) for name, header in headers.items()}

    def _text(self, name: str) -> str:
        header = self._header(name)
        if header.dtype.kind != "U" or header.shape != ():
            raise ValueError(f"{name} must be a single text, got {header.dtype.str} of shape {list(header.shape)}")
        data = self._array(name, header).astype(header.dtype.newbyteorder("<")).tobytes()
        return data.decode("utf-32-le").rstrip("\0")

    def _whole_number(self, name: str) -> int:
        header = self._header(name)
        if header.dtype.kind not in "iu" or header.shape != ():
            raise ValueError(
                f"{name} must be a single whole number, got {header.dtype.str} of shape {list(header.shape)}"
            )
        return int(self._array(name, header)[()])

    def _header(self, name: str) -> _Header:
        """Parse the header of an array, and check it against the size in the archive's directory."""
        start = self._read(name, _MAX_HEADER)
        version, long = start[6:8], start[6:7] == b"\x02"
        if not start.startswith(_NPY_MAGIC) or version not in (b"\x01\0", b"\x02\0"):
            raise ValueError(f"array {shown(name)} is not in NumPy's format: it begins with {shown(start[:8])}")
        begin = 12 if long else 10
        length = begin + int.from_bytes(start[8:begin], "little")
        match = _HEADER.fullmatch(start[begin:length])
        if match is None or length > len(start):
            raise ValueError(f"array {shown(name)} has an invalid NumPy header: {shown(start[begin:length])}")
        order, kind, size, fortran_order, axes = (part.decode() for part in match.groups())
        if kind not in "fiuU":
            raise ValueError(f"array {shown(name)} must hold numbers or text, got {shown(order + kind + size)}")
        try:
            dtype = np.dtype(order + kind + size)
            shape = tuple(int(axis) for axis in axes.split(",") if axis.strip())
        except (TypeError, ValueError) as error:
            raise ValueError(f"array {shown(name)} has an invalid type or shape: {error}") from error
        size_declared, size_due = self._members[name].file_size, length + dtype.itemsize * math.prod(shape)
        if size_declared != size_due:
            raise ValueError(f"array {shown(name)} must have {size_due:,} bytes by its shape, got {size_declared:,}")
        return _Header(dtype, fortran_order == "True", shape, length)

    def _array(self, name: str, header: _Header) -> npt.NDArray[Any]:
        data = self._read(name, self._members[name].file_size)
        if len(data) != self._members[name].file_size:
            raise ValueError(f"array {shown(name)} is truncated")
        flat: npt.NDArray[Any] = np.frombuffer(data, header.dtype, offset=header.length)
        return flat.reshape(header.shape, order="F" if header.fortran_order else "C")

    def _read(self, name: str, most: int) -> bytes:
        try:
            with self._zip.open(self._members[name]) as member:
                return member.read(most)
        except _UNREADABLE as error:
            raise ValueError(f"array {shown(name)} cannot be read: {error}") from error
