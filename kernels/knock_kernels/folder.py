"""The folder in which compiled kernels are kept: where it is, and whether what lies in it can be trusted.

Code from it is run, so it must be a folder that nobody but its user, or the system's administrator, can write to.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

VARIABLE = "KNOCK_CACHE_DIR"

_ADMINISTRATOR = 0


class Refused(Exception):  # it says what happened to the folder
    """A folder that is not there, or not to be trusted; the message says why."""


def user_folder() -> Path:
    """Where KNOCK_CACHE_DIR says, or else where the platform has a user's caches.

    Raises:
        Refused: if the user has no home.
    """
    if os.environ.get(VARIABLE):
        return Path(os.path.expanduser(os.environ[VARIABLE])).absolute()  # noqa: PTH111  # which raises nothing
    if sys.platform == "win32":
        return _home("LOCALAPPDATA", "AppData/Local") / "knock" / "Cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "knock"
    return _home("XDG_CACHE_HOME", ".cache") / "knock"


def temporary_folder() -> Path:
    """A folder of this user's among the temporary files, for when the other cannot be used."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"knock-{user}"


def trusted(folder: Path) -> Path:
    """The folder, made if there is none, if nobody else can put something into it.

    Raises:
        Refused: if it cannot be made, belongs to someone else, or others may write to it.
    """
    try:
        folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        # What someone else has put in its place, among the temporary files, may be a link.
        status = folder.lstat() if folder == temporary_folder() else folder.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Refused(f"{folder} cannot be used: {reason(error)}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(f"{folder} is not a folder")
    if hasattr(os, "geteuid"):
        if status.st_uid not in (os.geteuid(), _ADMINISTRATOR):
            raise Refused(f"{folder} belongs to another user")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Refused(f"others may write to {folder}; chmod go-w would change that")
    return folder


def reason(error: Exception) -> str:
    """What the system says about an error, without the name of the file."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def _home(variable: str = "", below: str = "") -> Path:
    """The folder that an environment variable names, or else one below the user's home."""
    given = os.environ.get(variable, "")
    if os.path.isabs(given):  # noqa: PTH117  # a name that is not absolute does not count
        return Path(given)
    try:
        home = Path("~").expanduser()
    except RuntimeError as error:
        raise Refused("there is no home folder") from error
    if not home.is_dir():
        raise Refused(f"the home folder {home} does not exist")
    return home / below
