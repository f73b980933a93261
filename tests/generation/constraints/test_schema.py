"""Schemas of tables: each row of a table matches the pattern of its schema, and each text of the pattern is a row."""

from __future__ import annotations

import csv
import datetime
import io
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.jobs.table import HEADER, customers, write_table
from knock.engine.batch import NOT_DONE
from knock.errors import SchemaError, TextError
from knock.files.tables import Cell, Table, read_table
from knock.generation.constraints.automaton import Rules, build
from knock.generation.constraints.dates import expression
from knock.generation.constraints.inference import schema_of
from knock.generation.constraints.numbers import between, decimals
from knock.generation.constraints.positions import positions
from knock.generation.constraints.schema import cells_of, check, described, longest_row, pattern_of, read_schema

TEXT = st.text(st.sampled_from('ab ,"\n\\\t;é'), min_size=0, max_size=7)
DATES = st.dates(datetime.date(1890, 1, 1), datetime.date(2110, 1, 1))
KINDS: dict[str, st.SearchStrategy[str]] = {
    "text": TEXT,
    "few": st.sampled_from(["DE", "a,b", 'say "x"', "FR"]),
    "integer": st.integers(-1200, 4000).map(str),
    "decimal": st.decimals(-30, 3000, places=2).map(str),
    "comma": st.decimals(0, 300, places=1).map(lambda number: str(number).replace(".", ",")),
    "number": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "iso": DATES.map(str),
    "german": DATES.map(lambda date: f"{date.day:02}.{date.month:02}.{date.year:04}"),
    "short": DATES.map(lambda date: f"{date.month}/{date.day}/{date.year % 100:02}"),
    "time": st.times().map(lambda time: time.strftime("%H:%M:%S")),
    "stamp": st.datetimes(datetime.datetime(1999, 1, 1), datetime.datetime(2030, 1, 1)).map(str),
    "id": st.from_regex(r"[A-Z]{2}-[0-9]{4,6}", fullmatch=True),
    "uuid": st.uuids().map(str),
    "address": st.from_regex(r"[a-z.]{0,5}[a-z]@(mail\.test|[a-z]{3}\.example\.org)", fullmatch=True),
}
CELLS = st.one_of(*KINDS.values())


def table_of(rows: Sequence[Sequence[Cell]], *, is_json: bool = False) -> Table:
    header = [f"column {i}" for i in range(len(rows[0]))]
    return Table("'made up'", "jsonl" if is_json else "csv", header, lambda: iter(rows))


@st.composite
def csv_tables(draw: st.DrawFn) -> Table:
    """Tables whose columns are each of one kind, mostly, with missing cells in some."""
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=5))
    count = draw(st.integers(1, 25))
    columns = []
    for kind in kinds:
        cells = KINDS[kind] | st.just("") if draw(st.booleans()) else KINDS[kind]
        columns.append(draw(st.lists(cells | CELLS if draw(st.integers(0, 5)) == 0 else cells, min_size=count,
                                     max_size=count)))  # fmt: skip
    return table_of(list(zip(*columns, strict=True)))


