r"""The schema of a table: what each of its columns may hold. It compiles to one regular expression of a whole row.

A schema is JSON, saved in the training record of a model:

    {"format": "csv", "columns": [
      {"name": "id", "kind": "pattern", "pattern": "C-[0-9]{6}"},
      {"name": "born", "kind": "date", "formats": ["%d.%m.%Y"], "years": [1930, 2006], "missing": true},
      {"name": "note", "kind": "text", "characters": " ,abc", "min_length": 1, "max_length": 80}]}

The kinds of columns are in `columns.py`. A column that is `missing` may be empty, in JSON null; one that is `optional`
may be left out of a JSON object. In JSON, a column has a `type`: string, number, boolean or json.
"""

from __future__ import annotations

import json
import os
import re._parser as parser  # type: ignore[import-not-found]  # the type stubs leave it out
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring as string_of
from typing import Any

from knock.errors import KnockError, SchemaError
from knock.files.tables import Cell, csv_cells
from knock.generation.constraints.columns import Column, check_column, field, width
from knock.generation.constraints.notation import CSV, literal
from knock.validation import shown
from knock.vocab import Vocab
from knock.words import counted

Schema = dict[str, Any]

FORMATS = ("csv", "jsonl")

_BOUNDS = (1_000, 500, 200, 100, 50, 20, 0)  # longest texts whose length is counted, while there is room
_MOST_COUNTED = 30_000  # characters of the pattern that count lengths of texts
_LONG = 10_000  # characters assumed of a text of any length


def pattern_of(schema: Schema) -> str:
    """Return the regular expression of a row.

    The length of a text is bounded by `max_length` up to 1,000 characters, or fewer in a table of many long texts.

    Raises:
        SchemaError: if the schema is invalid.
    """
    check(schema)
    columns, fields = schema["columns"], _fields(schema)
    if schema["format"] == "csv":
        return ",".join(fields)
    pairs = [literal(f"{string_of(column['name'])}:") + each for column, each in zip(columns, fields, strict=True)]
    return rf"\{{{_members(pairs, [bool(column.get('optional')) for column in columns])}\}}"


def longest_row(schema: Schema) -> int:
    """Return the most characters of a row; a text of any length counts as 10,000.

    Raises:
        SchemaError: if the schema is invalid.
    """
    check(schema)
    total = 2
    for column, expression in zip(schema["columns"], _fields(schema), strict=True):
        most = int(parser.parse(expression).getwidth()[1])
        if most >= int(parser.MAXREPEAT):
            most = 2 * width(column) // 3 + 2 if width(column) else _LONG
        total += most + 1 + (len(string_of(column["name"])) + 1 if schema["format"] == "jsonl" else 0)
    return total


def cells_of(text: str, schema: Schema) -> list[Cell]:
    """Return the cells of a row.

    Raises:
        ValueError: if the text is no row of the table.
    """
    names = names_of(schema)
    if schema["format"] == "jsonl":
        from knock.files.json_table import members

        return members(text, names)
    cells = csv_cells(text)
    if len(cells) != len(names):
        raise ValueError(f"expected {counted(len(names), 'field')}, got {len(cells)}")
    return list(cells)


def names_of(schema: Schema) -> list[str]:
    """Return the names of the columns."""
    return [column["name"] for column in schema["columns"]]


def read_schema(path: str | os.PathLike[str]) -> Schema:
    """Read a schema from a JSON file.

    Raises:
        TextError: if the file cannot be read.
        SchemaError: if it is no schema.
    """
    from knock.files.text import read_text

    try:
        schema = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{str(path)!r} is not JSON: {error}") from error
    try:
        check(schema)
    except SchemaError as error:
        raise SchemaError(f"the schema in {str(path)!r} is invalid: {error}") from error
    return dict(schema)


def check(schema: Any) -> None:
    """Check a schema.

    Raises:
        SchemaError: if a field is missing, unknown or out of range.
    """
    columns = schema.get("columns") if isinstance(schema, Mapping) else None
    if not isinstance(columns, list) or not columns:
        raise SchemaError(f"a schema must be an object with a list of columns, got {shown(schema)}")
    form, delimiter = schema.get("format"), schema.get("delimiter", ",")
    if form not in FORMATS:
        raise SchemaError(f"the format must be one of {', '.join(FORMATS)}, got {shown(form)}")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise SchemaError(f"the delimiter must be one character, got {shown(delimiter)}")
    names = set()
    for number, column in enumerate(columns, 1):
        name = column.get("name") if isinstance(column, Mapping) else None
        if not isinstance(name, str):
            raise SchemaError(f"column {number} must be an object with a name, got {shown(column)}")
        if name in names:
            raise SchemaError(f"two columns are named {name!r}; rename one of them")
        names.add(name)
        try:
            check_column(column, is_json=form == "jsonl")
            field(column, None if form == "jsonl" else CSV, "", 0)
        except KnockError as error:
            raise SchemaError(f"column {name!r}: {error}") from error


