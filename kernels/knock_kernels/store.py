"""The compiled entry points, and the layout of what they work on: all that the engine sees of this package."""

from __future__ import annotations

from typing import Any

from knock_kernels.cpu import WIDTH
from knock_kernels.layout import ROWS, At, Control, Lane, Plan, Stat, make_plan

__all__ = ["ROWS", "WIDTH", "At", "Control", "Lane", "Plan", "Stat", "entry_points", "make_plan"]


def entry_points() -> Any:
    """The module of entry points, compiled by Numba in this process when they are first called."""
    from knock_kernels import entry

    return entry
