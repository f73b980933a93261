"""The peak of float32 on one core: the matrix product of NumPy's BLAS, in a process of its own.

Variables that choose the kernels of OpenBLAS, as some set them for reproducible results, would lower this limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from bench.child import Child

SIZE = 384  # of square matrices: large enough for BLAS to be at its best, small enough for the caches
MULTIPLY_ADDS = SIZE**3
_CHOOSING = ("OPENBLAS", "GOTO", "BLIS", "MKL", "OMP", "KMP", "NPY", "VECLIB")
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def blas() -> Child:
    """Return a process with the work "sgemm": MULTIPLY_ADDS multiply-adds on one thread."""
    unset = {name: None for name in os.environ if name.startswith(tuple(f"{each}_" for each in _CHOOSING))}
    return Child(_prepare, environment=unset | dict.fromkeys(_THREADS, "1"))


def blas_name() -> str:
    """Return the name of NumPy's BLAS."""
    name = str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"])  # type: ignore[call-overload,index]
    return "OpenBLAS" if "openblas" in name else name


def _prepare() -> dict[str, Callable[[], object]]:
    a, b = np.random.default_rng(0).standard_normal((2, SIZE, SIZE), np.float32)
    out = np.empty_like(a)
    return {"sgemm": lambda: np.matmul(a, b, out=out)}
