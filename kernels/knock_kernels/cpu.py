"""What this CPU can do, as far as the kernels care. Needs llvmlite, not Numba."""

from __future__ import annotations

import llvmlite.binding as llvm


def vector_width() -> int:
    """Floats in the widest vector register of this CPU."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") and features.get("fma") else 4


WIDTH = vector_width()
