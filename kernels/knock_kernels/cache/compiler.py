"""The process that compiles the kernels, and keeps what comes out.

python -c "from knock_kernels.cache.compiler import main; main(FOLDER, background=True)"
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from filelock import Timeout

from knock_kernels.cache import store
from knock_kernels.cache.folder import Refused, reason
from knock_kernels.cache.marks import Marks
from knock_kernels.cache.objects import Damaged, current_name, name, prune, read, write
from knock_kernels.lang.object_code import ObjectCode

DONE, FAILED, NOT_KEPT = 0, 1, 3

_PATIENCE = 1.0  # seconds that a process in the background waits for the lock
_ROOM = 2**18  # bytes, more than an object has


class _NotKept(Exception):
    """The object is there, and the folder does not take it."""


def main(folder: str, background: bool) -> int:
    """Compile the kernels unless they are there, or another process is at it; return an exit code."""
    path = Path(folder) / name()
    marks = Marks(path)
    try:
        with marks.lock(timeout=_PATIENCE if background else -1):
            if _is_there(path):  # from another process, while this one waited
                return DONE
            if background and hasattr(os, "nice"):
                os.nice(10)
            with marks.log.open("w", encoding="utf-8", errors="backslashreplace") as log:
                code, problem = _logged(path, log)
            if code == DONE:
                marks.clear()
    except Timeout:
        return DONE
    except OSError as error:
        code, problem = NOT_KEPT, f"{folder} cannot be written to: {reason(error)}"
    if problem:
        print(problem, file=sys.stderr)  # for the process that waits
    return code


def _is_there(path: Path) -> bool:
    with contextlib.suppress(OSError, Refused, Damaged):
        return bool(read(path).code)
    return False


def _logged(path: Path, log: TextIO) -> tuple[int, str]:
    """Compile and keep; the exit code, and what went wrong."""
    print(f"process {os.getpid()} compiles {path.name}", file=log, flush=True)
    code, problem = DONE, ""
    with _standard_error_to(log):
        try:
            _compile_and_keep(path)
        except _NotKept as error:
            code, problem = NOT_KEPT, str(error)
        except BaseException:
            code, problem = FAILED, traceback.format_exc()
    with contextlib.suppress(OSError):
        print(problem, file=log, flush=True)
    return code, problem


def _compile_and_keep(path: Path) -> None:
    with _told_as_not_kept(path.parent):
        write(path.with_name(f"{path.name}.room"), ObjectCode(bytes(_ROOM)))
        path.with_name(f"{path.name}.room").unlink()
    from knock_kernels.lang import codegen
    from knock_kernels.lang.units import UNITS
    from knock_kernels.loops import batch  # noqa: F401  # which declares all units

    content = codegen.compile_units(UNITS)
    if current_name() != path.name:
        raise RuntimeError("the sources of the kernels changed while they were compiled")
    with _told_as_not_kept(path.parent):
        Marks(path).unloadable.touch()
        store.load(content)  # where that is not possible, it may end the process: then the mark stays
        Marks(path).unloadable.unlink()
        write(path, content)
    prune(path.parent)


@contextlib.contextmanager
def _told_as_not_kept(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _NotKept(f"{folder} cannot be written to: {reason(error)}") from error


@contextlib.contextmanager
def _standard_error_to(file: TextIO) -> Iterator[None]:
    """Lead the file descriptor elsewhere: LLVM writes to it."""
    kept = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
