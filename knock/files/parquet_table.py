"""Read Parquet files as tables of texts, with pyarrow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from knock.errors import KnockError, TextError, missing_package
from knock.files.tables import Table, check_header, listed, not_empty

_READ_AT_ONCE = 1024  # rows


def parquet_table(path: Path) -> Table:
    """Open a Parquet file and read the names of its columns.

    Raises:
        TextError: if it is not a Parquet file, or has a column of lists, objects or bytes.
        KnockError: if pyarrow is missing.
    """
    name = repr(str(path))
    with _opened(path) as file:
        header = list(file.schema_arrow.names)
        nested = [field.name for field in file.schema_arrow if not _is_plain(field.type)]
    check_header(header, name)
    if nested:
        raise TextError(f"{name} has columns that are no text, numbers or dates: {listed(nested)}; leave them out")

    def records() -> Iterator[list[str]]:
        with _opened(path) as file:
            for batch in file.iter_batches(_READ_AT_ONCE):
                columns = [[_text(cell) for cell in column] for column in batch.columns]
                yield from map(list, zip(*columns, strict=True))

    return Table(name, "parquet", header, lambda: not_empty(records(), name))


def _text(scalar: Any) -> str:
    """Return an Arrow scalar as plain text; a missing value is the empty text."""
    try:
        value = scalar.as_py()
    except ValueError:  # a time in nanoseconds, which Python cannot hold
        return str(scalar)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return str(value)


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return not (types.is_nested(kind) or is_bytes)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise missing_package("Parquet", "pyarrow", "parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, ArrowException) as error:
        if isinstance(error, KnockError):
            raise
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise TextError(f"cannot read {str(path)!r} as Parquet: {reason}") from error
