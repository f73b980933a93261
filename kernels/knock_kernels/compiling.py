"""Have the kernels compiled by a process of its own: in the background for next time, or while the caller waits.

One process at a time compiles into a folder: it has the lock. What goes wrong, in Python or in LLVM, goes to a log
beside the object; a log that is there while nobody has the lock tells of a process that did not get to its end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

from filelock import FileLock, Timeout

from knock_kernels import store
from knock_kernels.folder import Refused, reason
from knock_kernels.objects import ObjectCode, current_name, find, prune, write

_LOCK = "lock"
_LOG, _FAILED, _UNLOADABLE = ".log", ".failed", ".unloadable"  # beside the object
_DONE, _FAILURE, _NOT_KEPT = 0, 1, 3

_PAUSE = 3600.0  # seconds after a second failure until it is tried again without being asked for
_PATIENCE = 1.0  # seconds that a process in the background waits for the lock


class CompilationError(Exception):
    """The kernels could not be compiled."""


class NotKeptError(CompilationError):
    """The kernels can be compiled, but not kept, or not loaded from where they are kept."""


def start() -> str | None:
    """Have the kernels compiled in the background, for next time.

    Returns:
        Why the last attempt failed, if it did and this has not been told before.

    Raises:
        CompilationError: if it cannot be started.
        Refused: if there is no folder for them.
    """
    path = find().path
    give_up = any(_is_recent(_beside(path, mark)) for mark in (_FAILED, _UNLOADABLE))
    failure = _last_failure(path)
    if not give_up:
        process = _process(background=True)
        # Waits for its end, or it would stay in the table of processes for as long as this one lives.
        threading.Thread(target=process.wait, daemon=True).start()
    return failure


def wait(progress: Callable[[float], None], insist: bool = False) -> Path:
    """Have the kernels compiled, and wait for it.

    Args:
        progress: told several times a second for how many seconds it has gone on.
        insist: try it even if what came out could not be loaded lately.

    Returns:
        Where they are.

    Raises:
        NotKeptError: if they cannot be kept, or not be loaded.
        CompilationError: if they cannot be compiled.
    """
    try:
        where = find()
    except Refused as refused:
        raise NotKeptError(str(refused)) from refused
    if where.found:
        return where.path
    if not insist and _is_recent(_beside(where.path, _UNLOADABLE)):
        raise NotKeptError("kept kernels cannot be loaded on this machine")
    process = _process(background=False)
    started = time.monotonic()
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, said = process.communicate(timeout=0.1)
                break
            progress(time.monotonic() - started)
    except BaseException:
        process.kill()
        process.wait()
        _last_failure(where.path)  # there is nothing to tell next time
        raise
    if process.returncode != _DONE:
        from_log = _last_failure(where.path)
        failure = _last_line(said) or from_log or f"the compiler ended with exit code {process.returncode}"
        not_kept = process.returncode == _NOT_KEPT or _is_recent(_beside(where.path, _UNLOADABLE))
        raise (NotKeptError if not_kept else CompilationError)(failure)
    if find().found is None:
        raise NotKeptError(f"{where.path} was there, and is gone")
    return where.path


@cache
def in_process() -> SimpleNamespace:
    """The entry points, compiled by Numba in this process and for it alone.

    Raises:
        CompilationError: if they cannot be.
    """
    try:
        from knock_kernels import build, decode, jit  # noqa: F401  the second brings the third all its units
    except ImportError as error:
        raise CompilationError(f"Numba cannot be imported: {error}") from error
    return store.named(build.compile_in_process(jit.UNITS))


def _process(background: bool) -> subprocess.Popen[str]:
    """Start a process that runs `main` with this one's modules."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise CompilationError("there is no Python interpreter to compile with")
    if importlib.util.find_spec("numba") is None:
        raise CompilationError("Numba is not installed; pip install numba")
    paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100  # '' is where this process is
    code = f"import sys; sys.path[:] = {paths}; from knock_kernels.compiling import main; sys.exit(main({background}))"
    detached: dict[str, Any] = {}
    if background and sys.platform == "win32":
        detached["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    elif background:
        detached["start_new_session"] = True  # neither Ctrl-C nor a terminal that closes is meant for it
    try:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if background else subprocess.PIPE,
            text=True,
            # Numba's own settings are for others' code: some would change what is made here.
            env={name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")},
            **detached,
        )
    except OSError as error:
        raise CompilationError(f"{sys.executable} cannot be started: {reason(error)}") from error


def main(background: bool, compile_object: Callable[[], ObjectCode] | None = None) -> int:
    """Compile the kernels unless they are there, or another process is at it; return an exit code."""
    path = find().path
    try:
        with FileLock(path.parent / _LOCK, timeout=_PATIENCE if background else -1):
            if find().found:  # from another process, while this one waited
                return _DONE
            if background and hasattr(os, "nice"):
                os.nice(10)
            return _logged(path, compile_object or _compile)
    except Timeout:
        return _DONE
    except OSError as error:
        print(f"{path.parent} cannot be written to: {reason(error)}", file=sys.stderr)
        return _NOT_KEPT


def _compile() -> ObjectCode:
    from knock_kernels import build, decode, jit  # noqa: F401  the second brings the third all its units

    return build.compile_units(jit.UNITS)


def _logged(path: Path, compile_object: Callable[[], ObjectCode]) -> int:
    """Compile and keep, with a log that stays if it does not come to its end."""
    code, problem = _FAILURE, ""
    with _beside(path, _LOG).open("w", encoding="utf-8") as log:
        print(f"process {os.getpid()} compiles {path.name}", file=log, flush=True)
        with _standard_error_to(log):
            try:
                _keep(path, compile_object())
                code = _DONE
            except NotKeptError as error:
                code, problem = _NOT_KEPT, str(error)
            except BaseException:
                problem = traceback.format_exc()
        with contextlib.suppress(OSError):
            print(problem, file=log, flush=True)
    if code == _DONE:
        for mark in (_LOG, _FAILED):
            _beside(path, mark).unlink(missing_ok=True)
    else:
        print(problem, file=sys.stderr)  # for the process that waits
    return code


def _keep(path: Path, content: ObjectCode) -> None:
    if current_name() != path.name:
        raise CompilationError("the sources of the kernels changed while they were compiled")
    mark = _beside(path, _UNLOADABLE)
    try:
        mark.touch()
        store.load(content)  # where that is not possible, it may end the process: then the mark stays
        mark.unlink()
        write(path, content)
    except OSError as error:
        raise NotKeptError(f"{path.parent} cannot be written to: {reason(error)}") from error
    prune(path.parent)


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


def _last_failure(path: Path) -> str | None:
    """What the log of a process says that did not get to its end, once."""
    log = _beside(path, _LOG)
    if not log.exists():
        return None
    try:
        with FileLock(path.parent / _LOCK, timeout=0):
            said = log.read_text(encoding="utf-8", errors="replace")
            log.replace(_beside(path, _FAILED))
    except (OSError, Timeout):  # it is still at work, or has just come to its end
        return None
    lines = said.splitlines()[1:]
    return _last_line("\n".join(lines)) or "the compiler was stopped before its end"


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _is_recent(mark: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - mark.stat().st_mtime < _PAUSE
    return False


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
