"""Values as JSON on one line: those of rows, and those of tables, for which JSON has no type."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any


def json_of(value: Any) -> str:
    """Return a value as JSON on one line. NaN and infinity, which JSON has not, are null.

    Of the values in a table, bytes become base64, and dates, decimals and the like strings.
    """
    try:
        return _strict(value)
    except ValueError:
        return _strict(_finite(value))


def _json_value(value: Any) -> Any:
    """Return a value that JSON has no type for, pyarrow's scalars included, as one that it has."""
    if hasattr(value, "as_py"):
        try:
            value = value.as_py(maps_as_pydicts="lossy")
        except ValueError:  # a time in nanoseconds, which Python cannot hold
            return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, list, dict)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_strict = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_json_value).encode


def _finite(value: Any) -> Any:
    if hasattr(value, "as_py"):
        value = _json_value(value)
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
