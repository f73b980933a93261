"""Files that commands write: nothing is overwritten unasked, and a file is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from knock.errors import OutputError


def check_free(
    path: str | os.PathLike[str],
    *,
    force: bool,
    problem: str = "already exists",
    resumable: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Raise if writing a file would destroy something. Call it before any work is done.

    An empty file, a pipe and a device hold nothing that could be lost. A path that cannot be examined is left to
    whoever opens it.

    Args:
        path: the file to write.
        force: whether the user gave permission to overwrite it.
        problem: what is wrong when it holds something.
        resumable: whether it could be continued instead.
        inputs: files that the command reads, which it must not overwrite in any case.

    Raises:
        OutputError: if it holds something and `force` is not set, or if it is one of the inputs.
    """
    path = Path(path)
    try:
        is_link_to_nothing = path.is_symlink() and not path.exists()  # which someone else may have put there
        if not path.is_file() and not is_link_to_nothing:
            return
        if any(_is_same(path, each) for each in inputs):
            raise OutputError(f"{str(path)!r} is also an input of this command; choose another name")
        if force or not (is_link_to_nothing or path.stat().st_size):
            return
    except (OSError, ValueError):  # a folder that may not be entered; a NUL in the path
        return
    resume = "--resume to continue it, " if resumable else ""
    raise OutputError(f"{str(path)!r} {problem}; pass {resume}--force to overwrite it, or choose another name")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old content or the new, and never a part.

    A link stays a link. A pipe or a device is written to directly.

    Raises:
        OSError: if it cannot be written; the old content is then still there.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    temporary = temporary_path(target)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:  # Ctrl-C too leaves nothing behind
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def temporary_path(target: Path) -> Path:
    """A new name for a file beside another, which it will replace."""
    return target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")


def _is_same(path: Path, other: str | os.PathLike[str]) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False
