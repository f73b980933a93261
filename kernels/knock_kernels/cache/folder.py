"""The folder in which compiled kernels are kept: where it is, and whether what lies in it can be trusted.

Code from it is run, so nobody but its user, and the system's administrator, may be able to put something there.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "KNOCK_CACHE_DIR"

_ADMINISTRATOR = 0


class Refused(Exception):
    """A folder or a file that cannot be had, or is not to be trusted; the message says why."""


def user_folder() -> Path:
    """Where KNOCK_CACHE_DIR says, or else where the platform has a user's caches.

    Raises:
        Refused: if the user has no home.
    """
    if os.environ.get(VARIABLE):
        given = os.path.expanduser(os.environ[VARIABLE])  # noqa: PTH111  # this one raises nothing
        try:
            return Path(given).absolute()
        except OSError as error:
            raise Refused(f"{given} is below a folder that is gone") from error
    if sys.platform == "win32":
        return _home("LOCALAPPDATA", "AppData/Local") / "knock" / "Cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "knock"
    return _home("XDG_CACHE_HOME", ".cache") / "knock"


def temporary_folder() -> Path:
    """A folder of this user's among the temporary files, for when the other cannot be used.

    Raises:
        Refused: if there is no place for temporary files, or someone has put a link in this one's.
    """
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    try:
        folder = Path(tempfile.gettempdir()) / f"knock-{user}"
    except OSError as error:
        raise Refused(f"there is no folder for temporary files: {reason(error)}") from error
    if folder.is_symlink():
        raise Refused(f"{folder} is a link")
    return folder


def writable(folder: Path) -> Path:
    """The folder, if something can be put into it by this user alone; made if it is not there.

    Raises:
        Refused: if it cannot be made or written to, belongs to someone else, or others may write to it.
    """
    try:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        if missing:
            _check_owner(missing[-1].parent)  # or what an administrator makes would be in a user's way
        for each in reversed(missing):
            each.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        check(folder)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Refused(f"{folder} cannot be used: {reason(error)}") from error
    if not os.access(folder, os.W_OK):
        raise Refused(f"{folder} cannot be written to")
    return folder


def check(folder: Path) -> None:
    """Do nothing, if nobody else can put something into a folder.

    Raises:
        Refused: if it is no folder, belongs to someone else, or others may write to it.
        OSError: if it cannot be looked at.
    """
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(f"{folder} is not a folder")
    check_status(status, folder)


def check_status(status: os.stat_result, path: Path) -> None:
    """Do nothing, if nobody else can write to a folder or file.

    Raises:
        Refused: if it belongs to someone else, or others may write to it.
    """
    _check_owner(path, status)
    if hasattr(os, "geteuid") and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(f"others may write to {path}")


def _check_owner(path: Path, status: os.stat_result | None = None) -> None:
    if hasattr(os, "geteuid") and (status or path.stat()).st_uid not in (os.geteuid(), _ADMINISTRATOR):
        raise Refused(f"{path} belongs to another user")


def candidates() -> Iterator[Path | Refused]:
    """Folders in the order in which they are tried, or why there is none."""
    for choose in (user_folder, temporary_folder):
        try:
            yield choose()
        except Refused as refused:
            yield refused


def reason(error: Exception) -> str:
    """What the system says about an error, without the name of the file."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def _home(variable: str = "", below: str = "") -> Path:
    """The folder that an environment variable names, or else one below the user's home."""
    given = os.environ.get(variable, "")
    if os.path.isabs(given):  # noqa: PTH117  # a name that is not absolute does not count
        return Path(given)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  # this one raises nothing
    if not home.is_absolute() or home == Path(home.anchor) or not home.is_dir():
        raise Refused(f"there is no home folder: {home}")
    return home / below
