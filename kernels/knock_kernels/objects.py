"""Object code in files: named by all that it depends on, checked when it is read, whole or not there at all.

An object's name has a digest of what it depends on, so that one made from other sources, by another Numba or for
another CPU is never found. How objects come about is the business of `knock_kernels.compiling`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from knock_kernels.cpu import machine_name
from knock_kernels.folder import Refused, reason, temporary_folder, trusted, user_folder

SUFFIX = ".kernels"

_KEPT = 8  # objects: of other CPUs that share the folder, other environments, earlier states of the sources
_FORGOTTEN = 3600.0  # seconds after which a temporary file is nobody's any more
_NOTED = 86400.0  # seconds after which it is noted again that an object was used


class Damaged(Exception):  # what the file is
    """A file that is not what was written."""


class ObjectCode(NamedTuple):
    """Machine code, and the functions it calls that are not its own."""

    code: bytes
    calls: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where this machine's object is, or where it should go, and the object, if it is there and whole."""

    path: Path
    found: ObjectCode | None


def find() -> Place:
    """The first folder that has the object, or can take it: the user's own, or else a temporary one.

    What is wrong with a better place is told by a warning, with the same line of code each time, so that Python shows
    it once.

    Raises:
        Refused: if there is neither.
    """
    problems = []
    for choose in (user_folder, temporary_folder):
        try:
            path = trusted(choose()) / name()
            found = _read_or_delete(path)
            if found or os.access(path.parent, os.W_OK):
                break
            problems.append(f"{path.parent} cannot be written to")
        except Refused as refused:
            problems.append(str(refused))
    else:
        raise Refused("; ".join(problems))
    for problem in problems:
        warnings.warn(f"compiled kernels are kept in {path.parent}: {problem}", stacklevel=1)
    return Place(path, found)


def _read_or_delete(path: Path) -> ObjectCode | None:
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {reason(error)}") from error
    except Damaged as damaged:
        warnings.warn(f"{damaged}, and is not used", stacklevel=1)
        with contextlib.suppress(OSError):
            path.unlink()
        return None


@cache
def name() -> str:
    """Of the file: the CPU, and a digest of everything that the object depends on."""
    return current_name()


def current_name() -> str:
    """What `name` would be with the sources as they are now."""
    cpu, *others = machine_name()
    sha = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        sha.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    for each in (cpu, *others, _numba_version()):
        sha.update(each.encode() + b"\0")
    return f"{cpu}-{sha.hexdigest()[:32]}{SUFFIX}"


def _numba_version() -> str:
    """Numba's version, from the file that says it: to import Numba takes longer than all the rest of starting up."""
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        return "none"
    try:
        return Path(spec.origin).with_name("_version.py").read_text(encoding="utf-8")
    except OSError:
        from importlib.metadata import version

        return version("numba")


def read(path: Path) -> ObjectCode:
    """The object in a file.

    Raises:
        OSError: if it cannot be read.
        Damaged: if it was cut or altered since it was written, or written under another name.
    """
    content = path.read_bytes()
    digest, _, body = content.partition(b"\n")
    if digest != _digest(path, body):
        raise Damaged(f"{path} was cut or altered")
    if time.time() - path.stat().st_mtime > _NOTED:
        with contextlib.suppress(OSError):
            os.utime(path)
    calls, _, code = body.partition(b"\n")
    return ObjectCode(code, tuple(calls.decode().split()))


def write(path: Path, content: ObjectCode) -> None:
    """Write a file: a reader, or a crash, finds all of it or nothing. Whoever does so has the folder's lock.

    Raises:
        OSError: if it cannot be written.
    """
    body = " ".join(content.calls).encode() + b"\n" + content.code
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(_digest(path, body) + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def prune(folder: Path) -> None:
    """Delete the objects that have not been used for longest, and what killed processes left."""
    objects = sorted(_dated(folder, f"*{SUFFIX}"), reverse=True)
    others = [each for each in _dated(folder, f"*{SUFFIX}.*") if each[0] < time.time() - _FORGOTTEN]
    for _, path in objects[_KEPT:] + others:
        with contextlib.suppress(OSError):
            path.unlink()


def _dated(folder: Path, pattern: str) -> Iterator[tuple[float, Path]]:
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            yield path.stat().st_mtime, path


def _digest(path: Path, body: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\n" + body).hexdigest().encode()
