"""Have the kernels compiled: in the background for next time, or while the caller waits, or in the caller's process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from knock_kernels.cache import store
from knock_kernels.cache.compiler import DONE, NOT_KEPT
from knock_kernels.cache.folder import Refused, reason
from knock_kernels.cache.marks import Marks, last_line
from knock_kernels.cache.objects import current_name, find, name, place
from knock_kernels.cache.once import once

# Python's options that the compiler's process must have too, where this one has them.
_FLAGS = {"isolated": "-I", "ignore_environment": "-E", "no_user_site": "-s", "no_site": "-S"}


class CompilationError(Exception):
    """The kernels could not be compiled."""


class NotKeptError(CompilationError):
    """The kernels can be compiled, but not kept, or not loaded from where they are kept."""


def start() -> str | None:
    """Have the kernels compiled in the background, for next time, unless that has failed twice in an hour.

    Returns:
        Why the last attempt failed, if it did and this has not been told before.

    Raises:
        CompilationError: if it cannot be started.
        Refused: if there is no folder for them.
    """
    path = place()
    marks = Marks(path)
    again = not marks.has_failed
    failure = marks.take_failure()
    if again:
        process = _process(path.parent, background=True)
        with contextlib.suppress(RuntimeError):  # where no more threads can be had
            # It waits for the end, or the process would stay in the system's table for as long as this one lives.
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
    if kept := find():
        return kept.path
    try:
        path = place()
    except Refused as refused:
        raise NotKeptError(str(refused)) from refused
    marks = Marks(path)
    if marks.is_unloadable and not insist:
        raise NotKeptError("kept kernels cannot be loaded on this machine")
    process = _process(path.parent, background=False)
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
        marks.forget()
        raise
    if process.returncode != DONE:
        from_log = marks.take_failure()
        failure = last_line(said.splitlines()) or from_log or f"it ended with exit code {process.returncode}"
        not_kept = process.returncode == NOT_KEPT or marks.is_unloadable
        raise (NotKeptError if not_kept else CompilationError)(failure)
    kept = find()
    if kept is None:
        raise NotKeptError(f"they are not in {path.parent}; were the kernels' sources changed?")
    return kept.path


@once
def in_process() -> SimpleNamespace:
    """The entry points, compiled by Numba in this process and for it alone.

    Raises:
        CompilationError: if they cannot be.
    """
    if current_name() != name():
        raise CompilationError("the sources of the kernels changed since this process began")
    try:
        from knock_kernels.lang import codegen
        from knock_kernels.lang.units import UNITS
        from knock_kernels.loops import batch  # noqa: F401  # which declares all units

        return store.named(codegen.compile_in_process(UNITS))
    except Exception as error:  # whatever Numba, or its absence, may raise
        raise CompilationError(f"Numba cannot compile them: {last_line(str(error).splitlines())}") from error


def _process(folder: Path, background: bool) -> subprocess.Popen[str]:
    """Start the compiler, with this process's modules."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise CompilationError("there is no Python interpreter to compile with")
    if importlib.util.find_spec("numba") is None:
        raise CompilationError("Numba is not installed; pip install numba")
    paths = [*_absolute(sys.path), str(Path(__file__).parents[2])]
    code = f"import sys; sys.path[:] = {paths}; from knock_kernels.cache.compiler import main; "
    code += f"sys.exit(main({str(folder)!r}, background={background}))"
    detached: dict[str, Any] = {}
    if background and sys.platform == "win32":
        detached["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    elif background:
        detached["start_new_session"] = True  # neither Ctrl-C nor a terminal that closes is meant for it
    options = [option for flag, option in _FLAGS.items() if getattr(sys.flags, flag)]
    try:
        return subprocess.Popen(
            [sys.executable, "-P", *options, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if background else subprocess.PIPE,
            text=True,
            errors="replace",
            # Numba's own settings, in variables or in a file where one works, are for others' code: some would change
            # what is made here.
            env={variable: value for variable, value in os.environ.items() if not variable.startswith("NUMBA_")},
            cwd=folder,
            **detached,
        )
    except OSError as error:
        raise CompilationError(f"{sys.executable} cannot be started: {reason(error)}") from error


def _absolute(paths: list[str]) -> list[str]:
    found = []
    for path in paths:
        with contextlib.suppress(OSError):  # '' is where this process is, which may be gone
            found.append(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps the ..s
    return found
