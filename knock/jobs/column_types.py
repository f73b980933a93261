"""The types of a table's columns in JSON and Parquet, by its schema.

JSON has types, and they are kept. The fields of CSV have none: numbers, true and false, and dates are recognised by the
kind of their column, provided that they are written in the one way that a reader expects.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring as string_of
from typing import Any, Literal

from knock.files.json_table import plain
from knock.files.tables import Cell

ColumnType = Literal["string", "integer", "number", "boolean", "date", "time", "json"]

_INTEGER = re.compile("-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LARGEST = 2**63 - 1  # integer of Parquet; in JSON, too, larger ones are texts, since many readers would round them

_CODE = re.compile("%([1-9]f|-?.)")
_DAY = ({"Y", "y"}, {"m", "-m"}, {"d", "-d"})  # a date has one code of each
_ZONE = re.compile(r" ?(?:Z|UTC|GMT|\+00:?00)$")


class TypedColumn:
    """A column of a table with a type.

    Args:
        column: its schema.
        is_json: whether it is a column of JSON objects.

    Attributes:
        name: its name.
        type: its type.
        has_zone: whether its times are in UTC; others are in no particular zone.
    """

    def __init__(self, column: Mapping[str, Any], *, is_json: bool) -> None:
        self.name: str = column["name"]
        self.has_zone = False
        self._is_json = is_json
        self._format = ""
        self._has_comma = column["kind"] == "decimal" and column.get("separator") == ","
        self._may_miss = bool(column.get("missing")) or column["kind"] == "empty"
        self.type: ColumnType = _type_in_json(column) if is_json else self._type(column)

    def _type(self, column: Mapping[str, Any]) -> ColumnType:
        if column["kind"] != "date":
            return _type_of_texts(column)
        form, years = column["formats"][0], column.get("years", [1])
        codes = [code for code in _CODE.findall(form) if code != "%"]
        is_date = all(len(each & set(codes)) == 1 for each in _DAY) and years[0] > 0
        # What one of several formats reads, another may misread; Python's times have at most six decimals.
        if len(column["formats"]) > 1 or not is_date or {"f", "7f", "8f", "9f"} & set(codes):
            return "string"
        self.has_zone = "z" in codes or _ZONE.search(form) is not None
        self._format = re.sub("%[1-6]f", "%f", form.replace("%-", "%"))
        return "date" if len(codes) == len(_DAY) and not self.has_zone else "time"

    def value(self, cell: Cell) -> Any:
        """Return a cell as the Python object of its type; None if it is missing."""
        if self._is_missing(cell):
            return None
        text = plain(cell) if self._is_json and self.type != "json" else str(cell)
        if self.type == "integer":
            return int(text)
        if self.type == "number":
            return float(text.replace(",", ".") if self._has_comma else text)
        if self.type == "boolean":
            return text.lower() == "true"
        return self._moment(text) if self.type in ("date", "time") else text

    def json(self, cell: Cell) -> Cell:
        """Return a cell as a JSON text; dates are strings."""
        if self._is_json:
            return cell
        if self._is_missing(cell):
            return "null"
        text = str(cell)
        if self.type in ("integer", "number"):
            return text.replace(",", ".") if self._has_comma else text
        return text.lower() if self.type == "boolean" else string_of(text)

    def _is_missing(self, cell: Cell) -> bool:
        if self._is_json:
            return cell is None or cell == "null"
        return not cell and (self._may_miss or self.type != "string")

    def _moment(self, text: str) -> datetime.date | datetime.datetime:
        if self._format == "%Y-%m-%d":
            return datetime.date.fromisoformat(text)
        moment = datetime.datetime.strptime(text, self._format)
        if self.type == "date":
            return moment.date()
        return moment.replace(tzinfo=datetime.UTC) if self.has_zone and moment.tzinfo is None else moment


def _type_in_json(column: Mapping[str, Any]) -> ColumnType:
    if column["kind"] == "mixed":
        types = {_type_in_json(part) for part in column["of"]}
        return types.pop() if len(types) == 1 else "json"
    kind = column.get("type", "string")
    if kind == "number":
        return "integer" if _type_of_texts(column) == "integer" else "number"
    return kind  # type: ignore[no-any-return]  # checked with the schema


def _type_of_texts(column: Mapping[str, Any]) -> ColumnType:
    """Return the type of a column whose values are texts of its kind."""
    kind = column["kind"]
    if kind == "mixed":
        kinds = {_type_of_texts(part) for part in column["of"]}
        if kinds == {"integer", "number"}:
            return "number"
        return kinds.pop() if len(kinds) == 1 and kinds <= {"integer", "number"} else "string"
    if kind == "integer":
        return "integer" if column["min"] >= -_LARGEST and column["max"] <= _LARGEST else "string"
    if kind in ("decimal", "number"):
        return "number"
    return _type_of_values(column["values"]) if kind == "choice" else "string"


def _type_of_values(values: Sequence[str]) -> ColumnType:
    if all(map(_INTEGER.fullmatch, values)):
        return "integer" if all(-_LARGEST <= int(value) <= _LARGEST for value in values) else "string"
    if all(map(_NUMBER.fullmatch, values)):
        return "number"
    return "boolean" if {value.lower() for value in values} <= {"true", "false"} else "string"
