"""The files of a corpus: those of a folder in natural order, pipes spooled to disk, texts joined with line breaks."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from knock.errors import TextError
from knock.files.temporary import spooled
from knock.files.text import decoded, read_chunks, reading_error
from knock.normal_forms import unbroken

SUFFIX = ".txt"  # files to read in a folder


class CorpusFile(NamedTuple):
    """A file of a corpus.

    Attributes:
        name: its name in messages.
        chunks: returns its text in chunks, from the beginning.
        path: its path; None for a stream.
    """

    name: str
    chunks: Callable[[], Iterable[str]]
    path: Path | None = None

    @classmethod
    def at(cls, path: Path, opened: contextlib.ExitStack) -> CorpusFile:
        """Return the file at a path. A pipe can be read only once, so it is copied to a temporary file.

        Args:
            path: the path.
            opened: closes the temporary file.

        Raises:
            TextError: if a pipe cannot be read.
        """
        # os.path returns False where pathlib would raise, for example for a name that is too long.
        if not os.path.exists(path) or os.path.isfile(path):  # noqa: PTH110, PTH113
            return cls(str(path), lambda: read_chunks(path), path)
        try:
            with path.open("rb") as pipe:
                return cls.of_stream(pipe, str(path), opened)
        except OSError as error:
            raise reading_error(repr(str(path)), error) from error

    @classmethod
    def of_stream(cls, stream: IO[bytes], name: str, opened: contextlib.ExitStack) -> CorpusFile:
        """Return a stream as a file, copied to a temporary one.

        Raises:
            TextError: if it cannot be read.
            OutputError: if the temporary file cannot be written.
        """
        try:
            copy = opened.enter_context(spooled(stream))
        except OSError as error:
            raise reading_error(name, error) from error

        def chunks() -> Iterator[str]:
            copy.seek(0)
            return decoded(copy, name)

        return cls(name, chunks)


class Part(NamedTuple):
    """A part of the text of a corpus.

    Attributes:
        text: the part.
        file: name of its file; None for a line break between files.
        offset: offset of the part in the file, in characters.
    """

    text: str
    file: str | None
    offset: int


def joined(files: Sequence[CorpusFile]) -> Iterator[Part]:
    """Yield the text of files, with a line break between two if the first does not end in one."""
    last = ""
    for file in files:
        offset = 0
        for text in unbroken(file.chunks()):
            if last and last != "\n" and not offset:
                yield Part("\n", None, 0)
            yield Part(text, file.name, offset)
            offset += len(text)
            last = text[-1]


def files_at(path: Path, *, every: bool = False) -> Iterator[Path]:
    """Yield the files that a path stands for: itself, or the .txt files below a folder, in natural order.

    Args:
        path: the path.
        every: whether a folder stands for all files below it that are not hidden, whatever they are called.

    Raises:
        TextError: if a folder has none.
    """
    if not os.path.isdir(path):  # noqa: PTH112  # does not raise for a name that is too long
        yield path
        return
    found = path.rglob("*" if every else f"*{SUFFIX}")
    files = sorted(
        (file for file in found if file.is_file() and not (every and _is_hidden(file, path))), key=natural_order
    )
    if not files:
        raise TextError(f"folder {str(path)!r} has no {'' if every else f'{SUFFIX} '}files; pass the files themselves")
    yield from files


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def check_readable(paths: Iterable[str | os.PathLike[str]], *, every: bool = False) -> None:
    """Check that the files at some paths are there, without reading them.

    Args:
        paths: the paths.
        every: as in `files_at`.

    Raises:
        TextError: if one is not, or a folder has no files.
    """
    for path in paths:
        for file in files_at(Path(path), every=every):
            try:
                file.stat()
            except (OSError, ValueError) as error:  # ValueError: a NUL in the path
                raise reading_error(repr(str(file)), error) from error


def natural_order(path: Path) -> list[tuple[list[str | int], str]]:
    """Return a sort key of paths in which numbers are compared by their value: 2.txt comes before 10.txt."""

    def key(name: str) -> tuple[list[str | int], str]:
        parts = re.split("([0-9]+)", name)  # every other part is a number
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], name

    return [key(name) for name in path.parts]
