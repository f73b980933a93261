"""Generated rows of a table as lines of a file: CSV or TSV with a header, or JSON objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from knock.files.json_table import members, object_of, plain
from knock.files.tables import Cell, csv_cells, csv_line
from knock.generation.constraints.schema import Schema, cells_of, names_of
from knock.jobs.column_types import TypedColumn

TableFormat = Literal["csv", "tsv", "jsonl"]


class TableLines:
    """Writes the rows of a table as lines. Only its columns are written, so a row has no index and no seed.

    Args:
        schema: the schema of the table.
        form: the format of the lines.

    Attributes:
        header: the first line, with its end; empty in JSON.
        columns: the columns, with their types.
    """

    def __init__(self, schema: Schema, form: TableFormat) -> None:
        self._schema, self._form = schema, form
        self._names = names_of(schema)
        self.columns = [TypedColumn(column, is_json=schema["format"] == "jsonl") for column in schema["columns"]]
        self._delimiter = "\t" if form == "tsv" else schema.get("delimiter", ",")
        self._is_as_generated = form == "csv" and schema["format"] == "csv" and self._delimiter == ","
        self.header = b"" if form == "jsonl" else f"{csv_line(self._names, self._delimiter)}\n".encode()

    def line(self, row: Mapping[str, Any]) -> str | None:
        """Return a generated row as it is written, without the line end; None if its text is no row of the table."""
        if "error" in row:
            return None
        text: str = row["prompt"] + row["text"]
        if self._is_as_generated and '"' not in text:
            return text if text.count(",") == len(self._names) - 1 else None
        try:
            cells = cells_of(text, self._schema)
        except ValueError:
            return None
        if self._form == "jsonl":
            values = (column.json(cell) for column, cell in zip(self.columns, cells, strict=True))
            return object_of(self._names, list(values))
        if self._schema["format"] == "jsonl":
            cells = [plain(cell) for cell in cells]
        return csv_line([cell or "" for cell in cells], self._delimiter)

    def cells(self, line: str) -> list[Cell]:
        """Return the cells of a line that was written."""
        return members(line, self._names) if self._form == "jsonl" else list(csv_cells(line, self._delimiter))

    def read(self, lines: Iterable[bytes]) -> Iterator[str]:
        """Yield the rows that the lines of a file hold, as `line` returns them."""
        lines = iter(lines)
        if self.header:
            next(_records(lines), None)
        return _records(lines) if self.header else (line.decode().removesuffix("\n") for line in lines)


def _records(lines: Iterator[bytes]) -> Iterator[str]:
    """Yield records of CSV, of one line each or, with line breaks in quotes, several."""
    record = b""
    for line in lines:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record.decode().removesuffix("\n")
            record = b""
