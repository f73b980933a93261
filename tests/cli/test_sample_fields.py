"""Tests of `knock sample`: fields and columns of prompts that it does not know are carried into the rows."""

from __future__ import annotations

import decimal
import json
from pathlib import Path
from typing import Any

import pytest

from knock.jobs.field_names import FIELDS, check_extra
from tests.cli.test_main import run
from tests.cli.test_sample import FAST, rows, write_parquet
from tests.cli.test_sample_resume import leave_unfinished

FIELDS_CARRIED: list[dict[str, Any]] = [
    {"id": 7, "prompt": "A", "metadata": {"tags": ["x", None], "depth": {"a": 1.5}}, "custom_id": None},
    {"prompt": "B", "top_k": 2, "id": 8, "metadata": {"depth": {"b": "é\n"}}, "mixed": 1},
    {"prompt": "é", "id": 9, "mixed": "two", "prompt_id": 2**70, "empty": {}},
]


def test_other_fields_are_carried_into_the_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, plain = tmp_path / "p.jsonl", tmp_path / "plain.jsonl"
    path.write_text("\n".join(map(json.dumps, FIELDS_CARRIED)), encoding="utf-8")
    known = [{name: line[name] for name in line if name in FIELDS} for line in FIELDS_CARRIED]
    plain.write_text("\n".join(map(json.dumps, known)), encoding="utf-8")
    made = []
    for each in (path, plain):
        code, said, _ = run(capsys, "sample", "--prompts", str(each), "--count", "2", *FAST, "--skip-bad")
        assert code == 1  # é is unknown
        made.append([json.loads(line) for line in said.splitlines()])
    with_fields, without = made
    for i, (row, own) in enumerate(zip(with_fields, without, strict=True)):
        line = FIELDS_CARRIED[i // 2]
        assert row == own | {name: line[name] for name in line if name not in FIELDS}
        assert list(row)[: len(own)] == list(own)
    out = tmp_path / "o.parquet"
    run(capsys, "sample", "--prompts", str(path), "--count", "2", *FAST, "--out", str(out))
    import pyarrow.parquet as pq

    table = pq.read_table(out)
    kinds = {name: str(table.schema.field(name).type) for name in ("id", "mixed", "prompt_id", "custom_id")}
    assert kinds == {"id": "int64", "mixed": "string", "prompt_id": "string", "custom_id": "null"}
    assert table.column("mixed").to_pylist() == [None, None, "1", "1", '"two"', '"two"']
    assert table.column("empty").to_pylist() == [None] * 4 + ["{}"] * 2
    assert table.column("metadata").to_pylist()[::2] == [
        {"tags": ["x", None], "depth": {"a": 1.5, "b": None}},
        {"tags": None, "depth": {"a": None, "b": "é\n"}},
        None,
    ]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["o.parquet", "p.jsonl", "plain.jsonl"]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("temprature", "unknown field 'temprature'; did you mean temperature?"),
        ("Prompt", "unknown field 'Prompt'; did you mean prompt?"),
        ("topK", "unknown field 'topK'; did you mean top_k?"),
        ("stops", "unknown field 'stops'; did you mean stop?"),
        ("max_tokens", "unknown field 'max_tokens'; write max_new_tokens."),
        ("n", "unknown field 'n'; give the number of texts per prompt with --count"),
        ("temp", "unknown field 'temp'; write temperature."),
        ("text", "field 'text' is one that knock writes into the rows; rename or remove it"),
        ("error", "field 'error' is one that knock writes into the rows; rename or remove it"),
        ("seed", "rename or remove it, or give the seed with --seed"),
    ],
)
def test_fields_that_are_meant_for_knock_are_rejected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, field: str, message: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "A", field: 1}), encoding="utf-8")
    code, said, err = run(capsys, "sample", "--prompts", str(path), *FAST)
    assert (code, said, err.count("\n")) == (1, "", 1)
    assert message in err


@pytest.mark.parametrize("field", ["id", "custom_id", "prompt_id", "stop_reason", "step", "topic", "type", "model"])
def test_other_names_are_no_misspellings(field: str) -> None:
    check_extra([field])


def test_columns_are_carried_with_their_types(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "time": pa.array([1234567891234567891, None, 5], pa.timestamp("ns", "UTC")),
        "prompt": ["A", "é", "B"],
        "kind": pa.array(["x", "y", None]).dictionary_encode(),
        "price": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("2.00")]),
        "scores": pa.array([[("a", 1.0)], None, []], pa.map_(pa.string(), pa.float32())),
        "nested": pa.array([{"a": [1, None]}, None, {"a": None}]),
        "pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)),
        "raw": pa.array([b"x\xff", None, b""]),
        "share": pa.array([float("nan"), 0.5, None], pa.float32()),
        "number": pa.array([3, None, 2**63], pa.uint64()),
    }
    write_parquet(tmp_path / "p.parquet", columns)
    arguments = ["sample", "--prompts", str(tmp_path / "p.parquet"), "--count", "2", *FAST]
    out = tmp_path / "o.PARQUET"
    assert run(capsys, *arguments, "--out", str(out))[0] == 1
    read, source = pq.read_table(out), pq.read_table(tmp_path / "p.parquet")
    for name in columns:
        if name != "prompt":
            assert read.schema.field(name).type == source.schema.field(name).type
            twice = source.column(name).take(pa.array([0, 0, 1, 1, 2, 2]))
            assert read.column(name).combine_chunks().to_string() == twice.combine_chunks().to_string()
    first = json.loads(run(capsys, *arguments)[1].splitlines()[0])
    assert {name: first[name] for name in columns} == {
        "time": "2009-02-13T23:31:31.234567891+00:00",
        "prompt": "A",
        "kind": "x",
        "price": "1.10",
        "scores": {"a": 1.0},
        "nested": {"a": [1, None]},
        "pair": [1, 2],
        "raw": "eP8=",
        "share": None,
        "number": 3,
    }


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_runs_with_other_fields_are_resumable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    path, out, whole = tmp_path / f"p.{form}", tmp_path / "o.jsonl", tmp_path / "w.jsonl"
    lines = [{"id": i, "when": f"2020-01-{i % 28 + 1:02}", "prompt": "AB"[i % 2]} for i in range(50)]
    if form == "jsonl":
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    else:
        import pyarrow as pa

        write_parquet(path, {name: pa.array([line[name] for line in lines]) for name in lines[0]})
    arguments = ["sample", "--prompts", str(path), "--count", "3", *FAST, "--out"]
    run(capsys, *arguments, str(whole))
    leave_unfinished(monkeypatch)
    run(capsys, *arguments, str(out))
    monkeypatch.undo()
    for cut in (1, 4000, 9000):
        journal = out.with_name("o.jsonl.run")
        if journal.exists():
            journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
        out.write_bytes(whole.read_bytes()[:cut])
        assert run(capsys, *arguments, str(out), "--resume")[0] == 0
        assert out.read_bytes() == whole.read_bytes()
    assert [row["id"] for row in rows(out)] == [i // 3 for i in range(150)]
