"""One thread for everything that is measured, set before any library starts its own."""

from __future__ import annotations

import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
os.environ["NPROC"] = "1"  # the size of XLA's own pool
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"


def pytest_sessionstart() -> None:
    """What is measured runs compiled kernels."""
    from knock.engine.backends import compile_now

    compile_now()
