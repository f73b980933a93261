"""Tests of the items of files that new texts are compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from knock.errors import TextError
from knock.files.known_items import Source, known_items

CSV = {"format": "csv", "columns": [{"name": "b"}, {"name": "a"}]}
JSON = CSV | {"format": "jsonl"}


def record(kind: str, **more: str) -> dict[str, Any]:
    return {"corpus": {"items": {"kind": kind, **more}}}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def texts(sources: Sequence[Source]) -> list[str]:
    """The texts of the sources that are no paths."""
    return [text for source in sources if not isinstance(source, (str, Path)) for text in source]


def test_texts_and_lines_stay_as_they_are(tmp_path: Path) -> None:
    given = ["a", "b"]
    assert known_items(given, record("lines"), None) == [given]
    path = written(tmp_path / "t.txt", "a\n\nb\n")
    for training in ({}, record("lines"), record("texts"), {"corpus": {"items": "?"}}, {"corpus": 3}):
        assert known_items(path, training, None) == [path]
    table = written(tmp_path / "t.csv", "a\n1\n")
    assert known_items(table, record("lines"), None) == [table]  # which may have been trained on


def test_paragraphs_and_files_are_items_besides_the_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "t.txt", "a\nb\n\n\nc\n")
    assert texts(known_items(path, record("paragraphs"), None)) == ["a\nb", "c"]
    assert texts(known_items(str(path), record("files"), None)) == ["a\nb\n\n\nc"]
    assert path in known_items(path, record("paragraphs"), None)  # with escapes, a line may be a paragraph


def test_cells_of_the_column_that_the_model_learned(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", 'a,b\n1,"x\ny"\n2,z\n')
    assert texts(known_items(path, record("column", column="b"), None)) == ["x\ny", "z"]
    objects = written(tmp_path / "t.jsonl", '{"b": "x"}\n')
    assert texts(known_items(objects, record("column", column="b"), None)) == ["x"]
    lines = written(tmp_path / "t.txt", "x\n")
    assert known_items(lines, record("column", column="b"), None) == [lines]
    with pytest.raises(TextError, match="has no column 'c'"):
        known_items(path, record("column", column="c"), None)


def test_rows_have_the_columns_of_the_schema_in_its_order(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", 'a,c,b\n1,?,"x\ny"\n2,?,"z,"\n')
    assert texts(known_items(path, record("rows"), CSV)) == ['"x\ny",1', '"z,",2']
    objects = written(tmp_path / "t.jsonl", '{"a": 1, "b": "z,"}\n')
    assert texts(known_items(objects, record("rows"), CSV)) == ['"z,",1']
    assert texts(known_items(objects, record("rows"), JSON)) == ['{"a":1,"b":"z,"}']
    with pytest.raises(TextError, match="cannot be compared with the JSON objects"):
        known_items(path, record("rows"), JSON)
    with pytest.raises(TextError, match="has no column 'b'"):
        known_items(written(tmp_path / "u.csv", "a\n1\n"), record("rows"), CSV)


def test_rows_that_knock_wrote_stand_for_their_texts(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    row = {"index": 0, "prompt": "A", "text": "nna", "seed": 1}
    path = written(tmp_path / "t.jsonl", json.dumps(row) + "\n")
    for training, schema in ((record("lines"), None), (record("column", column="b"), None), (record("rows"), CSV)):
        assert known_items(path, training, schema) == [path]  # KnownTexts reads them
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "t.parquet")
    assert texts(known_items(tmp_path / "t.parquet", record("lines"), None)) == ["Anna"]
    parquet.write_table(pyarrow.Table.from_pylist([{"a": 1}]), tmp_path / "u.parquet")
    with pytest.raises(TextError, match="is a table, and the model was not trained on one"):
        known_items(tmp_path / "u.parquet", record("lines"), None)
