"""Limit every library to one thread, before any of them starts its own, and compile the kernels."""

from __future__ import annotations

import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
os.environ["NPROC"] = "1"  # the size of XLA's thread pool
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"


def pytest_sessionstart() -> None:
    """Compile the kernels before anything is measured."""
    from knock.engine.backends import compile_now

    compile_now()
