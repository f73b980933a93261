"""Compile units to object code. Requires Numba; loading the result requires only llvmlite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc
from numba.core import config as numba_config

from knock_kernels.lang.cpu import target_machine
from knock_kernels.lang.object_code import ObjectCode
from knock_kernels.lang.units import OPTIONS, Unit

config: Any = numba_config  # its settings are made when it is imported, unknown to mypy


def compile_units(units: Iterable[Unit]) -> ObjectCode:
    """Compile units into one object for this machine's CPU, each as a function under its symbol.

    Args:
        units: callees before callers.
    """
    whole, machine = llvm.parse_assembly(""), target_machine()
    for unit in units:
        with _unoptimized():
            module = _module(unit)
        _optimize(module, machine)
        whole.link_in(module)
        # Numba links each module that it compiles, so the symbol needs an address. Nothing calls that address: in the
        # object, units call each other.
        llvm.add_symbol(unit.symbol, _NOWHERE)
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(whole, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    declared = [function.name for function in whole.functions if function.is_declaration]
    calls = tuple(name for name in declared if not name.startswith("llvm."))
    return ObjectCode(bytes(machine.emit_object(whole)), calls)


_NOWHERE = 1


def _module(unit: Unit) -> Any:
    """Return a unit's module. The unit has its own symbol; everything else is internal."""
    compiled, name = _compiled(unit)
    module = llvm.parse_assembly(compiled._library.get_llvm_str())
    for value in (*module.functions, *module.global_variables):
        if value.name == name:
            value.name = unit.symbol
        elif not value.is_declaration:
            value.linkage = "internal"
    return module


@contextlib.contextmanager
def _unoptimized() -> Iterator[None]:
    """Keep Numba from running LLVM's passes. It would do so for each kernel of a unit, and again for the unit."""
    kept = config.OPT
    config.OPT = type(kept)(0)
    try:
        yield
    finally:
        config.OPT = kept


def _optimize(module: Any, machine: Any) -> None:
    """Run LLVM's passes on a module, as Numba does by default."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization, options.slp_vectorization = True, False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def compile_in_process(units: Iterable[Unit]) -> Any:
    """Compile units for this process only; return an engine that resolves their addresses, with code owned by Numba."""
    addresses: dict[str, int] = {}
    owners = []
    for unit in units:
        compiled, name = _compiled(unit)
        owners.append(compiled)
        addresses[unit.symbol] = compiled._library.get_pointer_to_function(name)
        llvm.add_symbol(unit.symbol, addresses[unit.symbol])
    return SimpleNamespace(get_function_address=addresses.__getitem__, owners=owners)


def _compiled(unit: Unit) -> tuple[Any, str]:
    """Compile a unit with Numba; return the result and the function's name in it.

    Numba adds a wrapper for calls from C. It is not used, and is removed as dead code together with its error path.
    """
    compiled: Any = cfunc(unit.signature, **OPTIONS)(unit.function)
    return compiled, compiled.native_name.removeprefix("cfunc.")
