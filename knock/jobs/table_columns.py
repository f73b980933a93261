"""Columns of a Parquet file for the rows of a table: those of the table, with their types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.jobs.column_types import TypedColumn

if TYPE_CHECKING:
    from knock.jobs.rows import Row
    from knock.jobs.table_rows import TableLines


class TableColumns:
    """Builds tables of generated rows.

    Args:
        lines: writes the rows as lines, which are read again here.

    Attributes:
        stored: schema of the tables to write.
    """

    def __init__(self, lines: TableLines) -> None:
        import pyarrow as pa

        self._lines = lines
        self.stored = pa.schema([(column.name, _arrow_type(column)) for column in lines.columns])

    def table(self, rows: Sequence[Row]) -> Any:
        """Return rows, each reduced to its line, as a table of the schema `stored`."""
        import pyarrow as pa

        cells = zip(*(self._lines.cells(row["line"]) for row in rows), strict=True)
        pairs = zip(self._lines.columns, cells, self.stored, strict=True)
        arrays = [pa.array([column.value(cell) for cell in each], field.type) for column, each, field in pairs]
        return pa.Table.from_arrays(arrays, schema=self.stored)

    def finish(self, path: Path) -> None:
        """Do nothing: the types are known from the start."""


def _arrow_type(column: TypedColumn) -> Any:
    import pyarrow as pa

    if column.type == "time":
        return pa.timestamp("us", "UTC" if column.has_zone else None)
    kinds = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "date": pa.date32()}
    return kinds.get(column.type, pa.string())
