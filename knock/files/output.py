"""Write output files: atomically, and overwriting only with permission."""

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
    """Raise if writing a file would destroy data. Call it before any work is done.

    Empty files, pipes and devices may always be written. A path that cannot be examined is accepted here: opening it
    will report the error.

    Args:
        path: the file to write.
        force: overwrite the file if it has content.
        problem: the error for a file with content.
        resumable: whether the message should suggest `--resume`.
        inputs: files that the command reads; never overwritten.

    Raises:
        OutputError: if the file has content and `force` is False, or if it is one of the inputs.
    """
    path = Path(path)
    try:
        is_link_to_nothing = path.is_symlink() and not path.exists()  # someone else may have put it there
        if not path.is_file() and not is_link_to_nothing:
            return
        if any(_is_same(path, each) for each in inputs):
            raise OutputError(f"{str(path)!r} is also an input of this command; choose another name")
        if force or not (is_link_to_nothing or path.stat().st_size):
            return
    except (OSError, ValueError):  # an inaccessible folder; a NUL in the path
        return
    resume = "--resume to continue it, " if resumable else ""
    raise OutputError(f"{str(path)!r} {problem}; pass {resume}--force to overwrite it, or choose another name")


def write_whole(path: Path, content: bytes, *, temporary: Path | None = None) -> None:
    """Write a file atomically: after a crash it has either the old content or the new.

    A link is kept and its target replaced. Pipes and devices are written directly.

    Args:
        path: the file.
        content: what to write.
        temporary: name of the file that is written first and then renamed; a new name if None.

    Raises:
        OSError: if it cannot be written; the old content is kept.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    temporary = temporary or temporary_path(target)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:  # also after Ctrl-C
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def temporary_path(target: Path) -> Path:
    """Return a random path in the folder of `target`, for a file that will replace it."""
    return target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")


def _is_same(path: Path, other: str | os.PathLike[str]) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False