def check_writable(schema: Schema, vocab: Vocab) -> None:
    """Check that a model can write each column, and each of the values that a column lists.

    Args:
        schema: a valid schema.
        vocab: the characters that the model knows.

    Raises:
        SchemaError: if it cannot; the message names the column and what the model does not know.
    """
    from knock.generation.constraints.positions import why_unwritable

    notation = None if schema["format"] == "jsonl" else CSV
    for column in schema["columns"]:
        values = column["values"] if column["kind"] == "choice" else []
        for each in [{**column, "values": [value]} for value in values] or [column]:
            expression = field({**each, "missing": False}, notation, "", 0)
            expression = f"(?i:{expression})" if vocab.lowercase else expression
            if not _is_writable(expression, vocab.characters):
                why = why_unwritable(expression, vocab.characters)
                value = f" the value {shown(each['values'][0])} of" if values else ""
                raise SchemaError(
                    f"the model cannot write{value} the column {column['name']!r}: {why}. Change the schema"
                )


def _is_writable(expression: str, characters: Sequence[str]) -> bool:
    from knock.generation.constraints.automaton import Rules, build
    from knock.generation.constraints.positions import positions

    return build(Rules(pattern=positions(expression, characters)), len(characters)) is not None


def described(schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield the name of each column, and what it may hold in a few words."""
    for column in schema["columns"]:
        notes = [name for name in ("missing", "optional") if column.get(name)]
        yield column["name"], _what(column) + (f" ({', '.join(notes)})" if notes else "")


def _what(column: Column) -> str:
    kind = column["kind"]
    if kind == "mixed":
        return " or ".join(map(_what, column["of"]))
    if kind == "choice":
        values = [shown(value, 24) for value in column["values"]]
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        return f"one of {', '.join(values[:8])}{more}"
    if kind in ("integer", "decimal"):
        digits = column.get("decimals", ())
        decimals = f", {' to '.join(map(str, dict.fromkeys(digits)))} decimals" if digits else ""
        return f"{kind} from {column['min']} to {column['max']}{decimals}"
    if kind == "date":
        years = f", {column['years'][0]} to {column['years'][1]}" if "years" in column else ""
        return f"date {' or '.join(column['formats'])}{years}"
    if kind == "pattern":
        return f"pattern {column['pattern']}"
    if kind == "text":
        most = column.get("max_length")
        up_to = "" if most is None else f" to {most:,}"
        different = len(set(column["characters"]))
        return f"text of {column.get('min_length', 1):,}{up_to} characters, {different} different ones"
    return str(kind)


def _fields(schema: Schema) -> list[str]:
    """Return the expressions of the fields of a row."""
    columns: Sequence[Column] = schema["columns"]
    bound = next(
        bound for bound in _BOUNDS if sum(each for each in map(width, columns) if each <= 3 * bound) <= _MOST_COUNTED
    )
    if schema["format"] == "jsonl":
        return [field(column, None, "null", bound) for column in columns]
    empty = '""' if len(columns) == 1 else ""  # an empty line is no row
    return [field(column, CSV, empty, bound) for column in columns]


def _members(pairs: Sequence[str], is_optional: Sequence[bool]) -> str:
    """Return the expression of pairs with commas between those that are there."""
    if not all(is_optional):
        first = list(is_optional).index(False)
        before = "".join(f"(?:{pair},)?" for pair in pairs[:first])
        return before + pairs[first] + _rest(pairs[first + 1 :], is_optional[first + 1 :])
    return f"(?:{'|'.join(pair + _rest(pairs[i + 1 :], is_optional[i + 1 :]) for i, pair in enumerate(pairs))})?"


def _rest(pairs: Sequence[str], is_optional: Sequence[bool]) -> str:
    return "".join(f"(?:,{pair})?" if each else f",{pair}" for pair, each in zip(pairs, is_optional, strict=True))
