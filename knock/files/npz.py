"""The `.npz` layout of model files: a zip archive of NumPy arrays, which a stranger may have made.

Nothing is ever unpickled. Names, sizes, types and shapes of all arrays are checked against the config before the
first of them is read. Beside knock's own layout, that of older reweight-only models is read.
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

_OWN = "knock."  # what the names of metadata begin with
_NPY_MAGIC = b"\x93NUMPY"
# The header as NumPy writes it. NumPy's own reader takes any Python literal, and has more ways to fail.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?)([a-zA-Z])(\d{0,9})', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \} *\n"
)
_LONGEST_HEADER = 1024  # bytes; NumPy's have 128
_MOST_SHRUNK = 32  # times. Weights hardly shrink at all; what shrinks a thousandfold is a trap.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, RuntimeError)

# The older layout: its whole numbers, each an array without axes, are fields of the config.
_OLDER_SIZES = ("T", "n_emb", "nodes", "n_blocks", "n_heads", "vocab_size")


def serialize(arrays: Mapping[str, FloatArray], metadata: Mapping[str, str]) -> bytes:
    """The file: an array of text for each entry of the metadata, then the arrays; the same bytes for the same model.

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
            entry = zipfile.ZipInfo(f"{name}.npy")  # of no date: it is the model that makes the file
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, member.getbuffer())
    return content.getvalue()


class _Header(NamedTuple):
    """What an array says of itself. `length` is the header's own, in bytes."""

    dtype: np.dtype[Any]
    fortran_order: bool
    shape: tuple[int, ...]
    length: int


