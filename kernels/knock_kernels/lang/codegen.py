"""Compile units to machine code. Requires Numba; loading the result requires only llvmlite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm

from knock_kernels.lang.cpu import target_machine
from knock_kernels.lang.object_code import ObjectCode
from knock_kernels.lang.translating import translate
from knock_kernels.lang.units import Unit


def compile_units(units: Iterable[Unit]) -> ObjectCode:
    """Compile units into one object for this machine's CPU, each as a function under its symbol.

    Args:
        units: callees before callers.
    """
    machine = target_machine()
    module = _linked(units, machine)
    declared = [function.name for function in module.functions if function.is_declaration]
    calls = tuple(name for name in declared if not name.startswith("llvm."))
    return ObjectCode(bytes(machine.emit_object(module)), calls)


def compile_in_process(units: Iterable[Unit]) -> Any:
    """Compile units for this process only; return an engine that resolves their addresses."""
    machine = target_machine()
    engine = llvm.create_mcjit_compiler(_linked(units, machine), machine)
    engine.finalize_object()
    return engine


def _linked(units: Iterable[Unit], machine: Any) -> Any:
    """Return one module of all units, each optimised on its own."""
    whole = llvm.parse_assembly("")
    for unit in units:
        module = _module(unit)
        _optimize(module, machine)
        whole.link_in(module)
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(whole, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return whole


def _module(unit: Unit) -> Any:
    """Return a unit's module. The unit has its own symbol; everything else is internal."""
    translated = translate(unit.function, unit.signature.args, unit.signature.return_type)
    module = llvm.parse_assembly(translated.library.get_llvm_str())
    for value in (*module.functions, *module.global_variables):
        if value.name == translated.fndesc.llvm_func_name:
            value.name = unit.symbol
        elif not value.is_declaration:
            value.linkage = "internal"
    return module


def _optimize(module: Any, machine: Any) -> None:
    """Run LLVM's passes on a module, as Numba does by default."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization, options.slp_vectorization = True, False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
