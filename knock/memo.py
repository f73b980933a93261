"""A bounded memo of computed values."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

_LARGEST = 4096  # entries, after which it starts again


class Memo:
    """Keeps computed values by key, so that equal keys share one object. When it is full, it is emptied."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return the value of a key, computing it if it is new."""
        if key not in self._values:
            if len(self._values) >= _LARGEST:
                self._values.clear()
            self._values[key] = compute()
        return self._values[key]