class Archive:
    """A file that is open for reading.

    Args:
        content: all of the file.

    Raises:
        ValueError: if it is no archive of arrays, or one that nobody would make of a model.
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
                raise ValueError(f"expected arrays alone, whose names end in .npy, found {shown(member.filename)}")
            if name in self._members:
                raise ValueError(f"expected each array once, found {shown(name)} twice")
            if member.flag_bits & 1:
                raise ValueError(f"array {shown(name)} is encrypted, which no model file is")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"array {shown(name)} must be stored or deflated, found compression {member.compress_type}"
                )
            self._members[name] = member
        unpacked = sum(member.file_size for member in self._members.values())
        if unpacked > _MOST_SHRUNK * len(content):
            raise ValueError(
                f"its {len(content):,} bytes would unpack to {unpacked:,}; weights do not shrink like that"
            )

    @property
    def is_older(self) -> bool:
        """Whether it is a reweight-only model in the older layout."""
        return not any(name.startswith(_OWN) for name in self._members) and set(_OLDER_SIZES) <= set(self._members)

    def metadata(self) -> dict[str, str]:
        """The arrays of text.

        Raises:
            ValueError: if one is something else.
        """
        return {name: self._text(name) for name in self._members if name.startswith(_OWN)}

    def arrays(self, config: ModelConfig) -> dict[str, FloatArray]:
        """The arrays of the model, read-only.

        Raises:
            ValueError: if one is missing, unknown, or not as the config says.
        """
        return self._floats(shapes(config), [name for name in self._members if name.startswith(_OWN)])

    def older_weights(self) -> Weights:
        """The weights of a file in the older layout, whose heads are arrays of their own and whose `wout` is `w2`.

        Its LayerNorms have no parameters, which are gains of 1 and biases of 0.

        Raises:
            KnockError: if its sizes or its weights are out of range.
            ValueError: if an array is missing, unknown, or not as the sizes say.
        """
        sizes = {name: self._whole_number(name) for name in _OLDER_SIZES}
        config = ModelConfig(**sizes, head_type="reweight", position="absolute")
        V, T, C, F, H, D = (
            config.vocab_size, config.T, config.n_emb, config.nodes, config.n_heads, config.head_width
        )  # fmt: skip
        count = len(_OLDER_SIZES) + 3 + config.n_blocks * (2 + 2 * H)
        if len(self._members) != count:  # before they are named, of which there may be thousands of millions
            raise ValueError(f"its sizes call for {count:,} arrays, found {len(self._members):,}")
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
        """Arrays by name, all of them checked before the first is read; the file has these and `others` alone."""
        names = self._members.keys() - set(others)
        if names != expected.keys():
            missing, unknown = sorted(expected.keys() - names), sorted(names - expected.keys())
            raise ValueError(
                f"the config calls for {len(expected)} arrays; missing {shown(missing)}, unknown {shown(unknown)}"
            )
        headers = {name: self._header(name) for name in expected}
        for name, shape in expected.items():
            header = headers[name]
            if (header.dtype.kind, header.dtype.itemsize) != ("f", 4):
                raise ValueError(f"array {name!r} must be float32, found {header.dtype.str}")
            if header.shape != shape:
                raise ValueError(f"array {name!r} must have shape {shape} by the config, found {header.shape}")
        return {name: self._array(name, header).astype(np.float32, copy=False) for name, header in headers.items()}

    def _text(self, name: str) -> str:
        header = self._header(name)
        if header.dtype.kind != "U" or header.shape != ():
            raise ValueError(f"{name} must be one text, found {header.dtype.str} of shape {header.shape}")
        data = self._array(name, header).astype(header.dtype.newbyteorder("<")).tobytes()
        return data.decode("utf-32-le").rstrip("\0")

    def _whole_number(self, name: str) -> int:
        header = self._header(name)
        if header.dtype.kind not in "iu" or header.shape != ():
            raise ValueError(f"{name} must be one whole number, found {header.dtype.str} of shape {header.shape}")
        return int(self._array(name, header)[()])

    def _header(self, name: str) -> _Header:
        """The header of an array, the size of which is what the archive says it is."""
        start = self._read(name, _LONGEST_HEADER)
        version, long = start[6:8], start[6:7] == b"\x02"
        if not start.startswith(_NPY_MAGIC) or version not in (b"\x01\0", b"\x02\0"):
            raise ValueError(f"array {shown(name)} must begin as NumPy's format does, found {shown(start[:8])}")
        begin = 12 if long else 10
        length = begin + int.from_bytes(start[8:begin], "little")
        match = _HEADER.fullmatch(start[begin:length])
        if match is None or length > len(start):
            raise ValueError(f"array {shown(name)} must have a header of NumPy's, found {shown(start[begin:length])}")
        order, kind, size, fortran_order, axes = (part.decode() for part in match.groups())
        if kind not in "fiuU":
            raise ValueError(f"array {shown(name)} must be of numbers or text, found {shown(order + kind + size)}")
        try:
            dtype = np.dtype(order + kind + size)
            shape = tuple(int(axis) for axis in axes.split(",") if axis.strip())
        except (TypeError, ValueError) as error:
            raise ValueError(f"array {shown(name)} has a header that cannot be understood: {error}") from error
        size_declared, size_due = self._members[name].file_size, length + dtype.itemsize * math.prod(shape)
        if size_declared != size_due:
            raise ValueError(f"array {shown(name)} must have {size_due:,} bytes by its shape, found {size_declared:,}")
        return _Header(dtype, fortran_order == "True", shape, length)

    def _array(self, name: str, header: _Header) -> npt.NDArray[Any]:
        data = self._read(name, self._members[name].file_size)
        if len(data) != self._members[name].file_size:
            raise ValueError(f"array {shown(name)} is cut")
        flat: npt.NDArray[Any] = np.frombuffer(data, header.dtype, offset=header.length)
        return flat.reshape(header.shape, order="F" if header.fortran_order else "C")

    def _read(self, name: str, most: int) -> bytes:
        try:
            with self._zip.open(self._members[name]) as member:
                return member.read(most)
        except _UNREADABLE as error:
            raise ValueError(f"array {shown(name)} cannot be read: {error}") from error
