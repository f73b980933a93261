"""Read UTF-8 text; an error says what the text is instead, and how to convert it."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from knock.errors import TextError

BYTE_ORDER_MARK = "\ufeff"  # dropped at the start of a text; joined files have it inside

_CHUNK = 2**20  # bytes
_HEAD = 2**12  # bytes from which a file that is not UTF-8 is recognised
RICH_TEXT = b"{\\rtf"  # the documents that are UTF-8 themselves
_SAMPLE = 2**15  # bytes on each side of an invalid byte from which the encoding is guessed


def decode_utf8(content: bytes, source: str) -> str:
    r"""Decode UTF-8. A byte-order mark is dropped, and line endings become `\n`.

    Args:
        content: the bytes to decode.
        source: name of the source in error messages.

    Raises:
        TextError: if it is not UTF-8; the message says what it is instead, or names the invalid byte and its offset.
    """
    return "".join(decoded(io.BytesIO(content), source))


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file.

    Raises:
        TextError: if the file cannot be read or is not UTF-8.
    """
    return "".join(read_chunks(path))


def read_chunks(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the text of a file in chunks of about a megabyte.

    Raises:
        TextError: if the file cannot be read or is not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            yield from decoded(file, repr(str(path)), Path(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise reading_error(repr(str(path)), error) from error


def reading_error(source: str, error: OSError | ValueError) -> TextError:
    """Return the error for a text that the system cannot read."""
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return TextError(f"cannot read {source}: {reason}; check the path")


def decoded(file: IO[bytes], source: str, path: Path | None = None) -> Iterator[str]:
    """Yield the text of an open file in chunks, decoded as by `decode_utf8`.

    Args:
        file: the file, open for reading bytes.
        source: its name in error messages.
        path: its path, for the command that converts it.

    Raises:
        TextError: if it is not UTF-8.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    head = file.read(_HEAD)
    is_suspect = b"\0" in head or head.startswith(RICH_TEXT)
    if is_suspect and (error := _recognised_error(head, source, path, is_utf8=_is_utf8(head))):
        raise error
    done = 0
    for content in _chunks(file, head):
        try:
            text = decoder.decode(content, final=not content)
        except UnicodeDecodeError as cause:
            held = len(cause.object) - len(content)  # bytes of the previous chunk
            offset = done - held + cause.start
            error = _recognised_error(head, source, path, is_utf8=False) or _guessed_error(cause, offset, source, path)
            raise error from cause
        done += len(content)
        if text:
            yield text


def _chunks(file: IO[bytes], head: bytes) -> Iterator[bytes]:
    """Yield the bytes of a file in chunks, ending with an empty one.

    Args:
        file: the file.
        head: what was read of it before.
    """
    yield from (head[start : start + _CHUNK] for start in range(0, len(head), _CHUNK))
    while content := file.read(_CHUNK):
        yield content
    yield b""


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _recognised_error(head: bytes, source: str, path: Path | None, *, is_utf8: bool) -> TextError | None:
    """Return the error for a file that is not UTF-8 by its first bytes; None if they do not say so."""
    from knock.files.encoding import recognised  # here, since few texts need it

    finding = recognised(head, is_utf8=is_utf8)
    if finding is None:
        return None
    return TextError(f"{source} is not UTF-8 text: {finding.what}. {finding.how_to_convert(path)}")


def _guessed_error(cause: UnicodeDecodeError, offset: int, source: str, path: Path | None) -> TextError:
    """Return the error for an invalid byte at `offset` of a file that does not identify itself."""
    from knock.files.encoding import guessed

    finding = guessed(cause.object[max(0, cause.start - _SAMPLE) : cause.start + _SAMPLE])
    return TextError(
        f"{source} is not UTF-8 text: byte 0x{cause.object[cause.start]:02x} at offset {offset}; {finding.what}. "
        f"{finding.how_to_convert(path)}"
    )
