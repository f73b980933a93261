"""Read JSON lines as a table: one object per line, whose keys are the columns. Numbers keep their spelling."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring as string_of
from pathlib import Path
from typing import Any

from knock.errors import TextError
from knock.files.csv_table import lines_of
from knock.files.tables import Cell, Table, check_header, not_empty
from knock.files.text import read_chunks
from knock.validation import shown


class _Number(str):
    """The spelling of a number."""

    __slots__ = ()


def json_table(path: Path) -> Table:
    """Open a file of JSON objects and collect their keys, in the order of their first appearance.

    Raises:
        TextError: if the file cannot be read or is empty, or a line is no JSON object.
    """
    name = repr(str(path))
    return _table(lambda: _objects(path, name), name)


def table_of_mappings(rows: Sequence[Mapping[str, Any]], name: str) -> Table:
    """Return rows that are given as mappings from column to value, such as dicts, as a table of JSON objects.

    Raises:
        TextError: if a key is not a string, or a value is nothing that JSON can hold.
    """
    objects = [_given(row, f"row {number:,} of {name}") for number, row in enumerate(rows, 1)]
    return _table(lambda: iter(objects), name)


def _table(objects: Callable[[], Iterator[dict[str, str]]], name: str) -> Table:
    keys: dict[str, None] = {}
    for content in objects():
        keys.update(dict.fromkeys(content))
    if not keys:
        raise TextError(f"{name} is empty; a table needs one JSON object per line")
    header = list(keys)
    check_header(header, name)

    def records() -> Iterator[list[Cell]]:
        for content in objects():
            yield [content.get(key) for key in header]

    return Table(name, "jsonl", header, lambda: not_empty(records(), name))


def object_of(header: Sequence[str], record: Sequence[Cell]) -> str:
    """Return a row as a compact JSON object, without the keys that it lacks."""
    pairs = (f"{string_of(key)}:{cell}" for key, cell in zip(header, record, strict=True) if cell is not None)
    return f"{{{','.join(pairs)}}}"


def members(text: str, header: Sequence[str]) -> list[Cell]:
    """Return the cells of a JSON object, the inverse of `object_of`.

    Raises:
        ValueError: if it is no JSON object, or has other keys.
    """
    content = _decode(text)
    if not isinstance(content, dict) or not content.keys() <= set(header):
        raise ValueError("not an object with the keys of the table")
    return [_text(content[key]) if key in content else None for key in header]


def plain(cell: Cell) -> str:
    """Return a JSON text as plain text: strings without quotes, null and what is missing as the empty text."""
    if cell is None or cell == "null":
        return ""
    return str(json.loads(cell)) if cell.startswith('"') else cell


def _objects(path: Path, name: str) -> Iterator[dict[str, str]]:
    """Yield the objects of a file, with their values as JSON texts."""
    for number, line in enumerate(lines_of(read_chunks(path)), 1):
        if not line.strip():
            continue
        yield _record(line, f"line {number:,} of {name}")


def _given(row: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return a mapping with its values as JSON texts."""
    if wrong := [key for key in row if not isinstance(key, str)]:
        raise TextError(f"{where} has the key {shown(wrong[0])}; the names of columns must be strings")
    for key, value in row.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise TextError(
                f"{where} has {shown(value)} in {key!r}, which JSON cannot hold; pass a str, int, float or bool, or "
                "None if it is missing"
            ) from None
    return _record(json.dumps(dict(row)), where)


def _record(line: str, where: str) -> dict[str, str]:
    """Return the values of a JSON object as JSON texts."""
    try:
        content = _decode(line.strip())
        if not isinstance(content, dict):
            raise TextError(f'{where} is not a JSON object, such as {{"name": "Ann"}}, but {_shown_json(content)}')
        record = {key: _text(value) for key, value in content.items()}
        "".join(record.values()).encode()
    except UnicodeEncodeError:
        raise TextError(f"{where} has half a surrogate pair, which is no character") from None
    except json.JSONDecodeError as error:  # its own message has a line number, too, which is always 1
        reason = f"{error.msg.lower()} at column {error.colno}"
        raise TextError(f"{where} is not a JSON object of a table: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise TextError(f"{where} is not a JSON object of a table: {error}") from error
    return record


def _shown_json(content: Any) -> str:
    text = _text(content)
    return text if len(text) <= 60 else text[:57] + "..."


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"the key {shown(twice)} occurs twice")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON; write null")


_decode = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_Number, parse_int=_Number, parse_constant=_no_constant
).decode


def _text(value: Any) -> str:
    """Return a decoded value as compact JSON, with its numbers as they were spelled."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, str):
        return string_of(value)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{string_of(key)}:{_text(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return "null" if value is None else "true" if value else "false"
