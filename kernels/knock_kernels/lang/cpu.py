"""CPU detection and the LLVM target. Requires llvmlite, but not Numba."""

from __future__ import annotations

from typing import Any

import llvmlite
import llvmlite.binding as llvm

_OLDEST_LLVMLITE = (0, 45)

if tuple(map(int, llvmlite.__version__.split(".")[:2])) < _OLDEST_LLVMLITE:
    oldest = ".".join(map(str, _OLDEST_LLVMLITE))
    raise ImportError(f"llvmlite {llvmlite.__version__} is too old, need {oldest} or newer; pip install -U numba")


def register_width() -> int:
    """Return the number of float32 elements in the widest vector registers that the kernels can use on this CPU."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") and features.get("fma") else 4


REGISTER = register_width()


def pair_products() -> dict[int, str]:
    """Return the LLVM intrinsics that multiply int16 numbers and add pairs, by their number of int32 results."""
    if not llvm.get_process_triple().startswith("x86_64"):
        return {}
    features = llvm.get_host_cpu_features()
    names = {4: "llvm.x86.sse2.pmadd.wd"}
    if features.get("avx2"):
        names[8] = "llvm.x86.avx2.pmadd.wd"
    if features.get("avx512bw"):
        names[16] = "llvm.x86.avx512.pmaddw.d.512"
    return names


PAIR_PRODUCTS = pair_products()


def machine_name() -> list[str]:
    """Return what machine code depends on: CPU name, target triple, CPU features and llvmlite version."""
    features = llvm.get_host_cpu_features().flatten()
    return [llvm.get_host_cpu_name(), llvm.get_process_triple(), features, llvmlite.__version__]


def target_machine() -> Any:
    """Return an LLVM target machine for this CPU with all its features."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    features = llvm.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)
