"""Machine code, and what it needs from outside."""

from __future__ import annotations

from typing import NamedTuple


class ObjectCode(NamedTuple):
    """Machine code, and the functions it calls that are not its own."""

    code: bytes
    calls: tuple[str, ...] = ()
