"""The process that compiles the kernels and caches the result.

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
from knock_kernels.cache.folder import reason
from knock_kernels.cache.marks import Marks
from knock_kernels.cache.objects import current_name, is_valid, name, prune, write
from knock_kernels.lang.object_code import ObjectCode

DONE, FAILED, NOT_KEPT = 0, 1, 3

_PATIENCE = 1.0  # seconds that a background process waits for the lock
_ROOM = 2**18  # bytes, more than an object needs


class _NotKeptError(Exception):
    """The object cannot be written to the folder."""


def main(folder: str, background: bool) -> int:
    """Compile the kernels unless they are cached or another process is compiling them; return an exit code."""
    path = Path(folder) / name()
    marks = Marks(path)
    try:
        with marks.lock(timeout=_PATIENCE if background else -1):
            if is_valid(path):  # another process compiled it while this one waited
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
        print(problem, file=sys.stderr)  # read by the process that waits
    return code


def _logged(path: Path, log: TextIO) -> tuple[int, str]:
    """Compile and cache, with standard error in the log; return the exit code and the error, if any."""
    print(f"process {os.getpid()} is compiling {path.name}", file=log, flush=True)
    code, problem = DONE, ""
    with _standard_error_to(log):
        try:
            _compile_and_keep(path)
        except _NotKeptError as error:
            code, problem = NOT_KEPT, str(error)
        except BaseException:
            code, problem = FAILED, traceback.format_exc()
    with contextlib.suppress(OSError):
        print(problem, file=log, flush=True)
    return code, problem


def _compile_and_keep(path: Path) -> None:
    with _os_errors_as_not_kept(path.parent):  # before compiling, which would be in vain on a full disk
        write(path.with_name(f"{path.name}.room"), ObjectCode(bytes(_ROOM)))
        path.with_name(f"{path.name}.room").unlink()
    from knock_kernels.lang import codegen
    from knock_kernels.lang.units import UNITS
    from knock_kernels.loops import batch  # noqa: F401  # declares all units

    content = codegen.compile_units(UNITS)
    if current_name() != path.name:
        raise RuntimeError("the kernel sources changed during compilation")
    with _os_errors_as_not_kept(path.parent):
        Marks(path).unloadable.touch()
        store.load(content)  # an object that cannot be loaded may crash the process; the mark then stays
        Marks(path).unloadable.unlink()
        write(path, content)
    prune(path.parent)


@contextlib.contextmanager
def _os_errors_as_not_kept(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _NotKeptError(f"{folder} cannot be written to: {reason(error)}") from error


@contextlib.contextmanager
def _standard_error_to(file: TextIO) -> Iterator[None]:
    """Redirect the file descriptor of standard error, which LLVM writes to."""
    kept = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
