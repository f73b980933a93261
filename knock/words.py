"""Words of messages."""

from __future__ import annotations

from collections.abc import Iterable


def listed(words: Iterable[str]) -> str:
    """Return words as a list, such as `a`, `a and b` or `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 step` or `3,000 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
