"""Units of the benchmarks, compiled for this process: what is called from Python must run long inside compiled code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from knock_kernels.cache import store
from knock_kernels.lang.codegen import compile_units
from knock_kernels.lang.units import UNITS


class Compiled:
    """The units whose names begin with a prefix, compiled together on first use.

    Args:
        prefix: of the functions' names. They may call the units of the kernels.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    @cached_property
    def _engine(self) -> Any:
        kernels = store.loaded()
        own = [unit for unit in UNITS if unit.symbol.startswith(f"knock_{self._prefix}")]
        for unit in UNITS:
            address = kernels.get_function_address(unit.symbol)
            if address:  # 0 for the units of other benchmarks
                llvm.add_symbol(unit.symbol, address)
        return store.load(compile_units(own))

    def call(self, name: str, *arguments: np.ndarray[Any, Any] | int) -> Callable[[], None]:
        """Return a function without arguments that runs a unit over arrays and numbers.

        Args:
            name: of the function, without the prefix.
            arguments: of the function; it gets the addresses of arrays.
        """
        function = store.function(self._engine, f"{self._prefix}{name}")
        numbers = [each.ctypes.data if isinstance(each, np.ndarray) else each for each in arguments]

        def call() -> None:
            function(*numbers)
            assert arguments  # keeps the arrays, and with them the memory, alive

        return call
