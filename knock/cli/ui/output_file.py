"""Write a result to a file that the user named: checked before any work, replaced only with permission."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from knock.cli.ui.terminal import printable, write


def check_output(path: Path, *, force: bool, inputs: Iterable[str] = ()) -> None:
    """Check that a file can be written.

    Args:
        path: the file.
        force: whether it may be overwritten.
        inputs: files that the command reads.

    Raises:
        OutputError: if the path is a folder, is in a folder that does not exist, or must not be overwritten.
    """
    from knock.errors import OutputError
    from knock.files.output import check_free

    try:
        if path.is_dir():
            raise OutputError(f"{str(path)!r} is a folder; pass the path of a file")
        if not path.parent.is_dir():
            raise OutputError(
                f"cannot write {str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first"
            )
    except (OSError, ValueError) as error:  # no access to a folder, or NUL in the path
        raise OutputError(f"cannot write {str(path)[:60]!r}: {error}; choose another path") from error
    check_free(path, force=force, inputs=inputs)


def write_output(path: Path, content: bytes) -> None:
    """Write a file, and its name and size to standard output.

    Raises:
        OutputError: if the file cannot be written.
    """
    from knock.errors import OutputError
    from knock.files.output import write_whole

    try:
        write_whole(path, content)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise OutputError(f"cannot write {str(path)!r}: {reason}; choose another path") from error
    write(f"{printable(str(path))}: {len(content):,} bytes\n")
