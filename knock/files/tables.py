"""Tables: CSV, TSV, JSON lines and Parquet files as rows of texts, read as a stream."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from knock.errors import TextError

TableFormat = Literal["csv", "tsv", "jsonl", "parquet"]
TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)

Cell = (
    str | None
)  # in JSON lines the JSON text of a value, None where an object lacks the key; elsewhere the plain text

_SHOWN = 20  # names of columns, in an error message


@dataclass(frozen=True)
class Table:
    """A table. Every iteration over its rows reads it again from the start.

    Attributes:
        name: its file, as errors name it.
        form: its format.
        header: the names of its columns.
        records: returns an iterator over the rows as `Cell`s, one for each column.
        delimiter: what separates fields in the file.
    """

    name: str
    form: TableFormat
    header: list[str]
    records: Callable[[], Iterator[Sequence[Cell]]]
    delimiter: str = ","

    def rows(self) -> Iterator[list[str]]:
        """Yield the rows as plain texts. A missing value is the empty text; a list or an object is its JSON text."""
        if self.form == "jsonl":
            from knock.files.json_table import plain

            return ([plain(cell) for cell in record] for record in self.records())
        return ([cell or "" for cell in record] for record in self.records())

    def items(self) -> Iterator[str]:
        """Yield the rows as items: a line of RFC 4180 CSV without its end, or a compact JSON object."""
        if self.form == "jsonl":
            from knock.files.json_table import object_of

            return (object_of(self.header, record) for record in self.records())
        return (csv_line(row) for row in self.rows())

    def column(self, name: str) -> Iterator[str]:
        """Yield the cells of a column as plain texts, the empty ones included.

        Raises:
            TextError: if there is no such column; the message lists those that there are.
        """
        place = self.place(name)
        return (row[place] for row in self.rows())

    def place(self, name: str) -> int:
        """Return the number of a column.

        Raises:
            TextError: if there is no such column.
        """
        if name in self.header:
            return self.header.index(name)
        by_plain = {known.strip().lower(): known for known in self.header}
        close = difflib.get_close_matches(name.strip().lower(), by_plain, 1)
        hint = f"did you mean {by_plain[close[0]]!r}?" if close else f"its columns are {listed(self.header)}"
        raise TextError(f"{self.name} has no column {name!r}; {hint}")


def read_table(path: str | os.PathLike[str], form: TableFormat | None = None) -> Table:
    """Open a table and read its header.

    Args:
        path: path of the file.
        form: its format; None to go by its suffix.

    Raises:
        TextError: if the file cannot be read, is not UTF-8, is empty, or has no valid header.
        KnockError: if it is a Parquet file and pyarrow is missing.
    """
    path = Path(path)
    suffix = path.suffix[1:].lower()
    form = form or next((known for known in TABLE_FORMATS if known == suffix), None)
    if form is None:
        *most, last = (f".{known}" for known in TABLE_FORMATS)
        raise TextError(f"{str(path)!r} is not known as a table; its name must end in {', '.join(most)} or {last}")
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  # pathlib raises for some names
        what = "a folder" if path.is_dir() else "a pipe, which cannot be read twice"
        raise TextError(f"{str(path)!r} is {what}; a table must be a file")
    if form == "parquet":
        from knock.files.parquet_table import parquet_table

        return parquet_table(path)
    if form == "jsonl":
        from knock.files.json_table import json_table

        return json_table(path)
    from knock.files.csv_table import csv_table

    return csv_table(path, form)


def column(path: str | os.PathLike[str], name: str) -> Iterator[str]:
    """Yield the cells of one column of a table, as by `Table.column`."""
    return read_table(path).column(name)


def rows_as_items(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the rows of a table as items, as by `Table.items`."""
    return read_table(path).items()


def csv_line(cells: Sequence[str], delimiter: str = ",") -> str:
    """Return fields as a line of RFC 4180 CSV, without its end: quoted only where they must be."""
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return line.getvalue()[:-1]


def csv_cells(line: str, delimiter: str = ",") -> list[str]:
    """Return the fields of a line, the inverse of `csv_line`.

    Raises:
        ValueError: if it is not one line of CSV.
    """
    try:
        (cells,) = csv.reader([line], delimiter=delimiter, strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return cells


def check_header(header: Sequence[str], name: str) -> None:
    """Check that the names of columns are distinct.

    Raises:
        TextError: if they are not, or there is none.
    """
    if not header:
        raise TextError(f"{name} has no columns; the first line must name them")
    if twice := next((each for i, each in enumerate(header) if each in header[:i]), None):
        raise TextError(f"{name} has two columns named {twice!r}; rename one of them")
    if header.count("") > 1:
        raise TextError(f"{name} has {header.count('')} columns without a name; the first line must name them all")


def not_empty(rows: Iterable[Sequence[Cell]], name: str) -> Iterator[Sequence[Cell]]:
    """Yield rows.

    Raises:
        TextError: if there is none.
    """
    is_empty = True
    for row in rows:
        is_empty = False
        yield row
    if is_empty:
        raise TextError(f"{name} has a header and no rows")


def listed(names: Sequence[str]) -> str:
    """Return names for an error message."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
