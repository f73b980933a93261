"""The compiled entry points, and the layout of what they work on: all that the engine sees of this package."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from knock_kernels.cpu import WIDTH
from knock_kernels.layout import PANEL, ROWS, SPAN, At, Control, Lane, Plan, Stat, make_plan

__all__ = ["PANEL", "ROWS", "SPAN", "WIDTH", "At", "Control", "Lane", "Plan", "Stat", "entry_points", "make_plan"]


def entry_points() -> Any:
    """The compiled functions by name, made by Numba in this process."""
    from knock_kernels import decode, jit  # noqa: F401  the one brings the other all its units

    return SimpleNamespace(**jit.link())
