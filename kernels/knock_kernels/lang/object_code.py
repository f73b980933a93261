"""Machine code and its external symbols."""

from __future__ import annotations

from typing import NamedTuple


class ObjectCode(NamedTuple):
    """Machine code and the names of the external functions that it calls."""

    code: bytes
    calls: tuple[str, ...] = ()