@st.composite
def json_tables(draw: st.DrawFn) -> Table:
    """Tables of JSON texts of each type, with null and missing keys."""
    values = st.one_of(
        TEXT, st.booleans(), st.none(), st.integers(-99, 99), st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([[], {"a": [1, None]}]), DATES.map(str),
    )  # fmt: skip
    count = draw(st.integers(1, 12))
    columns: list[list[Cell]] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([values, TEXT, st.integers(), st.booleans() | st.none()]))
        texts: Any = kind.map(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        is_whole = draw(st.booleans())
        columns.append(draw(st.lists(texts if is_whole else texts | st.none(), min_size=count, max_size=count)))
    return table_of(list(zip(*columns, strict=True)), is_json=True)


def drawn(pattern: str, seed: int, limit: int) -> str:
    """Draw a text from the automaton of a pattern, over the characters of tables, each allowed one equally likely."""
    characters = sorted({chr(i) for i in range(32, 127)} | set("\n\té") | set(pattern))
    automaton = build(
        Rules(positions(pattern, characters), boundary=len(characters), must_end=True), len(characters) + 1
    )
    assert automaton is not None
    rng, state, text, reason = random.Random(seed), 0, "", NOT_DONE
    for left in range(max(limit, automaton.shortest()), 0, -1):
        token = rng.choice(automaton.allowed(state, left).nonzero()[0].tolist())  # raises in a dead end
        state, reason, _ = automaton.follow(state, token, left - 1)
        if reason != NOT_DONE:
            break
        text += characters[token]
    return text


@given(csv_tables())
def test_every_row_of_a_csv_table_matches_its_own_schema(table: Table) -> None:
    schema = schema_of(table)
    check(schema)
    matches = re.compile(pattern_of(schema)).fullmatch
    for item in table.items():
        assert matches(item), (item, schema)
        assert cells_of(item, schema) == next(csv.reader([item], strict=True))
        assert len(item) <= longest_row(schema)


@given(csv_tables(), st.integers(0, 2**32), st.integers(1, 300))
def test_every_text_of_a_csv_schema_is_a_row(table: Table, seed: int, limit: int) -> None:
    schema = schema_of(table)
    pattern = pattern_of(schema)
    text = drawn(pattern, seed, limit)
    assert re.fullmatch(pattern, text)
    (cells,) = csv.reader(io.StringIO(text + "\n"), strict=True)
    assert len(cells) == len(table.header)
    for column, cell in zip(schema["columns"], cells, strict=True):
        assert validates(column, cell), (column, cell)
    assert len(text) <= longest_row(schema)


@given(json_tables())
def test_every_row_of_a_json_table_matches_its_own_schema(table: Table) -> None:
    schema = schema_of(table)
    check(schema)
    matches = re.compile(pattern_of(schema)).fullmatch
    for item, record in zip(table.items(), table.records(), strict=True):
        assert matches(item), (item, schema)
        assert cells_of(item, schema) == list(record)
        assert len(item) <= longest_row(schema)


@given(json_tables(), st.integers(0, 2**32), st.integers(1, 300))
def test_every_text_of_a_json_schema_is_a_row(table: Table, seed: int, limit: int) -> None:
    schema = schema_of(table)
    content = json.loads(drawn(pattern_of(schema), seed, limit))
    assert [name for name in table.header if name in content] == list(content)
    for column in schema["columns"]:
        if column["name"] not in content:
            assert column["optional"]
            continue
        value = content[column["name"]]
        if value is None:
            assert column.get("missing") or column["kind"] == "empty"
            continue
        types = {part["type"] for part in column.get("of", [column])}
        kind = {str: "string", bool: "boolean", int: "number", float: "number"}.get(type(value), "json")
        assert kind in types


def validates(column: dict[str, Any], cell: str) -> bool:
    """Check a cell by Python's own means, not by an expression."""
    if not cell:
        return column["kind"] == "empty" or bool(column.get("missing") or column.get("min_length") == 0)
    kind = column["kind"]
    if kind == "choice":
        return cell in column["values"]
    if kind == "integer":
        return str(int(cell)) == cell and column["min"] <= int(cell) <= column["max"]
    if kind == "decimal":
        whole, _, digits = cell.partition(column.get("separator", "."))
        fewest, most = column["decimals"]
        return column["min"] - 1 < float(f"{whole}.{digits}") < column["max"] + 1 and fewest <= len(digits) <= most
    if kind == "date":
        return any(is_date(cell, form) for form in column["formats"])
    if kind == "pattern":
        return re.fullmatch(column["pattern"], cell) is not None
    if kind == "number":
        return float(cell) is not None
    return set(cell) <= set(column["characters"]) and len(cell) <= column["max_length"]


def is_date(cell: str, form: str) -> bool:
    plain = re.sub("%[1-9]?f", "%f", form.replace("%-", "%"))
    cell = re.sub(r"(\.\d{6})\d+", r"\1", cell)
    try:
        datetime.datetime.strptime(cell, plain)
    except ValueError:
        return False
    return True


def kind_of(cells: Sequence[str]) -> dict[str, Any]:
    (column,) = schema_of(table_of([[cell] for cell in cells]))["columns"]
    return {name: value for name, value in column.items() if name != "name"}


NAMES = [f"{given}{end}" for given in ("Anna", "Björn", "Cleo") for end in (" Lee", ", Jr.", " d'Or", "")]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["yes", "no"] * 10, {"kind": "choice", "values": ["no", "yes"]}),
        (["yes", "no", ""] * 10, {"kind": "choice", "values": ["no", "yes"], "missing": True}),
        (["10", "2", "-1"] * 10, {"kind": "choice", "values": ["-1", "2", "10"]}),
        (["10", "9.5", "010"] * 10, {"kind": "choice", "values": ["9.5", "010", "10"]}),
        (["10", "2", "x"] * 10, {"kind": "choice", "values": ["10", "2", "x"]}),
        (["10", "2", "nan"] * 10, {"kind": "choice", "values": ["10", "2", "nan"]}),
        (["yes", "no"] * 9 + ["x"], {"kind": "pattern", "pattern": "[a-z]{1,3}"}),
        (["7", "-12", "305"], {"kind": "integer", "min": -12, "max": 305}),
        (["0.50", "-3.25", "12"], {"kind": "decimal", "min": -3.25, "max": 12.0, "decimals": [0, 2]}),
        (["1,5", "2,25"], {"kind": "decimal", "min": 1.5, "max": 2.25, "decimals": [1, 2], "separator": ","}),
        (["1.5", "2,25"], {"kind": "text", "characters": ",.125", "min_length": 3, "max_length": 4}),
        (["1e5", "-2.25"], {"kind": "number", "digits": [1, 2, 1]}),
        (["2024-02-29", "1999-12-01"], {"kind": "date", "formats": ["%Y-%m-%d"], "years": [1999, 2024]}),
        (["28.02.2001", "01.12.1999"], {"kind": "date", "formats": ["%d.%m.%Y"], "years": [1999, 2001]}),
        (["01/02/2020", "03/04/2021"], {"kind": "date", "formats": ["%m/%d/%Y"], "years": [2020, 2021]}),
        (["01/02/2020", "13/04/2021"], {"kind": "date", "formats": ["%d/%m/%Y"], "years": [2020, 2021]}),
        (["1/2/2020", "12/14/2021"], {"kind": "date", "formats": ["%-m/%-d/%Y"], "years": [2020, 2021]}),
        (["13/14/2020", "01/02/2021"], {"kind": "text", "characters": "/01234", "min_length": 10, "max_length": 10}),
        (["11:59 PM", "1:00 AM"], {"kind": "date", "formats": ["%-I:%M %p"]}),
        (["20240229", "19991231"], {"kind": "date", "formats": ["%Y%m%d"], "years": [1999, 2024]}),
        (["20240229", "19991331"], {"kind": "integer", "min": 19991331, "max": 20240229}),
        (
            ["2024-02-29T01:02:03.5Z", "2024-02-29T01:02:03Z", "2025-02-28T23:59:59.25Z"],
            {"kind": "date", "formats": ["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"], "years": [2024, 2025]},
        ),
        ([f"C-{i:05}" for i in range(20)], {"kind": "pattern", "pattern": "C-[0-9]{5}"}),
        ([f"({i:03}) 555-{7 * i:04}" for i in range(20)], {"kind": "pattern", "pattern": r"\([0-9]{3}\) 555-[0-9]{4}"}),
        ([f"{i:05}" for i in range(20)], {"kind": "pattern", "pattern": "[0-9]{5}"}),
        ([f"x{i}@a.de" for i in range(9)], {"kind": "pattern", "pattern": r"[0-9a-z]{2}@a\.de"}),
        (NAMES, {"kind": "text", "characters": " ',.ABCJLOadejlnorö", "min_length": 4, "max_length": 10}),
        (["", ""], {"kind": "empty", "missing": True}),
    ],
)  # fmt: skip
def test_kinds(cells: list[str], expected: dict[str, Any]) -> None:
    assert kind_of(cells) == expected


