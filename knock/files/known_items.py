"""The items of a file that new texts are compared with, read as the model read those that it was trained on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from knock.errors import TextError
from knock.files.corpus_files import CorpusFile
from knock.files.items import TABLES, Items, is_blank
from knock.files.tables import Table, csv_line, read_table
from knock.files.text import read_chunks

Source = str | os.PathLike[str] | Iterable[str]

_OF_ROWS = {"index", "prompt", "text"}  # columns of the rows that `knock sample` writes


def known_items(source: Source, training: Mapping[str, Any], schema: Mapping[str, Any] | None) -> list[Source]:
    """Return what a file holds for a model: paths, whose lines are texts, and iterables of texts.

    The file of a model of a table's rows is such a table, and that of a model of a column's cells may be one. The rows
    that `knock sample` writes stand for their texts. Sources that are no paths are returned as they are.

    Args:
        source: a path, or texts.
        training: the model's training record.
        schema: the schema of the rows that the model writes, if it does.

    Raises:
        TextError: if the file is a table that lacks a column of the model, or has another form.
    """
    if not isinstance(source, (str, os.PathLike)):
        return [source]
    path = Path(source)
    items = _items_of(training)
    if path.suffix.lower() in TABLES:
        column = None if items is None else items.column
        if schema is None and column is None and path.suffix.lower() != ".parquet":
            return [source]  # lines, perhaps of a table
        table = read_table(path)
        if set(table.header) >= _OF_ROWS:
            return [source] if table.form == "jsonl" else [_texts(table)]
        if schema is not None:
            return [_rows(table, schema)]
        if column is None:
            raise TextError(f"{table.name} is a table, and the model was not trained on one; pass a file of lines")
        return [table.column(column)]
    if items is not None and items.kind in ("paragraphs", "files"):
        file = CorpusFile(str(path), lambda: read_chunks(path), path)
        return [source, (item for item in items.read([file]) if not is_blank(item))]
    return [source]


def _items_of(training: Mapping[str, Any]) -> Items | None:
    """Return what an item is according to a training record; None if it does not say."""
    corpus = training.get("corpus")
    try:
        return Items.from_record(corpus.get("items")) if isinstance(corpus, Mapping) else None
    except ValueError:
        return None


def _texts(table: Table) -> Iterator[str]:
    prompt, text = table.place("prompt"), table.place("text")
    return (row[prompt] + row[text] for row in table.rows())


def _rows(table: Table, schema: Mapping[str, Any]) -> Iterator[str]:
    """Return the rows of a table as a model with a schema writes them.

    Raises:
        TextError: if the table lacks a column, or has no types and the schema has.
    """
    if schema["format"] == "jsonl":
        if table.form != "jsonl":
            raise TextError(f"{table.name} cannot be compared with the JSON objects of the model; pass a .jsonl file")
        return table.items()
    places = [table.place(column["name"]) for column in schema["columns"]]
    return (csv_line([row[place] for place in places]) for row in table.rows())
