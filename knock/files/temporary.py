"""Temporary files; errors name the folder and how to choose another one."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO

from knock.errors import OutputError

_COPIED = 2**20  # bytes at a time


@contextlib.contextmanager
def temporary_file() -> Iterator[IO[bytes]]:
    """Open an unnamed temporary file for writing and reading; it is removed when closed.

    Write to it within `temporary_errors`.

    Raises:
        OutputError: if it cannot be created.
    """
    with temporary_errors():
        file = tempfile.TemporaryFile()  # noqa: SIM115  # closed below
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # closing writes what is buffered
            file.close()


@contextlib.contextmanager
def temporary_errors() -> Iterator[None]:
    """Raise the system errors of writing a temporary file as `OutputError`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        try:
            folder = tempfile.gettempdir()
        except OSError:  # there is no folder that could be written to
            raise OutputError("there is no temporary folder to write to; set TMPDIR to a folder that exists") from error
        raise OutputError(
            f"cannot write to the temporary folder {folder!r}: {reason}; set TMPDIR to another folder"
        ) from error


@contextlib.contextmanager
def spooled(source: IO[bytes]) -> Iterator[IO[bytes]]:
    """Copy a stream to a temporary file, and open that for reading.

    Raises:
        OSError: if the stream cannot be read.
        OutputError: if the temporary file cannot be written.
    """
    with temporary_file() as file:
        while content := source.read(_COPIED):
            with temporary_errors():
                file.write(content)
        with temporary_errors():
            file.seek(0)  # writes what is buffered
        yield file