def test_the_kind_does_not_depend_on_where_a_value_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[str(row[name] if row[name] is not None else "") for name in HEADER] for row in customers(300)]
    expected = schema_of(table_of(rows))
    monkeypatch.setattr("knock.generation.constraints.inference._AT_ONCE", 7)
    assert schema_of(table_of(rows)) == expected
    assert schema_of(table_of(rows[::-1])) == expected
    assert schema_of(table_of(rows[:100]), table_of(rows[100:])) == expected


@given(st.integers(-3000, 3000), st.integers(-3000, 3000), st.integers(-4000, 4000))
def test_whole_numbers_in_a_range(one: int, other: int, number: int) -> None:
    least, most = sorted((one, other))
    matches = re.compile(between(least, most)).fullmatch
    for each in (number, least, most, least - 1, most + 1):
        assert bool(matches(str(each))) == (least <= each <= most)


def test_decimals_in_a_range() -> None:
    matches = re.compile(decimals(-2.5, 31.25, (1, 2), ".")).fullmatch
    assert all(map(matches, ["-2.5", "-0.1", "0.00", "31.25"]))
    assert not any(map(matches, ["-3.0", "32.0", "31", "31.", "031.0", "1.234", ".5", "1,5"]))
    assert re.fullmatch(decimals(-2.5, -1.5, (0, 1), ","), "-1,5")
    assert not re.fullmatch(decimals(-2.5, -1.5, (0, 1), ","), "1,5")


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%-d.%-m.%Y"])
def test_dates_are_those_of_the_calendar(form: str) -> None:
    first, last = 1895, 1905  # 1900 has no 29 February
    matches = re.compile(expression(form, (first, last))).fullmatch
    for year in range(first - 1, last + 2):
        for month in range(14):
            for day in range(33):
                parts = {"%Y": f"{year}", "%-d": f"{day}", "%-m": f"{month}", "%d": f"{day:02}", "%m": f"{month:02}"}
                text = form
                for code, part in parts.items():
                    text = text.replace(code, part)
                try:
                    expected = first <= datetime.date(year, month, day).year <= last
                except ValueError:
                    expected = False
                assert bool(matches(text)) == expected, text


