"""What this CPU can do, as far as the kernels care. Needs llvmlite, not Numba."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm


def vector_width() -> int:
    """Floats in the widest vector register of this CPU."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") and features.get("fma") else 4


WIDTH = vector_width()


def target_machine() -> Any:
    """What makes code for this CPU, with all that it has, and loads it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    features = llvm.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)
