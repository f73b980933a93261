"""CPU detection and the LLVM target. Requires llvmlite, but not Numba."""

from __future__ import annotations

import os
from typing import Any

import llvmlite
import llvmlite.binding as llvm

_OLDEST_LLVMLITE = (0, 45)

if tuple(map(int, llvmlite.__version__.split(".")[:2])) < _OLDEST_LLVMLITE:
    oldest = ".".join(map(str, _OLDEST_LLVMLITE))
    raise ImportError(f"llvmlite {llvmlite.__version__} is too old, need {oldest} or newer; pip install -U numba")


VARIABLE = "KNOCK_CPU_FEATURES"


def features() -> Any:
    """Return the features of this CPU that the kernels may use, a dict with a method `flatten`.

    The environment variable KNOCK_CPU_FEATURES lists features to do without, as in `avx512f,fma`; `avx512*` stands for
    all that begin so. Tests compare the results of several sets.
    """
    found = llvm.get_host_cpu_features()
    for name in filter(None, os.environ.get(VARIABLE, "").split(",")):
        for each in found:
            if each == name or (name.endswith("*") and each.startswith(name[:-1])):
                found[each] = False
    return found


def register_width() -> int:
    """Return the number of float32 elements in the widest vector registers that the kernels can use on this CPU."""
    found = features()
    if found.get("avx512f"):
        return 16
    return 8 if found.get("avx2") else 4


REGISTER = register_width()


def pair_products() -> dict[int, str]:
    """Return the LLVM intrinsics that multiply int16 numbers and add pairs, by their number of int32 results."""
    if not llvm.get_process_triple().startswith("x86_64"):
        return {}
    found = features()
    names = {4: "llvm.x86.sse2.pmadd.wd"}
    if found.get("avx2"):
        names[8] = "llvm.x86.avx2.pmadd.wd"
    if found.get("avx512bw"):
        names[16] = "llvm.x86.avx512.pmaddw.d.512"
    return names


def quad_sums() -> dict[int, str]:
    """Return the LLVM intrinsics that add four products of bytes to each int32 number, by how many numbers (VNNI)."""
    found, names = features(), {}
    if found.get("avxvnni") or (found.get("avx512vnni") and found.get("avx512vl")):
        names = {4: "llvm.x86.avx512.vpdpbusd.128", 8: "llvm.x86.avx512.vpdpbusd.256"}
    if found.get("avx512vnni"):
        names[16] = "llvm.x86.avx512.vpdpbusd.512"
    return names


def byte_products() -> dict[int, str]:
    """Return the LLVM intrinsics that multiply bytes and add pairs in int16, by half their number of results."""
    found = features()
    names = {
        4: ("ssse3", "llvm.x86.ssse3.pmadd.ub.sw.128"),
        8: ("avx2", "llvm.x86.avx2.pmadd.ub.sw"),
        16: ("avx512bw", "llvm.x86.avx512.pmaddubs.w.512"),
    }
    return {count: name for count, (feature, name) in names.items() if found.get(feature)}


PAIR_PRODUCTS = pair_products()
QUAD_SUMS, BYTE_PRODUCTS = quad_sums(), byte_products()


def machine_name() -> list[str]:
    """Return what machine code depends on: CPU name, target triple, CPU features and llvmlite version."""
    return [llvm.get_host_cpu_name(), llvm.get_process_triple(), features().flatten(), llvmlite.__version__]


def target_machine() -> Any:
    """Return an LLVM target machine for this CPU with all its features."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features().flatten(), opt=3, jit=True)
