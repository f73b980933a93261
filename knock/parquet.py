"""Prompts and generated texts in Parquet files, by pyarrow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from knock.errors import KnockError, OutputError, PromptError
from knock.row_file import told
from knock.rows import Row, RowWriter

_READ_AT_ONCE = 1024  # rows


def prompt_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The rows of a table of prompts as lines of JSON, one by one.

    Raises:
        PromptError: if the file cannot be read.
        KnockError: if pyarrow is missing.
    """
    parquet = _parquet()
    from pyarrow import ArrowException

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_READ_AT_ONCE):
                for row in batch.to_pylist(maps_as_pydicts="lossy"):
                    yield json.dumps(row, default=str).encode()
    except (OSError, ValueError, ArrowException) as error:
        raise PromptError(f"cannot read {str(path)!r} as Parquet: {_first_line(error)}") from error


class RowTable(RowWriter):
    """Rows in a new Parquet file, which appears when the writing ends, however it ends.

    Args:
        path: of the file.
        columns: those that rows have beside the usual ones: `log_probs`, `entropies`.
        unique: as for any writer.

    Raises:
        OutputError: if it is there already, or cannot be written.
        KnockError: if pyarrow is missing.
    """

    def __init__(self, path: str | os.PathLike[str], columns: Sequence[str] = (), *, unique: bool = False) -> None:
        super().__init__(unique=unique, errors_alike=False)
        parquet = _parquet()
        self._path = Path(path)
        self._part = self._path.with_name(self._path.name + ".part")
        self._schema = row_schema(columns)
        with told(self._path):
            if self._path.exists():
                raise OutputError(f"{str(path)!r} is there already; remove it, or choose another name")
            self._writer = parquet.ParquetWriter(self._part, self._schema)

    def __exit__(self, *exception: object) -> None:
        try:
            with told(self._path):
                self._writer.close()
                if self.place.rows or exception[0] is None:
                    self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def _write(self, rows: Sequence[Row]) -> None:
        from pyarrow import Table

        if rows:
            with told(self._path):
                self._writer.write_table(Table.from_pylist(list(rows), self._schema))


def row_schema(columns: Sequence[str] = ()) -> Any:
    """The types of a row's columns, as pyarrow's schema."""
    import pyarrow as pa

    strings = {name: pa.string() for name in ("prompt", "text", "finish_reason")}
    numbers = {name: pa.list_(pa.float64()) for name in columns}
    return pa.schema({"index": pa.int64(), **strings, "seed": pa.uint64(), "error": pa.string(), **numbers})


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise KnockError("Parquet needs pyarrow, which is not installed; run: pip install 'knock-lm[ray]'") from error
    return parquet


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