def test_a_table_of_twelve_columns_of_all_kinds(tmp_path: Path) -> None:
    for suffix, most in (("csv", 1_500), ("jsonl", 1_500)):
        write_table(tmp_path / f"t.{suffix}", 2_000)
        table = read_table(tmp_path / f"t.{suffix}")
        schema = schema_of(table)
        kinds = {column["name"]: column["kind"] for column in schema["columns"]}
        assert kinds == {
            "id": "pattern", "name": "pattern", "email": "pattern", "country": "choice", "city": "choice",
            "born": "date", "updated": "date", "orders": "integer", "spent": "decimal", "active": "choice",
            "phone": "pattern", "note": "text",
        }  # fmt: skip
        assert [column["name"] for column in schema["columns"] if column.get("missing")] == ["spent", "phone", "note"]
        assert json.loads(json.dumps(schema)) == schema
        matches = re.compile(pattern_of(schema)).fullmatch
        assert all(map(matches, table.items()))
        characters = sorted(set("".join(table.items())))
        automaton = build(Rules(positions(pattern_of(schema), characters)), len(characters))
        assert automaton is not None
        assert len(automaton.table) < most
        assert dict(described(schema))["spent"].endswith("2 decimals (missing)")


def test_many_long_texts_stay_within_the_limit_of_states() -> None:
    rows = [["x" * 900 + "," * i for _ in range(60)] for i in range(1, 4)]
    schema = schema_of(table_of(rows))
    pattern = pattern_of(schema)
    assert len(positions(pattern, "x,").mask_of) < 40_000
    assert all(map(re.compile(pattern).fullmatch, table_of(rows).items()))
    assert longest_row(schema) >= max(map(len, table_of(rows).items()))


