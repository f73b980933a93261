"""Read prompts from Parquet files and write generated texts to them, with pyarrow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from knock.errors import KnockError, PromptError, missing_package
from knock.files.output import check_free
from knock.jobs.as_json import json_of
from knock.jobs.extra_columns import ExtraColumns
from knock.jobs.field_names import FIELDS, check_extra
from knock.jobs.prompt_file import Record
from knock.jobs.row_file import locked, output_errors
from knock.jobs.row_filter import RowFilter
from knock.jobs.rows import Row, RowWriter
from knock.jobs.table_columns import TableColumns
from knock.jobs.table_rows import TableLines

_READ_AT_ONCE = 1024  # rows
_INCOMPLETE = "; an incomplete Parquet file cannot be kept. Free some space, or write .jsonl"


def prompt_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield the rows of a table of prompts. Values of columns not in `FIELDS` are Arrow scalars, to keep their types.

    Raises:
        PromptError: if the file cannot be read, or a column is invalid.
        KnockError: if pyarrow is missing.
    """
    with _opened(path) as file:
        _check_columns(file.schema_arrow, str(path))
        names = file.schema_arrow.names
        own = [name for name in names if name in FIELDS]
        for batch in file.iter_batches(_READ_AT_ONCE):
            extra = [(name, batch.column(place)) for place, name in enumerate(names) if name not in FIELDS]
            for i, row in enumerate(batch.select(own).to_pylist(maps_as_pydicts="lossy")):
                content = {**row, **{name: column[i] for name, column in extra}}
                yield Record(json_of(content).encode(), content)


def extra_schema(path: str | os.PathLike[str] | None) -> Any:
    """Return the pyarrow schema of the columns of a table of prompts that rows carry, an empty one without a table.

    Raises:
        PromptError: if the file cannot be read.
        KnockError: if pyarrow is missing.
    """
    _parquet()
    import pyarrow as pa

    if path is None:
        return pa.schema([])
    with _opened(path) as file:
        return pa.schema([column for column in file.schema_arrow if column.name not in FIELDS])


class RowTable(RowWriter):
    """Writer of a new Parquet file, which replaces `path` on exit, also after an error.

    Args:
        path: path of the file.
        columns: optional columns to add: `log_probs`, `entropies`.
        extra: pyarrow schema of the prompts' other columns; if None, it is inferred from the rows.
        filter_: which rows to keep, as in `RowWriter`.
        force: overwrite an existing file.
        table: writes the rows of a table, as in `RowWriter`; the file then has the table's columns only.

    Raises:
        OutputError: if the file already exists or cannot be written.
        KnockError: if pyarrow is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] = (),
        *,
        extra: Any = None,
        filter_: RowFilter | None = None,
        force: bool = False,
        table: TableLines | None = None,
    ) -> None:
        super().__init__("parquet", filter_=filter_, table=table)
        parquet = _parquet()
        self._path = Path(path)
        self._part = self._path.with_name(self._path.name + ".run-part")
        self._columns: ExtraColumns | TableColumns
        self._columns = ExtraColumns(row_schema(columns), extra) if table is None else TableColumns(table)
        self._is_whole = True
        with contextlib.ExitStack() as opened, output_errors(self._path):
            opened.enter_context(locked(self._path))
            check_free(self._path, force=force)
            self._writer = parquet.ParquetWriter(self._part, self._columns.stored)
            self._opened = opened.pop_all()

    def __exit__(self, *exception: object) -> None:
        with self._opened:
            try:
                with output_errors(self._path, _INCOMPLETE):
                    self._writer.close()
                    if self._is_whole and (self.place.rows or exception[0] is None):
                        self._columns.finish(self._part)
                        self._part.replace(self._path)
            finally:
                self._part.unlink(missing_ok=True)

    def _write(self, rows: Sequence[Row]) -> None:
        if rows:
            self._is_whole = False
            with output_errors(self._path, _INCOMPLETE):
                self._writer.write_table(self._columns.table(rows))
            self._is_whole = True


def row_schema(columns: Sequence[str] = ()) -> Any:
    """Return the pyarrow schema of rows, with the optional `columns`."""
    import pyarrow as pa

    strings = {name: pa.string() for name in ("prompt", "text", "finish_reason", "stop_string")}
    numbers = {name: pa.list_(pa.float64()) for name in columns}
    return pa.schema({"index": pa.int64(), **strings, "seed": pa.uint64(), "error": pa.string(), **numbers})


def _check_columns(schema: Any, path: str) -> None:
    """Reject columns whose names are probably meant for knock, or with types that do not fit."""
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))

    def are_texts(kind: Any) -> bool:
        return is_text(kind) or bool(types.is_list(kind) and is_text(kind.value_type))

    def is_number(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_floating(kind))

    def is_bias(kind: Any) -> bool:
        if types.is_map(kind):
            return is_text(kind.key_type) and is_number(kind.item_type)
        return types.is_struct(kind) and all(is_number(field.type) for field in kind)

    wanted = dict.fromkeys(FIELDS, (is_number, "numbers"))
    wanted |= dict.fromkeys(("prompt", "sampling", "entropy_rule"), (is_text, "strings"))
    wanted |= {"stop": (are_texts, "strings, or lists of them"), "logit_bias": (is_bias, "maps of strings to numbers")}
    for column in schema:
        if column.name not in wanted:
            check_extra([column.name], "column")
            continue
        if schema.names.count(column.name) > 1:
            raise PromptError(f"{path!r} has several columns {column.name!r}; rename or drop all but one")
        fits, what = wanted[column.name]
        if not types.is_null(column.type) and not fits(column.type):
            raise PromptError(f"column {column.name!r} of {path!r} must hold {what}, got {column.type}")


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a Parquet file of prompts."""
    parquet = _parquet()
    from pyarrow import ArrowException

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, ArrowException) as error:
        if isinstance(error, KnockError):
            raise
        raise PromptError(f"cannot read {str(path)!r} as Parquet: {_first_line(error)}") from error


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise missing_package("Parquet", "pyarrow", "parquet") from error
    return parquet


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
