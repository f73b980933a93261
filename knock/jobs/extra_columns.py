"""Columns of a Parquet file for the other fields of prompts, whose types may be known only at the end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from knock.jobs.as_json import json_of
from knock.jobs.rows import ROW_FIELDS, Row

_HELD = "\0extra"  # column of JSON objects that holds fields of unknown types until all rows are written


class ExtraColumns:
    """Builds tables of rows with the other fields of their prompts.

    If the types are unknown, as in JSON, the fields are written as one column of JSON objects; `finish` rewrites the
    file with a column each. A field whose values have no common type becomes a column of JSON texts.

    Args:
        rows: pyarrow schema of the fields that knock writes.
        extra: pyarrow schema of the other fields; None if unknown.

    Attributes:
        stored: schema of the tables to write.
    """

    def __init__(self, rows: Any, extra: Any) -> None:
        import pyarrow as pa

        self._rows = rows
        self._known = extra
        self._types: dict[str, Any] = {}  # of fields of unknown types, None for JSON texts
        self.stored = pa.schema([*rows, *([pa.field(_HELD, pa.string())] if extra is None else extra)])

    def table(self, rows: Sequence[Row]) -> Any:
        """Return rows as a table of the schema `stored`."""
        import pyarrow as pa

        table = pa.Table.from_pylist([{name: row.get(name) for name in self._rows.names} for row in rows], self._rows)
        if self._known is not None:
            for field in self._known:
                table = table.append_column(field, _gathered([row.get(field.name) for row in rows], field.type))
            return table
        extras = [{name: value for name, value in row.items() if name not in ROW_FIELDS} for row in rows]
        self._infer(extras)
        held = [json_of(extra) if extra else None for extra in extras]
        return table.append_column(_HELD, pa.array(held, pa.string()))

    def finish(self, path: Path) -> None:
        """Rewrite the file of all tables with a column for each field, if the fields were of unknown types."""
        import pyarrow as pa
        from pyarrow import parquet

        if self._known is not None:
            return
        kinds = {name: pa.string() if kind is None else kind for name, kind in self._types.items()}
        schema = pa.schema([*self._rows, *kinds.items()])
        whole = path.with_name(path.name + "-typed")
        try:
            with parquet.ParquetFile(path) as file, parquet.ParquetWriter(whole, schema) as writer:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    extras = [json.loads(text or "{}") for text in table.column(_HELD).to_pylist()]
                    columns = [self._column(name, extras, kind) for name, kind in kinds.items()]
                    columns = [*table.drop_columns(_HELD).columns, *columns]
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            whole.replace(path)
        finally:
            whole.unlink(missing_ok=True)

    def _column(self, name: str, extras: Sequence[Row], kind: Any) -> Any:
        import pyarrow as pa

        values = (extra.get(name) for extra in extras)
        if self._types[name] is None:
            values = (None if value is None else json_of(value) for value in values)
        return pa.array(values, kind)

    def _infer(self, extras: Iterable[Row]) -> None:
        """Widen the types of fields to hold the values of more rows."""
        import pyarrow as pa

        for name in dict.fromkeys(name for extra in extras for name in extra):
            known = self._types.get(name, pa.null())
            if known is not None:
                values = [extra[name] for extra in extras if name in extra]
                self._types[name] = _common(known, values)


def _common(kind: Any, values: Sequence[Any]) -> Any:
    """Return a type that holds the values and those of `kind`; None if there is none."""
    import pyarrow as pa

    try:
        new = pa.array(values).type
        both = (pa.schema({"": each}) for each in (kind, new))
        common = pa.unify_schemas(both, promote_options="permissive").field("").type
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None
    return common if _is_storable(common) else None


def _is_storable(kind: Any) -> bool:
    """Return whether Parquet has the type: it has no structures without fields."""
    from pyarrow import types

    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return all(map(_is_storable, inner)) and not (types.is_struct(kind) and not inner)


def _gathered(scalars: Sequence[Any], kind: Any) -> Any:
    """Return an array of Arrow scalars; None stands for a null."""
    import pyarrow as pa

    parts = []
    for _, group in itertools.groupby(scalars, key=id):  # the rows of a prompt share its scalars
        same = list(group)
        parts.append(pa.nulls(len(same), kind) if same[0] is None else pa.repeat(same[0], len(same)))
    return pa.concat_arrays(parts) if parts else pa.array([], kind)
