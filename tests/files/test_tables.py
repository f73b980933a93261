"""Tables as rows of texts and as items: CSV, TSV, JSON lines and Parquet, and files that are none of them."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.errors import KnockError, TextError
from knock.files.tables import column, csv_cells, csv_line, read_table, rows_as_items

ROWS = [["Ann", "3", 'a "b", c'], ["Bo", "", "two\nlines"], ["Cé", "-1.50", ""]]
HEADER = ["name", "age", "note"]


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_csv_with_quotes_line_breaks_a_mark_and_blank_lines(tmp_path: Path) -> None:
    text = '\ufeffname,age,note\r\nAnn,3,"a ""b"", c"\r\n\r\nBo,,"two\r\nlines"\r\nCé,-1.50,\r\n'
    table = read_table(written(tmp_path / "t.csv", text))
    assert table.header == HEADER
    assert list(table.rows()) == list(table.rows()) == ROWS
    assert list(table.items()) == ['Ann,3,"a ""b"", c"', 'Bo,,"two\nlines"', "Cé,-1.50,"]
    assert list(table.items()) == list(rows_as_items(tmp_path / "t.csv"))
    assert list(column(tmp_path / "t.csv", "age")) == ["3", "", "-1.50"]


@pytest.mark.parametrize(
    ("suffix", "delimiter", "found"), [("csv", ";", ";"), ("csv", "\t", "\t"), ("csv", "|", "|"), ("tsv", "\t", "\t")]
)
def test_other_separators(tmp_path: Path, suffix: str, delimiter: str, found: str) -> None:
    lines = "".join(csv_line(row, delimiter) + "\n" for row in [HEADER, *ROWS])
    table = read_table(written(tmp_path / f"t.{suffix}", lines))
    assert (table.header, list(table.rows()), table.delimiter) == (HEADER, ROWS, found)


def test_a_quoted_header_may_hold_other_separators(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "t.csv", '"a; b; c","d"\nx,y\n'))
    assert table.header == ["a; b; c", "d"]


def test_jsonl_keeps_numbers_and_missing_keys(tmp_path: Path) -> None:
    lines = ['{"a": "x\\ny", "b": 1.50, "c": null}', "", '{"b": 2e3, "d": [1, {"z": true}], "a": "\\u00e9"}']
    table = read_table(written(tmp_path / "t.jsonl", "\n".join(lines)))
    assert table.header == ["a", "b", "c", "d"]
    assert list(table.rows()) == [["x\ny", "1.50", "", ""], ["é", "2e3", "", '[1,{"z":true}]']]
    items = list(table.items())
    assert items == ['{"a":"x\\ny","b":1.50,"c":null}', '{"a":"é","b":2e3,"d":[1,{"z":true}]}']
    assert [json.loads(item) for item in items] == [json.loads(line) for line in lines if line]


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import datetime

    from pyarrow import parquet

    columns = {
        "name": ["a\r\nb", None],
        "born": [datetime.date(1999, 12, 31), None],
        "is": [True, False],
        "x": [1.5, None],
        "kind": pa.array(["u", "u"]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.header == list(columns)
    assert list(table.rows()) == [["a\nb", "1999-12-31", "true", "1.5", "u"], ["", "", "false", "", "u"]]
    parquet.write_table(pa.table({"name": ["a"], "of": [[1]]}), tmp_path / "nested.parquet")
    with pytest.raises(TextError, match=r"columns that are no text, numbers or dates: 'of'"):
        read_table(tmp_path / "nested.parquet")


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(KnockError, match=r"needs pyarrow, which is not installed"):
        read_table(written(tmp_path / "t.parquet", "x"))


BAD = {
    "ragged.csv": ("a,b\n1,2\n\n3,4,5\n", "line 4 of .* has 3 fields, and the header names 2"),
    "after_break.csv": ('a,b\n"1\n1",2\n3\n', "line 4 of .* has 1 field, and the header names 2"),
    "twice.csv": ("name,age,name\nx,1,y\n", "has two columns named 'name'"),
    "unnamed.csv": ("name,,\nx,1,y\n", "has 2 columns without a name"),
    "no_header.csv": ("Ann,31\nBo,4\n", "looks like data: column 2 would be named '31'"),
    "no_header_date.csv": ("x,2020-01-31\ny,2020-02-28\n", "looks like data: column 2"),
    "empty.csv": ("", "is empty"),
    "blank.csv": ("\n\n", "is empty"),
    "no_rows.csv": ("a,b\n", "has a header and no rows"),
    "open.csv": ('a,b\n1,"2\n3,4\n', "line 2 of .* is not CSV: a quote is opened and never closed"),
    "long.csv": ('a,b\n1,"' + "x" * 200_000, "line 2 of .* a field of more than .* perhaps a quote is never closed"),
    "closed.csv": ('a,b\n1,"2"3\n', "line 2 of .* is not CSV: a closing quote is followed by text"),
    "latin.csv": ("a,b\n\udce4,1\n", "is not UTF-8 text"),
    "empty.jsonl": ("\n", "is empty"),
    "list.jsonl": ('{"a":1}\n[1]\n', r"line 2 of .* is not a JSON object, such as .*, but \[1\]"),
    "long.jsonl": ('{"a":1}\n"' + "x" * 90 + '"\n', r'line 2 of .* but "x{56}\.\.\.$'),
    "cut.jsonl": ('{"a":1}\n{"a":2,"b":\n', "line 2 of .* expecting value at column 12$"),
    "word.jsonl": ("a,b\n", "line 1 of .* is not a JSON object"),
    "twice.jsonl": ('{"a":1,"a":2}\n', "line 1 of .* the key 'a' occurs twice"),
    "nan.jsonl": ('{"a":NaN}\n', "line 1 of .* NaN is not JSON"),
    "half.jsonl": ('{"a":"\\ud800"}\n', "line 1 of .* half a surrogate pair"),
    "deep.jsonl": ('{"a":' + "[" * 100_000 + "\n", "line 1 of .* is not a JSON object"),
    "not.parquet": ("PAR1", "cannot read .* as Parquet"),
    "unknown.txt": ("a", r"must end in \.csv, \.tsv, \.jsonl or \.parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_table_gets_one_clear_line(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(TextError, match=message) as error:
        list(rows_as_items(tmp_path / name))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TextError, match="is a folder; a table must be a file"):
        read_table(tmp_path / "folder.csv")


def test_an_unknown_column_is_named_with_the_likeliest_one(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "Given name,age\nAnn,3\n")
    with pytest.raises(TextError, match="has no column 'given nam'; did you mean 'Given name'"):
        column(path, "given nam")
    with pytest.raises(TextError, match="has no column 'zip'; its columns are 'Given name', 'age'"):
        column(path, "zip")


def test_names_that_look_like_values_pass_where_the_column_is_another(tmp_path: Path) -> None:
    assert read_table(written(tmp_path / "t.csv", "2020,x\nhigh,1\n")).header == ["2020", "x"]


@given(st.lists(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=8), min_size=1))
def test_a_line_of_csv_is_what_the_csv_module_reads(cells: list[str]) -> None:
    line = csv_line(cells)
    assert csv_cells(line) == cells
    assert list(csv.reader(io.StringIO(line + "\n"), strict=True)) == [cells]
