"""Validate user-supplied names and numbers, Python's or NumPy's; show values in messages."""

from __future__ import annotations

import math
import operator
import unicodedata
from collections.abc import Collection
from typing import Any

from knock.errors import KnockError

LONGEST = 2**28  # characters of a text in a batch, whose buffers are allocated up front
LARGEST = 10**15  # whole number unless another limit is given: floats represent it, C's integers many times that

_CIRCLE = "\u25cc"


def whole_number(
    name: str, value: Any, minimum: int, maximum: int | None = None, *, error: type[KnockError], note: str = ""
) -> int:
    """Return `value` as an int.

    Args:
        name: name of the value in the error message.
        value: the value to check.
        minimum: smallest allowed value.
        maximum: largest allowed value; None for `LARGEST`, which the message mentions only if it is exceeded.
        error: type of the exception to raise.
        note: remark on the range, appended to it in the error message.

    Raises:
        KnockError: of type `error`, if the value is not a whole number in the range.
    """
    try:
        number = minimum - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = minimum - 1
    if not is_between(number, minimum, maximum):
        raise error(f"{name} must be a whole number {bounds(number, minimum, maximum)}{note}, got {shown(value)}")
    return number


def is_between(number: int, minimum: int, maximum: int | None) -> bool:
    """Return whether a whole number is in a range, up to `LARGEST` if `maximum` is None."""
    return minimum <= number <= (LARGEST if maximum is None else maximum)


def bounds(number: int, minimum: int, maximum: int | None) -> str:
    """Return the range of a whole number, for an error message about one outside it."""
    if maximum is None and number < minimum:
        return f"of at least {minimum}"
    return f"from {minimum} to {LARGEST if maximum is None else maximum}"


def real_number(value: Any) -> float:
    """Return `value` as a float; NaN if it is not a number."""
    if isinstance(value, (bool, str, bytes)):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def is_one_of(value: Any, names: Collection[str]) -> bool:
    """Return whether `value` is one of the names; an array, which compares item by item, is not."""
    return isinstance(value, str) and value in names


def shown(value: Any, limit: int = 60) -> str:
    """Return the repr of a value for an error message, on one line and truncated to `limit` characters."""
    try:
        text = quoted(value) if isinstance(value, str) else " ".join(map(str.strip, repr(value).splitlines()))
    except ValueError:  # Python refuses to format ints of more than a few thousand digits
        text = "a value too long to show"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def quoted(text: str) -> str:
    """Return the repr of a text, in which a combining mark without a base stands on a dotted circle."""
    return repr(on_circles(text))


def on_circles(text: str) -> str:
    """Put a dotted circle before each combining mark without a base, which would change what is printed before it."""
    if text.isascii():
        return text
    parts, has_base = [], False
    for char in text:
        category = unicodedata.category(char)[0]
        if category == "M" and not has_base:
            parts.append(_CIRCLE)
        parts.append(char)
        has_base = category not in "ZC"  # separators and control characters
    return "".join(parts)
