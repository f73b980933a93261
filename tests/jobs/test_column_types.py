"""Tests of the types of a table's columns in JSON and Parquet."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from knock.jobs.column_types import TypedColumn

UTC = datetime.UTC


def column(is_json: bool = False, **fields: Any) -> TypedColumn:
    return TypedColumn({"name": "x", **fields}, is_json=is_json)


@pytest.mark.parametrize(
    ("fields", "cell", "kind", "value"),
    [
        ({"kind": "integer", "min": -5, "max": 9}, "-3", "integer", -3),
        ({"kind": "integer", "min": 0, "max": 2**63}, "12", "string", "12"),
        ({"kind": "integer", "min": -(2**64), "max": 0}, "-12", "string", "-12"),
        ({"kind": "decimal", "min": 0, "max": 1, "decimals": [2, 2]}, "0.50", "number", 0.5),
        ({"kind": "decimal", "min": 0, "max": 1, "decimals": [2, 2], "separator": ","}, "0,50", "number", 0.5),
        ({"kind": "number", "digits": [3, 3, 2]}, "-1e5", "number", -1e5),
        ({"kind": "choice", "values": ["0", "12"]}, "12", "integer", 12),
        ({"kind": "choice", "values": ["0", "007"]}, "007", "string", "007"),
        ({"kind": "choice", "values": [str(10**19)]}, str(10**19), "string", str(10**19)),
        ({"kind": "choice", "values": ["1", "0.5"]}, "1", "number", 1.0),
        ({"kind": "choice", "values": ["TRUE", "FALSE"]}, "FALSE", "boolean", False),
        ({"kind": "choice", "values": ["true", "maybe"]}, "true", "string", "true"),
        ({"kind": "pattern", "pattern": "[0-9]+"}, "12", "string", "12"),
        ({"kind": "text", "characters": "nul"}, "null", "string", "null"),
        ({"kind": "mixed", "of": [{"kind": "integer", "min": 0, "max": 1},
                                  {"kind": "decimal", "min": 0, "max": 1, "decimals": [1, 1]}]}, "1", "number", 1.0),
        ({"kind": "mixed", "of": [{"kind": "integer", "min": 0, "max": 1}, {"kind": "empty"}]}, "1", "string", "1"),
        ({"kind": "date", "formats": ["%d.%m.%Y"]}, "29.02.2024", "date", datetime.date(2024, 2, 29)),
        ({"kind": "date", "formats": ["%Y-%m-%d"]}, "2024-02-29", "date", datetime.date(2024, 2, 29)),
        ({"kind": "date", "formats": ["%-m/%-d/%y"]}, "2/9/24", "date", datetime.date(2024, 2, 9)),
        ({"kind": "date", "formats": ["%Y-%m-%dT%H:%M:%SZ"]}, "2024-02-29T01:02:03Z", "time",
         datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)),
        ({"kind": "date", "formats": ["%Y-%m-%d %H:%M:%S.%3f"]}, "2024-02-29 01:02:03.250", "time",
         datetime.datetime(2024, 2, 29, 1, 2, 3, 250_000)),  # in no particular zone
        ({"kind": "date", "formats": ["%Y%m%d %-I:%M %p%z"]}, "20240229 1:02 PM+01:00", "time",
         datetime.datetime(2024, 2, 29, 12, 2, tzinfo=UTC)),
        ({"kind": "date", "formats": ["%H:%M"]}, "01:02", "string", "01:02"),
        ({"kind": "date", "formats": ["%d/%m/%Y", "%m/%d/%Y"]}, "01/02/2024", "string", "01/02/2024"),
        ({"kind": "date", "formats": ["%Y-%m-%d %H:%M:%S.%9f"]}, "x", "string", "x"),
        ({"kind": "date", "formats": ["%d.%m.%Y"], "years": [0, 10]}, "x", "string", "x"),
    ],
)  # fmt: skip
def test_fields_of_csv(fields: dict[str, Any], cell: str, kind: str, value: Any) -> None:
    typed = column(**fields)
    assert (typed.type, typed.value(cell), type(typed.value(cell))) == (kind, value, type(value))
    in_json = json.loads(typed.json(cell) or "")
    assert in_json == (value if kind in ("integer", "number", "boolean") else cell)


def test_missing_fields_of_csv() -> None:
    missing = [column(kind="text", characters="a", missing=True), column(kind="empty"),
               column(kind="choice", values=["1"], missing=True)]  # fmt: skip
    assert [(each.value(""), each.json("")) for each in missing] == [(None, "null")] * 3
    present = column(kind="text", characters="a", min_length=0)
    assert (present.value(""), present.json("")) == ("", '""')


@pytest.mark.parametrize(
    ("fields", "cell", "kind", "value"),
    [
        ({"kind": "choice", "values": ["1", "2"], "type": "string"}, '"1"', "string", "1"),
        ({"kind": "date", "formats": ["%Y-%m-%d"], "type": "string"}, '"2024-02-29"', "string", "2024-02-29"),
        ({"kind": "choice", "values": ["1", "2"], "type": "number"}, "1", "integer", 1),
        ({"kind": "choice", "values": ["1", "2.5"], "type": "number"}, "1", "number", 1.0),
        ({"kind": "choice", "values": ["false", "true"], "type": "boolean"}, "true", "boolean", True),
        ({"kind": "choice", "values": ["[1]"], "type": "json"}, "[1]", "json", "[1]"),
        ({"kind": "mixed", "of": [{"kind": "choice", "values": ["1"], "type": "number"},
                                  {"kind": "choice", "values": ["1"], "type": "string"}]}, '"1"', "json", '"1"'),
        ({"kind": "text", "characters": "a", "min_length": 0, "type": "string"}, '""', "string", ""),
        ({"kind": "text", "characters": "a", "type": "string"}, None, "string", None),
        ({"kind": "text", "characters": "a", "type": "string"}, "null", "string", None),
        ({"kind": "text", "characters": "nul", "type": "string"}, '"null"', "string", "null"),
    ],
)  # fmt: skip
def test_values_of_json_keep_their_types(fields: dict[str, Any], cell: str | None, kind: str, value: Any) -> None:
    typed = column(is_json=True, **fields)
    assert (typed.type, typed.value(cell), type(typed.value(cell))) == (kind, value, type(value))
    assert typed.json(cell) == cell
