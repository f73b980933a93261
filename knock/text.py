"""Read text: UTF-8 only, with errors that say where a text stops being text."""

from __future__ import annotations

import os
from pathlib import Path

from knock.errors import TextError


def decode_utf8(content: bytes, source: str) -> str:
    """Bytes to text. A byte-order mark is dropped, and every line ends in a newline alone.

    Args:
        content: UTF-8.
        source: where it came from, for the message.

    Raises:
        TextError: at the first byte that is not UTF-8, naming its offset.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise TextError(
            f"{source} is not UTF-8 text: byte 0x{byte:02x} at offset {error.start}; convert it to UTF-8 first"
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file.

    Raises:
        TextError: if the file cannot be read or is not UTF-8.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TextError(f"cannot read {str(path)!r}: {reason}; check the path") from error
    return decode_utf8(content, repr(str(path)))
