"""Object code in files: named by all that it depends on, checked when it is read, whole or not there at all.

An object's name has a digest of what it depends on, so that one made from other sources, by another Numba or for
another CPU is never found. How objects come about is the business of `knock_kernels.cache.compiling`.
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

from knock_kernels.cache.folder import Refused, candidates, check, check_status, reason, writable
from knock_kernels.lang.cpu import machine_name
from knock_kernels.lang.object_code import ObjectCode

SUFFIX = ".kernels"

_COMPILED = ("lang", "ops", "loops")  # folders of the package on which machine code depends; this one is not among them

_OURS = re.compile(rf"[\w.+-]+-[0-9a-f]{{32}}\{SUFFIX}(\.\w+)?")  # with marks and temporary files
_KEPT = 8  # objects: of other CPUs that share the folder, other environments, earlier states of the sources
_UNUSED = 30 * 86400.0  # seconds after which others go, if nobody has used them
_FORGOTTEN = 3600.0  # seconds after which a mark or a temporary file is nobody's any more
_NOTED = 86400.0  # seconds after which it is noted again that an object was used


class Damaged(Exception):  # what the file is
    """A file that is not what was written."""


class Kept(NamedTuple):
    """This machine's object, and the file it is in."""

    path: Path
    content: ObjectCode


def find() -> Kept | None:
    """This machine's object: from the user's own folder, or else from a temporary one. Nothing is changed.

    What is wrong with a better folder is told by a warning.
    """
    problems: list[str] = []
    for folder in candidates():
        try:
            if isinstance(folder, Refused):
                raise folder
            check(folder)
            kept = Kept(folder / name(), read(folder / name()))
        except FileNotFoundError:
            continue
        except Refused as refused:
            problems.append(str(refused))
        except OSError as error:
            problems.append(f"{folder} cannot be read: {reason(error)}")
        except Damaged as damaged:
            _warn(f"{damaged}, and is not used")
        else:
            _tell(kept.path, problems)
            return kept
    return None


def place() -> Path:
    """Where this machine's object is to be written: in the user's own folder, or else in a temporary one.

    What is wrong with the better one is told by a warning.

    Raises:
        Refused: if there is neither.
    """
    problems: list[str] = []
    for folder in candidates():
        try:
            if isinstance(folder, Refused):
                raise folder
            path = writable(folder) / name()
        except Refused as refused:
            problems.append(str(refused))
        else:
            _tell(path, problems)
            return path
    raise Refused("; ".join(problems))


def _tell(path: Path, problems: Sequence[str]) -> None:
    if problems:
        _warn(f"compiled kernels are kept in {path.parent}: {'; '.join(problems)}")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=1)  # from one line of code each time, so that Python shows it once


@cache
def name() -> str:
    """Of this machine's object: the CPU, and a digest of everything that it depends on.

    Raises:
        Refused: if that cannot be found out.
    """
    return current_name()


def current_name() -> str:
    """What `name` would be with the sources as they are now."""
    package = Path(__file__).parent.parent
    sources = sorted(path for folder in _COMPILED for path in (package / folder).glob("*.py"))
    if not sources:
        raise Refused("the sources of the kernels are not there, so nothing compiled from them can be told apart")
    cpu, *others = machine_name()
    sha = hashlib.sha256()
    for source in sources:
        sha.update(f"{source.parent.name}/{source.name}".encode() + b"\0" + source.read_bytes() + b"\0")
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
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("numba")
        except PackageNotFoundError:  # something else of that name
            return "none"


def read(path: Path) -> ObjectCode:
    """The object in a file.

    Raises:
        OSError: if it cannot be read.
        Refused: if someone else could have written it.
        Damaged: if it was cut or altered since it was written, or written under another name.
    """
    with path.open("rb") if os.name == "nt" else os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path} is not a file")
        check_status(status, path)
        content = file.read()
    digest, _, body = content.partition(b"\n")
    if digest != _digest(path, body):
        raise Damaged(f"{path} was cut or altered")
    if time.time() - status.st_mtime > _NOTED:
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
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o644)  # others may use it where the folder lets them in
            file.write(_digest(path, body) + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def prune(folder: Path) -> None:
    """Delete objects that have not been used for long, if there are many, and what killed processes left."""
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
