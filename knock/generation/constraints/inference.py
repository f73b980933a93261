"""Infer the schema of a table from its rows: the narrowest kind of each column that all its values fit."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from knock.errors import TextError
from knock.files.tables import Cell, Table
from knock.generation.constraints.dates import DateFormats
from knock.generation.constraints.kinds_seen import Addresses, Decimals, Integers, Numbers
from knock.generation.constraints.schema import Schema
from knock.generation.constraints.shapes import Shapes

_AT_ONCE = 4096  # rows
_MOST_VALUES = 50  # of a column with few values
_MOST_CHARACTERS = 2_000  # of all those values
_REPEATED = 10  # times that each of them occurs on average

_NUMBERS = ("integer", "decimal", "number")  # the narrowest first
_KINDS = ("date", "integer", "decimal", "address", "shape", "number")


def schema_of(*tables: Table) -> Schema:
    """Infer the schema of one or more tables of the same columns. Each of their rows matches its pattern.

    - A column has few values if there are at most 50, each of which occurs 10 times on average.
    - Integers and decimals keep their range and their number of decimals; dates and times keep their format.
    - A pattern holds the characters at each place where all values are alike in letters, digits and other characters.
    - Everything else is a text, of the characters and the lengths that occur.

    Raises:
        TextError: if a table cannot be read, or a column of JSON holds different lists or objects.
    """
    is_json = tables[0].form == "jsonl"
    columns = [_JsonColumn(name, tables[0].name) if is_json else _Column() for name in tables[0].header]
    for table in tables:
        records = table.records()
        while block := list(itertools.islice(records, _AT_ONCE)):
            for column, cells in zip(columns, zip(*block, strict=True), strict=True):
                column.update(cells)
    names = tables[0].header
    schema: Schema = {"format": "jsonl" if is_json else "csv"}
    if not is_json:
        schema["delimiter"] = next((table.delimiter for table in tables if table.form == "csv"), ",")
    schema["columns"] = [{"name": name, **column.spec()} for name, column in zip(names, columns, strict=True)]
    return schema


class _Kind(Protocol):
    """A kind of value: whether all values so far are of it, and what it says of a column in a schema."""

    @property
    def is_possible(self) -> bool: ...

    def update(self, values: Sequence[str]) -> None: ...

    def spec(self) -> dict[str, Any] | None: ...


class _Column:
    """A column of plain texts, the empty ones missing."""

    def __init__(self) -> None:
        self._is_missing = False
        self._values = _Values()

    def update(self, cells: Sequence[Cell]) -> None:
        """Add the cells of further rows."""
        present = [cell for cell in cells if cell]
        self._is_missing = self._is_missing or len(present) < len(cells)
        self._values.update(present)

    def spec(self) -> dict[str, Any]:
        """Return the fields of the column in the schema, but for its name."""
        return self._values.spec() | ({"missing": True} if self._is_missing else {})


class _JsonColumn:
    """A column of JSON values, each type by itself."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source
        self._is_missing = self._is_optional = False
        self._by_type: dict[str, _Values] = {}

    def update(self, cells: Sequence[Cell]) -> None:
        """Add the cells of further rows."""
        by_type: dict[str, list[str]] = {}
        for cell in cells:
            if cell is None:
                self._is_optional = True
            elif cell == "null":
                self._is_missing = True
            elif cell[0] == '"':
                by_type.setdefault("string", []).append(json.loads(cell))
            else:
                kind = "boolean" if cell[0] in "tf" else "json" if cell[0] in "[{" else "number"
                by_type.setdefault(kind, []).append(cell)
        for kind, values in by_type.items():
            self._by_type.setdefault(kind, _Values()).update(values)

    def spec(self) -> dict[str, Any]:
        """Return the fields of the column in the schema, but for its name."""
        parts = [self._of_type(kind, values) for kind, values in sorted(self._by_type.items())]
        whole = parts[0] if len(parts) == 1 else {"kind": "mixed", "of": parts} if parts else {"kind": "empty"}
        marks = {"missing": self._is_missing, "optional": self._is_optional}
        return whole | {name: True for name, is_set in marks.items() if is_set}

    def _of_type(self, kind: str, values: _Values) -> dict[str, Any]:
        if kind == "boolean":
            return {"kind": "choice", "type": kind, "values": ["false", "true"]}
        if kind == "number":
            return values.spec(_NUMBERS) | {"type": kind}
        if kind == "json":
            if not values.few:
                raise TextError(
                    f"key {self._name!r} of {self._source} holds more than {_MOST_VALUES} different lists or objects, "
                    "which a table cannot; write them as strings, or leave the key out"
                )
            return {"kind": "choice", "type": kind, "values": sorted(values.few)}
        return values.spec() | {"type": kind}


class _Values:
    """What is known of some values: how many, how long, of which characters, and the kinds that still fit them all."""

    def __init__(self) -> None:
        self.few: Counter[str] | None = Counter()  # None if they are too many
        self._count = 0
        self._characters: set[str] = set()
        self._lengths: list[int] = []
        self._kinds: dict[str, _Kind] = {
            "date": DateFormats(), "integer": Integers(), "decimal": Decimals(), "address": Addresses(),
            "shape": Shapes(), "number": Numbers(),
        }  # fmt: skip

    def update(self, values: Sequence[str]) -> None:
        """Add further values."""
        if not values:
            return
        self._count += len(values)
        self._characters.update("".join(values))
        lengths = [*map(len, values), *self._lengths]
        self._lengths = [min(lengths), max(lengths)]
        if self.few is not None:
            self.few.update(values)
            if len(self.few) > _MOST_VALUES or sum(map(len, self.few)) > _MOST_CHARACTERS:
                self.few = None
        for kind in self._kinds.values():
            kind.update(values)
        self._kinds = {name: kind for name, kind in self._kinds.items() if kind.is_possible}

    def spec(self, kinds: Sequence[str] = _KINDS) -> dict[str, Any]:
        """Return the fields of a column of these values, of the first of some kinds that fits."""
        if not self._count:
            return {"kind": "empty"}
        if self.few is not None and self._count >= _REPEATED * len(self.few):
            return {"kind": "choice", "values": _in_order(self.few)}
        specs = (self._kinds[name].spec() for name in kinds if name in self._kinds)
        return next((spec for spec in specs if spec is not None), None) or {
            "kind": "text", "characters": "".join(sorted(self._characters)), "min_length": self._lengths[0],
            "max_length": self._lengths[1],
        }  # fmt: skip


def _in_order(values: Iterable[str]) -> list[str]:
    """Return values in the order of numbers, if they all are, and otherwise in that of texts."""
    texts = sorted(values)
    try:
        numbers = {text: float(text) for text in texts}
    except ValueError:
        return texts
    return texts if any(map(math.isnan, numbers.values())) else sorted(texts, key=numbers.__getitem__)
