"""Selection of a backend: the compiled kernels, or NumPy while there are none.

Compile up front only when it pays off: on a machine where the kernels have never been compiled, short work runs on
NumPy while they are compiled in the background, and long work has them compiled first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from knock.choices import BACKENDS, Backend
from knock.errors import KnockError
from knock.validation import is_one_of, shown

if TYPE_CHECKING:
    from knock_kernels.cache.entry_points import EntryPoints

VARIABLE = "KNOCK_BACKEND"

_WORTH_COMPILING = 10.0  # seconds of work on NumPy: compiling takes about as long
_started = threading.Lock()  # acquired for good by the first thread that starts the background compiler
_waiting = threading.Lock()  # held by the thread that waits for a compiler, so that all threads share one
_NOTICE = "compiling knock's kernels, once for this machine"


def chosen(backend: str) -> Backend:
    """Return the requested backend: the argument, or KNOCK_BACKEND if that is `"auto"`.

    Raises:
        KnockError: if there is no such backend.
    """
    if not is_one_of(backend, BACKENDS):
        raise KnockError(f"backend must be one of {', '.join(BACKENDS)}, got {shown(backend)}")
    from_environment = os.environ.get(VARIABLE) or "auto"
    if from_environment not in BACKENDS:
        raise KnockError(f"{VARIABLE} must be one of {', '.join(BACKENDS)}, got {shown(from_environment)}")
    return next(each for each in BACKENDS if each == (from_environment if backend == "auto" else backend))


def kernels(backend: Backend, seconds: float) -> EntryPoints | None:
    """Return the compiled functions, or None for NumPy.

    Args:
        backend: `"compiled"` compiles however long it takes, `"numpy"` never does.
        seconds: how long the work would take on NumPy.

    Raises:
        KnockError: if the backend is `"compiled"` and the kernels cannot be run.
    """
    if backend == "numpy":
        return None
    try:
        from knock_kernels.cache import store
    except (ImportError, OSError) as error:  # OSError: llvmlite is there, and its library is not
        _without(backend, str(error))
        return None
    with contextlib.suppress(store.NotCompiledError):
        return store.entry_points()
    if backend == "auto" and seconds < _WORTH_COMPILING:
        _start_compiling()
        return None
    return _compile_first(backend)


def compile_ahead() -> None:
    """Compile the kernels in the background, unless they are compiled or KNOCK_BACKEND names a backend.

    Raises:
        KnockError: if KNOCK_BACKEND is not a backend.
    """
    if chosen("auto") == "auto":
        kernels("auto", 0.0)


def kept() -> Path | None:
    """Return the file of this machine's compiled kernels, None if there is none; in KNOCK_CACHE_DIR alone if it is set.

    Raises:
        KnockError: if they could not be loaded.
    """
    try:
        from knock_kernels.cache import store
    except (ImportError, OSError) as error:
        raise KnockError(str(error)) from error
    return store.kept()


def compile_now() -> Path:
    """Compile the kernels into the user's folder unless they are there, with a notice on standard error.

    Returns:
        Their file: in KNOCK_CACHE_DIR if that is set, else in the user's cache folder, or the temporary one if that
        cannot be used.

    Raises:
        KnockError: if they cannot be compiled or cached.
    """
    try:
        from knock_kernels.cache import compiling
    except (ImportError, OSError) as error:
        raise KnockError(str(error)) from error

    try:
        with _Clock() as clock:
            return compiling.install(clock.update)
    except compiling.NotKeptError as error:
        raise KnockError(f"the kernels cannot be cached: {error}") from error
    except compiling.CompilationError as error:
        raise KnockError(f"the kernels cannot be compiled: {error}") from error


def _start_compiling() -> None:
    if not _started.acquire(blocking=False):
        return
    from knock_kernels.cache import compiling, store

    try:
        failure = compiling.start()
    except (compiling.CompilationError, store.RefusedError) as error:
        _without("auto", str(error))
    else:
        if failure:
            _warn(f"compiling the kernels in the background failed: {failure}; knock warmup tries again")


def _compile_first(backend: Backend) -> EntryPoints | None:
    from knock_kernels.cache import compiling, store

    with _waiting:
        try:
            try:
                with _Clock() as clock:
                    compiling.wait(clock.update)  # returns at once if another thread has waited before
                return store.entry_points()
            except compiling.NotKeptError as error:
                _warn(f"the kernels are compiled for this process alone: {error}")
                return compiling.in_process()
        except compiling.CompilationError as error:
            _without(backend, str(error))
            return None


def _without(backend: Backend, problem: str) -> None:
    """Warn that NumPy is used instead of the kernels.

    Raises:
        KnockError: if the kernels were requested.
    """
    if backend == "compiled":
        raise KnockError(f"the compiled kernels cannot be run: {problem}; the backend numpy needs none")
    _warn(f"running on NumPy, which is slower: {problem}")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=1)


class _Clock:
    """Reports on standard error that kernels are being compiled and, on a terminal, for how many seconds."""

    def __init__(self) -> None:
        self._shown = -1
        self._live = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> _Clock:
        return self

    def update(self, seconds: float) -> None:
        """Update the notice; called several times a second."""
        if int(seconds) > self._shown:
            if self._live:
                self._write(f"\r{_NOTICE}: {seconds:.0f} s")
            elif self._shown < 0:
                self._write(f"{_NOTICE} ...\n")
            self._shown = int(seconds)

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        if self._shown >= 0 and self._live:
            self._write("\r\x1b[K")
        elif self._shown >= 0 and exception is None:
            self._write(f"it took {self._shown} s\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error is closed or missing
            sys.stderr.write(text)
            sys.stderr.flush()
