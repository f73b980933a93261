"""Read CSV and TSV files: RFC 4180, with a header, and fields that may have line breaks in quotes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from knock.errors import TextError
from knock.files.tables import Table, TableFormat, check_header, not_empty
from knock.files.text import read_chunks
from knock.words import counted

_DELIMITERS = ",;\t|"
_SAMPLE = 20  # rows in whose columns the header's cells are looked for

# Shapes of values that are rarely names of columns.
_VALUES = re.compile(r"[-+]?[\d.,]*\d%?|\d+([-/.:]\d+)+([ T]\d+(:\d+)*)?Z?|[^@\s]+@[^@\s]+\.\w+|true|false", re.I)


def csv_table(path: Path, form: TableFormat) -> Table:
    """Open a CSV or TSV file and read its header.

    Fields of a .csv file are separated by commas, or by the semicolons, tabs or bars of a header that has no comma.

    Raises:
        TextError: if the file cannot be read, is empty, or its first line names no columns or looks like data.
    """
    name = repr(str(path))
    delimiter = "\t" if form == "tsv" else _delimiter(path)
    records = _records(path, delimiter, name)
    header = next(records, (0, []))[1]
    if not header:
        raise TextError(f"{name} is empty; a table needs a line that names its columns, and rows")
    check_header(header, name)
    _check_is_header(header, [cells for _, (_, cells) in zip(range(_SAMPLE), records, strict=False)], name)

    def rows() -> Iterator[list[str]]:
        records = _records(path, delimiter, name)
        next(records)
        for line, cells in records:
            if len(cells) != len(header):
                raise TextError(
                    f"line {line:,} of {name} has {counted(len(cells), 'field')}, and the header names "
                    f"{len(header):,}; add or remove fields, or put quotes around one that has the separator "
                    f"{delimiter!r}"
                )
            yield cells

    return Table(name, form, header, lambda: not_empty(rows(), name), delimiter)


def _records(path: Path, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a file with the numbers of their first lines, without blank lines."""
    reader = csv.reader(lines_of(read_chunks(path)), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        _reject(line, name, error)


def _reject(line: int, name: str, error: csv.Error) -> NoReturn:
    reason = str(error)
    if "unexpected end" in reason:
        reason = "a quote is opened and never closed"
    elif "field limit" in reason:
        reason = f"it has a field of more than {csv.field_size_limit():,} characters; perhaps a quote is never closed"
    elif "expected after" in reason:
        reason = "a closing quote is followed by text"
    raise TextError(f"line {line:,} of {name} is not CSV: {reason}; quotes inside a field are doubled") from error


def lines_of(chunks: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text in chunks, with their ends."""
    rest = ""
    for chunk in chunks:
        head, is_ended, tail = (rest + chunk).rpartition("\n")
        if is_ended:
            yield from (f"{line}\n" for line in head.split("\n"))
        rest = tail
    if rest:
        yield rest


def _delimiter(path: Path) -> str:
    """Return what separates the fields of a .csv file: a comma, or the most frequent one of a header without."""
    first = re.sub(r'"[^"]*"', "", next(lines_of(read_chunks(path)), ""))
    return max(_DELIMITERS, key=lambda char: (char == "," and char in first, first.count(char)))


def _check_is_header(header: list[str], sample: list[list[str]], name: str) -> None:
    """Reject a first line whose cells are values like those below them."""
    below = list(zip(*(row for row in sample if len(row) == len(header)), strict=True))
    for column, (cell, cells) in enumerate(zip(header, below, strict=False)):
        if _VALUES.fullmatch(cell) and all(not each or _VALUES.fullmatch(each) for each in cells):
            raise TextError(
                f"the first line of {name} looks like data: column {column + 1:,} would be named {cell!r}; add a first "
                "line that names the columns"
            )
