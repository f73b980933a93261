"""Translate functions to LLVM IR with Numba."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from numba.core import config as numba_config
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

_config: Any = numba_config  # its settings are made when it is imported, unknown to mypy


@cache
def translate(
    function: Callable[..., Any], arguments: tuple[Any, ...], result: Any = None, *, is_inlined: bool = False
) -> Any:
    """Return a function translated for some types: its signature, and its name and module in Numba's library.

    Division follows IEEE 754: an error path for a zero divisor would prevent loops from being vectorised. Nothing is
    contracted or reordered, so that results have the same bits on every CPU.

    Args:
        function: the function.
        arguments: the types of its arguments.
        result: the type of its result; None to infer it.
        is_inlined: whether LLVM has to inline it.
    """
    flags: Any = Flags()
    flags.error_model, flags.forceinline = "numpy", is_inlined
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    with global_compiler_lock, _unoptimized():
        translated = compile_extra(cpu_target.typing_context, _context(), function, arguments, result, flags, {})
        translated.library.finalize()  # with the functions that it calls
    return translated


@cache
def _context() -> Any:
    """Return Numba's context for compiling ahead of time: the other also makes machine code of every function."""
    return cpu_target.target_context.with_aot_codegen("knock")


@contextlib.contextmanager
def _unoptimized() -> Iterator[None]:
    """Keep Numba from running LLVM's passes on each function of a unit; they run once, on the unit."""
    kept = _config.OPT
    _config.OPT = type(kept)(0)
    try:
        yield
    finally:
        _config.OPT = kept
