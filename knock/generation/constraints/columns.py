"""The kinds of columns of a schema: their fields, and the regular expressions of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from knock.errors import SchemaError
from knock.generation.constraints import dates, numbers
from knock.generation.constraints.notation import BARE, STRING, Notation, literal, one_of
from knock.validation import shown

Column = Mapping[str, Any]

TYPES = ("string", "number", "boolean", "json")  # of values in JSON

_COMMON = ("name", "kind", "type", "missing", "optional")
_REQUIRED = object()


class _Kind(NamedTuple):
    """A kind of column.

    Attributes:
        fields: its fields, with their default values; `_REQUIRED` where there is none.
        expression: returns the expression of a value as it is written, given the column with all fields, the notation,
            and the number of characters up to which lengths are counted. Raises `ValueError` for a wrong field.
    """

    fields: Mapping[str, Any]
    expression: Callable[[Column, Notation, int], str]


def field(column: Column, notation: Notation | None, empty: str, bound: int) -> str:
    """Return the regular expression of a column's field in a row.

    Args:
        column: the column, checked by `check_column`.
        notation: how its values are written; None for JSON, where that depends on their type.
        empty: how a missing value is written.
        bound: longest text whose length is counted; longer ones may have any length.

    Raises:
        SchemaError: if a value of the column is invalid.
    """
    own = notation or (STRING if column.get("type") == "string" else BARE)
    if column["kind"] == "mixed":
        expression = one_of(field({**part, "missing": False}, notation, empty, bound) for part in column["of"])
    else:
        kind = KINDS[column["kind"]]
        try:
            expression = kind.expression({**kind.fields, **column}, own, bound)
        except (ValueError, TypeError) as error:
            raise SchemaError(str(error)) from error
    if not column.get("missing") and column["kind"] != "empty":
        return expression
    if column["kind"] == "empty":
        return literal(empty)
    return f"(?:{expression}|{literal(empty)})" if empty else f"(?:{expression})?"


def check_column(column: Any, *, is_json: bool) -> None:
    """Check that a column has the fields of its kind, and no others.

    Raises:
        SchemaError: if it has not.
    """
    if not isinstance(column, Mapping):
        raise SchemaError(f"it must be an object, got {shown(column)}")
    kind = column.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SchemaError(f"the kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
    fields = KINDS[kind].fields
    for name in column:
        if name not in fields and name not in _COMMON:
            raise SchemaError(f"unknown field {name!r}; a column of kind {kind!r} has {', '.join(fields) or 'none'}")
    for name, default in fields.items():
        if default is _REQUIRED and name not in column:
            raise SchemaError(f"a column of kind {kind!r} needs the field {name!r}")
    if kind == "mixed":
        if not isinstance(column["of"], list) or not column["of"]:
            raise SchemaError(f"'of' must be a list of kinds, got {shown(column['of'])}")
        for part in column["of"]:
            check_column(part, is_json=is_json)
    elif is_json and kind != "empty" and column.get("type") not in TYPES:
        raise SchemaError(f"the type must be one of {', '.join(TYPES)}, got {shown(column.get('type'))}")


def width(column: Column) -> int:
    """Return the number of characters of an expression that a column of texts takes if their length is counted."""
    if column["kind"] == "mixed":
        return sum(map(width, column["of"]))
    return 3 * (column.get("max_length") or 0) if column["kind"] == "text" else 0


def _choice(column: Column, notation: Notation, bound: int) -> str:
    values = column["values"]
    if not isinstance(values, list) or not values or not all(isinstance(each, str) for each in values):
        raise ValueError(f"values must be a list of texts, got {shown(values)}")
    return one_of(literal(notation.value(each)) for each in dict.fromkeys(values))


def _integer(column: Column, notation: Notation, bound: int) -> str:
    least, most = _pair([column["min"], column["max"]], "min and max", int)
    return notation.pattern(numbers.between(least, most))


def _decimal(column: Column, notation: Notation, bound: int) -> str:
    least, most = _pair([column["min"], column["max"]], "min and max", (int, float))
    fewest, longest = _pair(column["decimals"], "decimals", int)
    if fewest < 0 or longest > 1_000 or column["separator"] not in (".", ","):
        raise ValueError(f"decimals must be from 0 to 1,000, separated by '.' or ',', got {shown(dict(column))}")
    return notation.pattern(numbers.decimals(least, most, (fewest, longest), column["separator"]))


def _number(column: Column, notation: Notation, bound: int) -> str:
    digits = column["digits"]
    if not isinstance(digits, list) or len(digits) != 3 or not all(type(each) is int and each > 0 for each in digits):
        raise ValueError(
            f"digits must be three counts, those of digits before and after the point and of the exponent, got "
            f"{shown(digits)}"
        )
    whole, decimals, exponent = digits
    return notation.pattern(
        f"-?(?:0|[1-9][0-9]{{0,{whole - 1}}})(?:[.][0-9]{{1,{decimals}}})?(?:[eE][-+]?[0-9]{{1,{exponent}}})?"
    )


def _date(column: Column, notation: Notation, bound: int) -> str:
    formats, years = column["formats"], _pair(column["years"], "years", int)
    if not isinstance(formats, list) or not formats or not all(isinstance(each, str) for each in formats):
        raise ValueError(f"formats must be a list of texts, got {shown(formats)}")
    if years[0] < 0 or years[1] > 9999:
        raise ValueError(f"years must be from 0 to 9999, got {list(years)}")
    # One after the other: with a comma in a format, its values are quoted, and others may not be.
    return one_of(notation.pattern(dates.expression(each, years)) for each in formats)


def _pattern(column: Column, notation: Notation, bound: int) -> str:
    if not isinstance(column["pattern"], str):
        raise ValueError(f"pattern must be a regular expression, got {shown(column['pattern'])}")
    return notation.pattern(column["pattern"])


def _text(column: Column, notation: Notation, bound: int) -> str:
    characters, least, most = (column[name] for name in ("characters", "min_length", "max_length"))
    if not isinstance(characters, str) or (not characters and most != 0):
        raise ValueError(f"characters must be a text, got {shown(characters)}")
    least, _ = _pair([least, least if most is None else most], "min_length and max_length", int)
    if least < 0:
        raise ValueError(f"min_length must be at least 0, got {least}")
    if most == 0:
        return literal(notation.value(""))
    if most is None or most > bound:
        return notation.text(characters, min(least, 1 if most else max(1, bound)), None)
    return notation.text(characters, least, most)


def _pair(values: Any, name: str, kind: type | tuple[type, ...]) -> tuple[Any, Any]:
    """Check that values are two numbers in order."""
    is_fit = isinstance(values, list) and len(values) == 2
    if not is_fit or not all(isinstance(each, kind) and not isinstance(each, bool) for each in values):
        raise ValueError(f"{name} must be two numbers, got {shown(values)}")
    if not values[0] <= values[1]:
        raise ValueError(f"{name} must be in order, got {shown(values)}")
    return values[0], values[1]


def _nothing(column: Column, notation: Notation, bound: int) -> str:
    return ""


KINDS: dict[str, _Kind] = {
    "choice": _Kind({"values": _REQUIRED}, _choice),
    "integer": _Kind({"min": _REQUIRED, "max": _REQUIRED}, _integer),
    "decimal": _Kind({"min": _REQUIRED, "max": _REQUIRED, "decimals": _REQUIRED, "separator": "."}, _decimal),
    "number": _Kind({"digits": _REQUIRED}, _number),
    "date": _Kind({"formats": _REQUIRED, "years": [1, 9999]}, _date),
    "pattern": _Kind({"pattern": _REQUIRED}, _pattern),
    "text": _Kind({"characters": _REQUIRED, "min_length": 1, "max_length": None}, _text),
    "mixed": _Kind({"of": _REQUIRED}, _nothing),
    "empty": _Kind({}, _nothing),
}
