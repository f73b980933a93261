"""Read UTF-8 text; decoding errors name the offset of the invalid byte."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path

from knock.errors import TextError

_CHUNK = 2**22  # bytes


def decode_utf8(content: bytes, source: str) -> str:
    r"""Decode UTF-8. A byte-order mark is dropped, and line endings become `\n`.

    Args:
        content: the bytes to decode.
        source: name of the source in error messages.

    Raises:
        TextError: if a byte is not valid UTF-8; the message names its offset.
    """
    return "".join(_decoded(io.BytesIO(content), source))


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file.

    Raises:
        TextError: if the file cannot be read or is not UTF-8.
    """
    return "".join(read_chunks(path))


def read_chunks(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the text of a file in chunks of a few megabytes.

    Raises:
        TextError: if the file cannot be read or is not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            yield from _decoded(file, repr(str(path)))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise TextError(f"cannot read {str(path)!r}: {reason}; check the path") from error


def _decoded(file: io.BufferedIOBase | io.BufferedReader, source: str) -> Iterator[str]:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    done = 0
    while True:
        content = file.read(_CHUNK)
        try:
            text = decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            held = len(error.object) - len(content)  # bytes of the previous chunk
            byte, offset = error.object[error.start], done - held + error.start
            raise TextError(
                f"{source} is not UTF-8 text: byte 0x{byte:02x} at offset {offset}; convert it to UTF-8"
            ) from error
        done += len(content)
        if text:
            yield text
        if not content:
            return
