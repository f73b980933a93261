"""Words of messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 step` or `3,000 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
