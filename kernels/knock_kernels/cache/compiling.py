"""Start compilation: in the background for the next run, in a process that the caller waits for, or in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from knock_kernels.cache.compiler import DONE, NOT_KEPT
from knock_kernels.cache.entry_points import EntryPoints
from knock_kernels.cache.folder import VARIABLE, RefusedError, is_requested, reason
from knock_kernels.cache.marks import Marks, last_line
from knock_kernels.cache.objects import current_name, find, is_valid, name, place, write
from knock_kernels.cache.once import once

# Flags of this interpreter, and the options that pass them on to the compiler process.
_FLAGS = {"isolated": "-I", "ignore_environment": "-E", "no_user_site": "-s", "no_site": "-S"}

# How a compiler process ends that something else stopped: another attempt may succeed. After a crash it would not.
_KILLED = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP} if os.name == "posix" else {1}


class CompilationError(Exception):
    """The kernels could not be compiled."""


class NotKeptError(CompilationError):
    """The kernels can be compiled, but not cached or not loaded from the cache."""


def start() -> str | None:
    """Compile the kernels in the background for the next run, unless that has failed twice within an hour.

    Returns:
        Why the last attempt failed; None if it did not, or if this was reported before.

    Raises:
        CompilationError: if the compiler cannot be started.
        RefusedError: if no folder can be used.
    """
    path = place()
    marks = Marks(path)
    again = not marks.has_failed
    failure = marks.take_failure()
    if again:
        process = _process(path.parent, background=True)
        with contextlib.suppress(RuntimeError):  # if no more threads are available
            # Reap the process when it ends; it would otherwise remain in the process table until this one ends.
            threading.Thread(target=process.wait, daemon=True).start()
    return failure


def wait(progress: Callable[[float], None]) -> Path:
    """Compile the kernels in another process and wait for it, unless they are cached.

    Args:
        progress: called several times a second with the seconds elapsed.

    Returns:
        The file of the compiled kernels.

    Raises:
        NotKeptError: if they cannot be cached, or could not be loaded within the last hour.
        CompilationError: if they cannot be compiled.
    """
    if kept := find():
        return kept.path
    try:
        path = place()
    except RefusedError as refused:
        raise NotKeptError(str(refused)) from refused
    if Marks(path).is_unloadable:
        raise NotKeptError("cached kernels cannot be loaded on this machine")
    return _compile(path, progress)


def install(progress: Callable[[float], None]) -> Path:
    """Compile the kernels into the user's folder, even if that has failed before, or copy them there.

    The temporary folder takes its place only if the user's folder cannot be used and KNOCK_CACHE_DIR is not set.

    Args:
        progress: called several times a second with the seconds elapsed.

    Returns:
        The file of the compiled kernels.

    Raises:
        NotKeptError: if they cannot be cached there, or not be loaded.
        CompilationError: if they cannot be compiled.
    """
    if kept := find(fallback=False):  # the user may not be able to write there
        return kept.path
    try:
        path = place(fallback=not is_requested())
    except RefusedError as refused:
        advice = "a folder that only you can write to"
        if is_requested():
            raise NotKeptError(f"{VARIABLE} is set, and {refused}; choose {advice}") from refused
        raise NotKeptError(f"{refused}; set {VARIABLE} to {advice}") from refused
    elsewhere = find()
    if elsewhere is None:
        return _compile(path, progress)
    if elsewhere.path != path:
        try:
            with Marks(path).lock(timeout=-1):
                write(path, elsewhere.content)
                Marks(path).clear()
        except OSError as error:
            raise NotKeptError(f"{path.parent} cannot be written to: {reason(error)}") from error
    return path


def _compile(path: Path, progress: Callable[[float], None]) -> Path:
    """Compile the kernels into a file in another process, and wait for it; try again once if that is killed."""
    marks, started = Marks(path), time.monotonic()
    code, said = _finished(path, progress, started)
    if code in _KILLED and not said and not marks.is_unloadable:
        code, said = _finished(path, progress, started)
    if code != DONE:
        failure = last_line(said.splitlines()) or marks.take_failure(_ending(code)) or _ending(code)
        not_kept = code == NOT_KEPT or marks.is_unloadable
        raise (NotKeptError if not_kept else CompilationError)(failure)
    if not is_valid(path):
        raise NotKeptError(f"no compiled kernels found in {path.parent}; their sources may have changed")
    return path


def _finished(path: Path, progress: Callable[[float], None], started: float) -> tuple[int, str]:
    """Run the compiler process; return its exit code and its error message, if any."""
    process = _process(path.parent, background=False)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, said = process.communicate(timeout=0.1)
                return process.returncode, said
            progress(time.monotonic() - started)
    except BaseException:
        process.kill()
        process.wait()
        Marks(path).forget()
        raise


def _ending(code: int) -> str:
    """Describe the end of a compiler process that left no message."""
    if code >= 0:
        return f"the compiler stopped before it finished, with exit code {code}"
    memory = ", perhaps because memory ran out" if -code == signal.SIGKILL else ""
    return f"the compiler was killed by signal {-code}{memory}"


@once
def in_process() -> EntryPoints:
    """Compile the kernels with Numba for this process only; return their entry points.

    Raises:
        CompilationError: if they cannot be compiled.
    """
    if current_name() != name():
        raise CompilationError("the kernel sources changed since this process started")
    try:
        from knock_kernels.lang import codegen
        from knock_kernels.lang.units import UNITS
        from knock_kernels.loops import batch  # noqa: F401  # declares all units

        return EntryPoints(codegen.compile_in_process(UNITS))
    except Exception as error:  # anything that Numba, or its absence, may raise
        raise CompilationError(f"Numba cannot compile the kernels: {last_line(str(error).splitlines())}") from error


def _process(folder: Path, background: bool) -> subprocess.Popen[str]:
    """Start the compiler process, with the module search path of this one."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise CompilationError("no Python interpreter is available to run the compiler")
    if importlib.util.find_spec("numba") is None:
        raise CompilationError("Numba is not installed; pip install numba")
    paths = [*_absolute(sys.path), str(Path(__file__).parents[2])]
    code = f"import sys; sys.path[:] = {paths}; from knock_kernels.cache.compiler import main; "
    code += f"sys.exit(main({str(folder)!r}, background={background}))"
    detached: dict[str, Any] = {}
    if background and sys.platform == "win32":
        detached["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    elif background:
        detached["start_new_session"] = True  # Ctrl-C and a closing terminal must not stop it
    options = [option for flag, option in _FLAGS.items() if getattr(sys.flags, flag)]
    try:
        return subprocess.Popen(
            [sys.executable, "-P", *options, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if background else subprocess.PIPE,
            text=True,
            errors="replace",
            # Numba's settings, from variables or a file in the working folder, are meant for other code, and some would
            # change the result.
            env={variable: value for variable, value in os.environ.items() if not variable.startswith("NUMBA_")},
            cwd=folder,
            **detached,
        )
    except OSError as error:
        raise CompilationError(f"{sys.executable} cannot be started: {reason(error)}") from error


def _absolute(paths: list[str]) -> list[str]:
    found = []
    for path in paths:
        with contextlib.suppress(OSError):  # '' is the current folder, which may no longer exist
            found.append(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps '..'
    return found
