"""Object code in files: named by a digest of its inputs, checksummed, written atomically.

The name contains a digest of everything that the object depends on, so an object of other sources, another version of
Numba or another CPU is never found. `knock_kernels.cache.compiling` creates objects.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import stat
import time
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from knock_kernels.cache.folder import (
    VARIABLE,
    RefusedError,
    candidates,
    check,
    check_status,
    is_requested,
    reason,
    writable,
)
from knock_kernels.lang.cpu import machine_name
from knock_kernels.lang.object_code import ObjectCode

SUFFIX = ".kernels"

_COMPILED = ("lang", "ops", "loops")  # folders of the package that machine code depends on; not this one

_OURS = re.compile(rf"[\w.+-]+-[0-9a-f]{{32}}\{SUFFIX}(\.\w+)?")  # including marks and temporary files
_KEPT = 8  # objects: for other CPUs that share the folder, other environments, earlier sources
_UNUSED = 30 * 86400.0  # seconds without use after which other objects are deleted
_FORGOTTEN = 3600.0  # seconds after which a mark or temporary file is deleted
_NOTED = 86400.0  # seconds between updates of the time at which an object was last used


class DamagedError(Exception):
    """A file does not match its checksum."""


class Kept(NamedTuple):
    """This machine's object and its file."""

    path: Path
    content: ObjectCode


def find(fallback: bool = True) -> Kept | None:
    """Return this machine's object from the user's folder or else the temporary one; None if there is none.

    No file or folder is created. If the user's folder cannot be used, a warning says why.

    Args:
        fallback: whether to look in the temporary folder.
    """
    problems: list[str] = []
    for folder in candidates(fallback):
        try:
            if isinstance(folder, RefusedError):
                raise folder
            check(folder)
            kept = Kept(folder / name(), read(folder / name()))
        except FileNotFoundError:
            continue
        except RefusedError as refused:
            problems.append(str(refused))
        except OSError as error:
            problems.append(f"{folder} cannot be read: {reason(error)}")
        except DamagedError as damaged:
            _warn(f"{damaged}; ignoring it")
        else:
            _report(kept.path, problems)
            return kept
    return None


def place(fallback: bool = True) -> Path:
    """Return the path to write this machine's object to, in the user's folder or else the temporary one.

    If the user's folder cannot be used, a warning says why.

    Args:
        fallback: whether the temporary folder may be used.

    Raises:
        RefusedError: if no folder can be used.
    """
    problems: list[str] = []
    for folder in candidates(fallback):
        try:
            if isinstance(folder, RefusedError):
                raise folder
            path = writable(folder) / name()
        except RefusedError as refused:
            problems.append(str(refused))
        else:
            _report(path, problems)
            return path
    raise RefusedError("; ".join(problems))


def _report(path: Path, problems: Sequence[str]) -> None:
    if problems:
        what, how = (f", not in {VARIABLE}", "") if is_requested() else ("", f"; set {VARIABLE} to choose a folder")
        _warn(f"compiled kernels are cached in {path.parent}{what}: {'; '.join(problems)}{how}")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=1)  # always at the same line, so that Python shows a message once


@cache
def name() -> str:
    """Return the file name of this machine's object: the CPU and a digest of everything that the object depends on.

    Raises:
        RefusedError: if the kernel sources are missing.
    """
    return current_name()


def current_name() -> str:
    """Return the file name of this machine's object for the sources as they are now."""
    package = Path(__file__).parent.parent
    sources = sorted(path for folder in _COMPILED for path in (package / folder).rglob("*.py"))
    if not sources:
        raise RefusedError("the kernel sources are missing, so compiled kernels cannot be identified")
    cpu, *others = machine_name()
    sha = hashlib.sha256()
    for source in sources:
        sha.update(f"{source.parent.name}/{source.name}".encode() + b"\0" + source.read_bytes() + b"\0")
    for each in (cpu, *others, _numba_version()):
        sha.update(each.encode() + b"\0")
    return f"{cpu}-{sha.hexdigest()[:32]}{SUFFIX}"


def _numba_version() -> str:
    """Return Numba's version without importing Numba, which would take longer than the rest of start-up."""
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        return "none"
    try:
        return Path(spec.origin).with_name("_version.py").read_text(encoding="utf-8")
    except OSError:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("numba")
        except PackageNotFoundError:  # another module of that name
            return "none"


def read(path: Path) -> ObjectCode:
    """Return the object in a file.

    Raises:
        OSError: if it cannot be read.
        RefusedError: if another user could have written it.
        DamagedError: if it was truncated, altered or renamed since it was written.
    """
    with path.open("rb") if os.name == "nt" else os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError(f"{path} is not a file")
        check_status(status, path)
        content = file.read()
    digest, _, body = content.partition(b"\n")
    if digest != _digest(path, body):
        raise DamagedError(f"{path} is truncated or altered")
    if time.time() - status.st_mtime > _NOTED:
        with contextlib.suppress(OSError):
            os.utime(path)
    calls, _, code = body.partition(b"\n")
    return ObjectCode(code, tuple(calls.decode().split()))


def is_valid(path: Path) -> bool:
    """Return whether a file is a complete object that can be trusted."""
    try:
        return bool(read(path).code)
    except (OSError, RefusedError, DamagedError):
        return False


def write(path: Path, content: ObjectCode) -> None:
    """Write an object atomically: after a crash, the file is complete or absent. The caller holds the folder's lock.

    Raises:
        OSError: if it cannot be written.
    """
    body = " ".join(content.calls).encode() + b"\n" + content.code
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o644)  # other users may read it if the folder's mode lets them
            file.write(_digest(path, body) + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def prune(folder: Path) -> None:
    """Delete objects that were not used for long, except the most recent ones, and files of killed processes."""
    ages: dict[Path, float] = {}
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            with contextlib.suppress(OSError):
                ages[path] = time.time() - path.stat().st_mtime
    objects = sorted((path for path in ages if path.suffix == SUFFIX), key=ages.__getitem__)
    old = [path for path in objects[_KEPT:] if ages[path] > _UNUSED]
    left = [path for path in ages if path.suffix != SUFFIX and ages[path] > _FORGOTTEN]
    for path in old + left:
        with contextlib.suppress(OSError):
            path.unlink()


def _digest(path: Path, body: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\n" + body).hexdigest().encode()
