"""A quick stand-in for Numba's compiler, for processes that tests start with this folder on PYTHONPATH.

It returns the object that the tests' own process compiled, after a while, and can be killed at any point.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

_FOLDER = Path(os.environ["STAND_IN_FOLDER"])
_OBJECT = Path(os.environ["STAND_IN_OBJECT"])
_SECONDS = float(os.environ.get("STAND_IN_SECONDS", "0.5"))
_KILLED_AT = os.environ.get("STAND_IN_KILLED_AT", "")
_KILLS = int(os.environ.get("STAND_IN_KILLS", "1000"))  # compilations after which none is killed
_NUMBA = os.environ.get("STAND_IN_NUMBA", "")
_LLVMLITE = os.environ.get("STAND_IN_LLVMLITE", "")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def _dying(function: Any) -> Any:
    def die_first(*_: object, **__: object) -> None:
        _die()

    def die_after(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        _die()

    return die_after if _KILLED_AT.endswith("ed") else die_first


def _compile_units(_units: object) -> Any:
    from knock_kernels.cache import compiler, objects, store

    with (_FOLDER / "compilations").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if any(name.startswith("NUMBA_") for name in os.environ):
        raise RuntimeError("Numba is set up for something else")
    if hasattr(os, "getsid"):
        (_FOLDER / "detached").write_text(str(os.getsid(0) == os.getpid()))
    if _KILLED_AT == "error":
        raise RuntimeError("the stand-in fails on request")
    if _KILLED_AT == "crash":
        os.write(2, b"LLVM ERROR: the stand-in crashes on request\n")
        os.abort()
    time.sleep(_SECONDS)
    if _KILLED_AT == "compile" and len((_FOLDER / "compilations").read_text().splitlines()) <= _KILLS:
        _die()
    if _KILLED_AT == "edited":
        compiler.current_name = lambda: "another"
    for module, name, points in (
        (store, "load", ("load", "loaded")),
        (os, "fsync", ("sync", "synced")),
        (Path, "replace", ("replace", "replaced")),
        (compiler, "prune", ("prune", "pruned")),
    ):
        if _KILLED_AT in points:
            setattr(module, name, _dying(getattr(module, name)))
    digest, _, body = _OBJECT.read_bytes().partition(b"\n")
    assert digest
    calls, _, code = body.partition(b"\n")
    return objects.ObjectCode(code, tuple(calls.decode().split()))


def _stand_in(name: str, **names: Any) -> None:
    module = ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module


_stand_in("knock_kernels.lang.codegen", compile_units=_compile_units)
_stand_in("knock_kernels.loops.batch")
_stand_in("knock_kernels.lang.units", UNITS=SimpleNamespace())
if _NUMBA == "none":
    sys.modules["numba"] = None  # type: ignore[assignment]  # marks a module that cannot be imported
elif _NUMBA:
    from knock_kernels.cache import objects

    objects._numba_version = lambda: _NUMBA
if _LLVMLITE:
    import llvmlite

    llvmlite.__version__ = _LLVMLITE
