"""Compile units to object code. Needs Numba; loading what comes out needs llvmlite alone."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc

from knock_kernels.lang.cpu import target_machine
from knock_kernels.lang.object_code import ObjectCode
from knock_kernels.lang.units import OPTIONS, Unit


def compile_units(units: Iterable[Unit]) -> ObjectCode:
    """One object in which each unit is a function by its symbol, for this machine's CPU.

    Args:
        units: callees before callers.
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
    declared = [function.name for function in whole.functions if function.is_declaration]
    calls = tuple(name for name in declared if not name.startswith("llvm."))
    return ObjectCode(bytes(machine.emit_object(whole)), calls)


_NOWHERE = 1


def _module(unit: Unit) -> Any:
    """A unit's optimised code, under its own symbol; all else in it is nobody else's."""
    compiled, name = _compiled(unit)
    module = llvm.parse_assembly(compiled._library.get_llvm_str())
    for value in (*module.functions, *module.global_variables):
        if value.name == name:
            value.name = unit.symbol
        elif not value.is_declaration:
            value.linkage = "internal"
    return module


def compile_in_process(units: Iterable[Unit]) -> Any:
    """The same, for this process alone: an engine that knows the addresses of the units, which Numba has loaded."""
    addresses: dict[str, int] = {}
    owners = []
    for unit in units:
        compiled, name = _compiled(unit)
        owners.append(compiled)
        addresses[unit.symbol] = compiled._library.get_pointer_to_function(name)
        llvm.add_symbol(unit.symbol, addresses[unit.symbol])
    return SimpleNamespace(get_function_address=addresses.__getitem__, owners=owners)


def _compiled(unit: Unit) -> tuple[Any, str]:
    """What Numba makes of a unit, and its name there.

    Beside the function there is a wrapper for C, which is not used: with its error path it falls away.
    """
    compiled: Any = cfunc(unit.signature, **OPTIONS)(unit.function)
    return compiled, compiled.native_name.removeprefix("cfunc.")
