"""Numbers as people pass them: Python's and NumPy's alike, checked, as Python's own."""

from __future__ import annotations

import math
import operator
from typing import Any

from knock.errors import KnockError


def whole_number(
    name: str, value: Any, minimum: int, maximum: int | None = None, *, error: type[KnockError], note: str = ""
) -> int:
    """`value` as an int.

    Args:
        name: what it is, for the message.
        value: anything.
        minimum: the smallest that is allowed.
        maximum: the largest, if there is one.
        error: what to raise.
        note: what else there is to say of the range.

    Raises:
        KnockError: of type `error`, if it is not a whole number in that range.
    """
    bounds = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum or (maximum is not None and number > maximum):
        raise error(f"{name} must be a whole number {bounds}{note}, got {shown(value)}")
    return number


def real_number(value: Any) -> float:
    """`value` as a float; NaN if it is no number."""
    if isinstance(value, (bool, str, bytes)):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def shown(value: Any, limit: int = 60) -> str:
    """A value in a message: its repr, cut."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out numbers of many thousand digits
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= limit else text[: limit - 3] + "..."