def test_lists_of_json_must_be_few() -> None:
    few = table_of([[f"[{i % 3}]"] for i in range(60)], is_json=True)
    assert schema_of(few)["columns"] == [
        {"name": "column 0", "kind": "choice", "type": "json", "values": ["[0]", "[1]", "[2]"]}
    ]
    with pytest.raises(TextError, match="'column 0' of 'made up' holds more than 50 different lists or objects"):
        schema_of(table_of([[f"[{i}]"] for i in range(60)], is_json=True))


def changed(**changes: Any) -> dict[str, Any]:
    return {"format": "csv", "columns": [{"name": "a", "kind": "integer", "min": 1, "max": 5} | changes]}


BAD: list[tuple[Any, str]] = [
    ([], "must be an object with a list of columns"),
    ({"format": "csv", "columns": []}, "must be an object with a list of columns"),
    (changed() | {"format": "xml"}, "format must be one of csv, jsonl, got 'xml'"),
    (changed() | {"delimiter": "ab"}, "delimiter must be one character"),
    ({"format": "csv", "columns": [1]}, "column 1 must be an object with a name, got 1"),
    ({"format": "csv", "columns": changed()["columns"] * 2}, "two columns are named 'a'"),
    (changed(kind="int"), "column 'a': the kind must be one of .*, got 'int'"),
    (changed(values=[]), "column 'a': unknown field 'values'; a column of kind 'integer' has min, max"),
    (changed(min=9), r"column 'a': min and max must be in order, got \[9, 5\]"),
    (changed(max="9"), "column 'a': min and max must be two numbers"),
    (changed(kind="text"), "unknown field 'min'"),
    (changed() | {"columns": [{"name": "a", "kind": "text"}]}, "needs the field 'characters'"),
    (changed() | {"columns": [{"name": "a", "kind": "text", "characters": ""}]}, "characters must be a text"),
    (changed() | {"columns": [{"name": "a", "kind": "choice", "values": [1]}]}, "values must be a list of texts"),
    (changed() | {"columns": [{"name": "a", "kind": "date", "formats": ["%Q"]}]}, "%Q is not one of %Y"),
    (changed() | {"columns": [{"name": "a", "kind": "pattern", "pattern": "[a"}]}, "is not a regular expression"),
    (changed() | {"columns": [{"name": "a", "kind": "pattern", "pattern": "[^a]"}]}, "which is escaped in a row"),
    (changed() | {"format": "jsonl"}, "the type must be one of string, number, boolean, json, got None"),
    (changed() | {"columns": [{"name": "a", "kind": "mixed", "of": [3]}]}, "it must be an object, got 3"),
]


@pytest.mark.parametrize(("schema", "message"), BAD)
def test_an_invalid_schema_gets_one_clear_line(tmp_path: Path, schema: Any, message: str) -> None:
    for attempt in _attempts(schema, tmp_path / "schema.json"):
        with pytest.raises(SchemaError, match=message) as error:
            attempt()
        assert "\n" not in str(error.value)


def _attempts(schema: Any, path: Path) -> list[Callable[[], Any]]:
    path.write_text(json.dumps(schema), encoding="utf-8")
    return [lambda: check(schema), lambda: pattern_of(schema), lambda: read_schema(path)]


def test_a_schema_file_must_be_json(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{", encoding="utf-8")
    with pytest.raises(SchemaError, match=r"schema.json' is not JSON"):
        read_schema(tmp_path / "schema.json")


def test_patterns_of_a_user_are_quoted_where_they_have_commas() -> None:
    schema = {"format": "csv", "columns": [{"name": n, "kind": "pattern", "pattern": "[a-z], [a-z]"} for n in "ab"]}
    assert re.fullmatch(pattern_of(schema), '"a, b","c, d"')
    assert not re.fullmatch(pattern_of(schema), "a, b,c, d")
