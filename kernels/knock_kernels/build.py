"""Compile units to object code. Needs Numba; loading what comes out needs llvmlite alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc

from knock_kernels.cpu import target_machine
from knock_kernels.jit import OPTIONS, Unit


def compile_units(units: Iterable[Unit]) -> bytes:
    """One object file in which each unit is a function by its symbol, for this machine's CPU.

    Args:
        units: callees before callers. What they call beyond each other must have an address in this process.
    """
    whole = llvm.parse_assembly("")
    for unit in units:
        whole.link_in(_module(unit))
        # Numba links what it compiles. The units of the object call each other; nothing calls this.
        llvm.add_symbol(unit.symbol, _NOWHERE)
    machine = target_machine()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(whole, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return bytes(machine.emit_object(whole))


_NOWHERE = 1


def _module(unit: Unit) -> Any:
    """A unit's optimised code, under its own symbol; all else in it is nobody else's."""
    compiled: Any = cfunc(unit.signature, **OPTIONS)(unit.function)
    # Beside the function there is a wrapper for C, which is not used: with its error path it falls away.
    name = compiled.native_name.removeprefix("cfunc.")
    module = llvm.parse_assembly(compiled._library.get_llvm_str())
    for value in (*module.functions, *module.global_variables):
        if value.name == name:
            value.name = unit.symbol
        elif not value.is_declaration:
            value.linkage = "internal"
    return module
