"""The cache folder of compiled kernels: where it is, and whether its files can be trusted.

Code from the folder is executed, so only the user and root may be able to write there.
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


class RefusedError(Exception):
    """A folder or file is unusable or not trusted; the message says why."""


def is_requested() -> bool:
    """Return whether KNOCK_CACHE_DIR names the folder."""
    return bool(os.environ.get(VARIABLE))


def user_folder() -> Path:
    """Return the folder in KNOCK_CACHE_DIR if that is set, else the user's cache folder on this platform.

    Raises:
        RefusedError: if the user has no home folder, or the path is relative to a folder that no longer exists.
    """
    if is_requested():
        given = os.path.expanduser(os.environ[VARIABLE])  # noqa: PTH111  # Path.expanduser may raise
        try:
            return Path(given).absolute()
        except OSError as error:
            raise RefusedError(f"{given} is relative to a folder that no longer exists") from error
    if sys.platform == "win32":
        return home_folder("LOCALAPPDATA", "AppData/Local") / "knock" / "Cache"
    if sys.platform == "darwin":
        return home_folder() / "Library" / "Caches" / "knock"
    return home_folder("XDG_CACHE_HOME", ".cache") / "knock"


def temporary_folder() -> Path:
    """Return this user's folder among the temporary files, the fallback for `user_folder`.

    Raises:
        RefusedError: if there is no folder for temporary files, or the path is a symbolic link.
    """
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    try:
        folder = Path(tempfile.gettempdir()) / f"knock-{user}"
    except OSError as error:
        raise RefusedError(f"there is no folder for temporary files: {reason(error)}") from error
    if folder.is_symlink():
        raise RefusedError(f"{folder} is a symbolic link")
    return folder


def writable(folder: Path) -> Path:
    """Return the folder if only this user or root can write to it; create it if it does not exist.

    Raises:
        RefusedError: if it cannot be created or written to, belongs to another user, or is writable by other users.
    """
    try:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        if missing:
            _check_owner(missing[-1].parent)  # root, too, must not create folders below another user's
        for each in reversed(missing):
            each.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        check(folder)
    except (OSError, ValueError) as error:  # ValueError: the name contains a NUL
        raise RefusedError(f"{folder} cannot be used: {reason(error)}") from error
    if not os.access(folder, os.W_OK):
        raise RefusedError(f"{folder} cannot be written to")
    trial = folder / f".{os.urandom(8).hex()}.tmp"
    try:  # root may write everywhere, but /proc takes no files
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise RefusedError(f"{folder} cannot be written to: {reason(error)}") from error
    return folder


def check(folder: Path) -> None:
    """Raise unless only this user or root can write to a folder.

    Raises:
        RefusedError: if it is not a folder, belongs to another user, or is writable by other users.
        OSError: if its status cannot be read.
    """
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise RefusedError(f"{folder} is not a folder")
    check_status(status, folder)


def check_status(status: os.stat_result, path: Path) -> None:
    """Raise unless only this user or root can write to a folder or file.

    Raises:
        RefusedError: if it belongs to another user, or is writable by other users.
    """
    _check_owner(path, status)
    if hasattr(os, "geteuid") and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RefusedError(f"{path} is writable by other users")


def _check_owner(path: Path, status: os.stat_result | None = None) -> None:
    if hasattr(os, "geteuid") and (status or path.stat()).st_uid not in (os.geteuid(), _ADMINISTRATOR):
        raise RefusedError(f"{path} belongs to another user")


def candidates(fallback: bool = True) -> Iterator[Path | RefusedError]:
    """Yield the folders to try, in order; for one that cannot be determined, the reason.

    Args:
        fallback: whether to try the temporary folder after the user's.
    """
    for choose in (user_folder, temporary_folder) if fallback else (user_folder,):
        try:
            yield choose()
        except RefusedError as refused:
            yield refused


def reason(error: Exception) -> str:
    """Return the system's description of an error, without the file name."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def home_folder(variable: str = "", below: str = "") -> Path:
    """Return the folder named by an environment variable, or else a folder below the user's home."""
    given = os.environ.get(variable, "")
    if os.path.isabs(given):  # noqa: PTH117  # relative paths are ignored
        return Path(given)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  # Path.expanduser may raise
    if not home.is_absolute() or home == Path(home.anchor):
        raise RefusedError("the user has no home folder")
    if not home.is_dir():
        raise RefusedError(f"the home folder {home} does not exist")
    return home / below
