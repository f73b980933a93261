"""Read text: UTF-8 only, with errors that say where a text stops being text."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path

from knock.errors import TextError

_CHUNK = 2**22  # bytes


def decode_utf8(content: bytes, source: str) -> str:
    """Bytes to text. A byte-order mark is dropped, and every line ends in a newline alone.

    Args:
        content: UTF-8.
        source: where it came from, for the message.

    Raises:
        TextError: at the first byte that is not UTF-8, naming its offset.
    """
    return "".join(_decoded(io.BytesIO(content), source))


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file.

    Raises:
        TextError: if the file cannot be read or is not UTF-8.
    """
    return "".join(read_chunks(path))


def read_chunks(path: str | os.PathLike[str]) -> Iterator[str]:
    """The text of a file, in pieces of some megabytes.

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
            byte, held = error.object[error.start], len(error.object) - len(content)  # held from the piece before
            raise TextError(
                f"{source} is not UTF-8 text: byte 0x{byte:02x} at offset {done - held + error.start}; "
                "convert it to UTF-8 first"
            ) from error
        done += len(content)
        if text:
            yield text
        if not content:
            return
