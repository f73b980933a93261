"""`knock sample` with a model of a table's rows: CSV, TSV and JSON files match the schema, whatever the weights."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.jobs.table import HEADER, write_table
from knock.config import ModelConfig
from knock.errors import SamplingError, SchemaError
from knock.files.tables import csv_line, read_table
from knock.generation.constraints.inference import schema_of
from knock.generation.constraints.schema import pattern_of
from knock.gpt import ReweightGPT
from knock.language_model import LanguageModel, load
from knock.vocab import Vocab
from tests.cases import random_weights
from tests.cli.test_main import run

FLAT = ("--backend", "compiled", "--temperature", "1.5")  # nearly all that the schema allows is drawn


def untrained(table: Path) -> LanguageModel:
    """A model of a table's rows with random weights: its rows match the schema by construction alone."""
    rows = read_table(table)
    vocab = Vocab(sorted(set("".join(rows.items()))), boundary=True)
    config = ModelConfig(vocab_size=vocab.vocab_size, T=8, n_emb=8, nodes=8, n_blocks=1, n_heads=1)
    weights = random_weights(config, seed=1, scale=0.3)
    return LanguageModel(ReweightGPT.from_weights(weights, backend="compiled"), vocab, {"schema": schema_of(rows)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a model of its rows in each format."""
    folder = tmp_path_factory.mktemp("tables")
    for form in ("csv", "jsonl"):
        write_table(folder / f"customers.{form}", 400)
        untrained(folder / f"customers.{form}").save(folder / f"{form}.safetensors")
    return folder


def matching(path: Path, model: Path) -> int:
    """Return the number of rows of a table after checking that all match a model's schema."""
    items = list(read_table(path).items())
    schema = load(model).schema
    assert schema is not None
    matches = re.compile(pattern_of(schema)).fullmatch
    assert all(map(matches, items))
    return len(items)


@pytest.mark.parametrize(("form", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_every_row_parses_and_matches_the_schema(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path, form: str, delimiter: str
) -> None:
    out = tmp_path / f"new.{form}"
    result = run(capsys, "sample", "--model", str(folder / "csv.safetensors"), "--count", "60", "--seed", "1", "--out",
                 str(out), *FLAT)  # fmt: skip
    assert result == (0, "", "")
    with out.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines, delimiter=delimiter, strict=True)
    assert header == list(HEADER)
    assert {len(row) for row in rows} == {len(HEADER)}
    assert matching(out, folder / "csv.safetensors") == len(rows) == 60
    assert any("\n" in row[-1] or '"' in row[-1] for row in rows)
    assert any(not row[8] for row in rows)


def test_a_model_of_objects_writes_objects(capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path) -> None:
    model, out = folder / "jsonl.safetensors", tmp_path / "new.jsonl"
    given = ("sample", "--model", str(model), "--count", "40", "--seed", "1", *FLAT)
    assert run(capsys, *given, "--out", str(out)) == (0, "", "")
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {tuple(row) for row in rows} == {HEADER}
    assert {type(row["active"]) for row in rows} <= {bool}
    assert {type(row["spent"]) for row in rows} <= {float, int, type(None)}
    assert matching(out, model) == 40
    _, text, _ = run(capsys, *given, "--format", "csv")
    header, *cells = csv.reader(text.splitlines(keepends=True), strict=True)
    assert header == list(HEADER)
    assert [row[1] for row in cells] == [row["name"] for row in rows]
    assert [row[8] == "" for row in cells] == [row["spent"] is None for row in rows]
    _, text, _ = run(capsys, *given, "--log-probs")  # the rows of other models
    assert [json.loads(line)["index"] for line in text.splitlines()] == list(range(40))


def test_a_model_of_csv_writes_objects_and_parquet_with_types(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    given = ("sample", "--model", str(folder / "csv.safetensors"), "--count", "60", "--seed", "1", "--unique", *FLAT)
    out = {form: tmp_path / f"new.{form}" for form in ("csv", "jsonl", "parquet")}
    for path in out.values():
        assert run(capsys, *given, "--out", str(path))[0] == 0
    table = parquet.read_table(out["parquet"])
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "string", "name": "string", "email": "string", "country": "string", "city": "string",
        "born": "date32[day]", "updated": "timestamp[us, tz=UTC]", "orders": "int64", "spent": "double",
        "active": "bool", "phone": "string", "note": "string",
    }  # fmt: skip
    objects = [json.loads(line) for line in out["jsonl"].read_text(encoding="utf-8").splitlines()]
    with out["csv"].open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == len(objects) == len(table) == 60
    for row, content, typed in zip(rows, objects, table.to_pylist(), strict=True):
        assert tuple(content) == HEADER
        for name, cell in row.items():
            if not cell:
                assert content[name] is typed[name] is None
            elif name in ("born", "updated"):
                assert content[name] == cell
                assert typed[name].strftime("%d.%m.%Y" if name == "born" else "%Y-%m-%dT%H:%M:%SZ") == cell
            else:
                kind = {"orders": int, "spent": float, "active": lambda text: text == "true"}.get(name, str)
                assert content[name] == typed[name] == kind(cell)
    assert any(not row["spent"] for row in rows)


def test_a_model_of_objects_writes_parquet_with_their_types(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    given = ("sample", "--model", str(folder / "jsonl.safetensors"), "--count", "20", "--seed", "1", *FLAT)
    for form in ("jsonl", "parquet"):
        assert run(capsys, *given, "--out", str(tmp_path / f"new.{form}"))[0] == 0
    objects = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = parquet.read_table(tmp_path / "new.parquet").to_pylist()
    assert rows == [dict.fromkeys(HEADER) | each for each in objects]
    run(capsys, *given, "--log-probs", "--out", str(tmp_path / "own.parquet"))
    assert parquet.read_schema(tmp_path / "own.parquet").names[0] == "index"


def test_rows_on_standard_output_have_the_format_of_the_table(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    for form in ("csv", "jsonl"):
        given = ("sample", "--model", str(folder / f"{form}.safetensors"), "--count", "3", "--seed", "1", *FLAT)
        assert run(capsys, *given) == run(capsys, *given, "--format", form)
        _, text, _ = run(capsys, *given, "--entropies")  # which a table cannot hold
        assert "entropies" in json.loads(text.splitlines()[0])


def test_a_schema_that_the_model_cannot_write_names_the_column(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    path = tmp_path / "s.json"
    choice = {"name": "city", "kind": "choice", "values": ["Ulm", "Ulm§"]}
    for column, message in (
        (choice, "the model cannot write the value 'Ulm§' of the column 'city': it does not know '§'"),
        ({"name": "x", "kind": "pattern", "pattern": "a[§¶]b"}, "cannot write the column 'x': it does not know [§¶]"),
    ):
        path.write_text(json.dumps({"format": "csv", "columns": [column]}), encoding="utf-8")
        given = ("sample", "--model", str(folder / "csv.safetensors"), "--schema", str(path), *FLAT)
        code, out, err = run(capsys, *given)
        assert (code, out, message in err, err.count("\n")) == (1, "", True, 1)
    either = {"name": "x", "kind": "pattern", "pattern": "a|§"}
    path.write_text(json.dumps({"format": "csv", "columns": [either]}), encoding="utf-8")
    assert run(capsys, *given, "--seed", "1")[:2] == (0, "x\na\n")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_resumes_after_truncation_and_extends(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path, form: str
) -> None:
    model, out = str(folder / f"{form}.safetensors"), tmp_path / f"new.{form}"
    given = ("sample", "--model", model, "--seed", "5", "--out", str(out), "--unique", *FLAT)
    run(capsys, *given, "--count", "30")
    whole = out.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1, len(whole)):
        out.write_bytes(whole[:size])
        code, _, _ = run(capsys, *given, "--count", "30", "--resume")
        assert (code, out.read_bytes()) == (0, whole)
    run(capsys, *given, "--count", "35", "--resume")
    assert out.read_bytes().startswith(whole)
    assert matching(out, Path(model)) == 35
    code, _, err = run(capsys, *given, "--count", "30", "--resume")
    assert (code, "has more than the 30 rows" in err) == (1, True)
    changed = out.read_bytes().replace(b"C-", b"D-", 1)
    out.write_bytes(changed)
    code, _, err = run(capsys, *given, "--count", "35", "--resume")
    assert (code, "is not the output of this run" in err, out.read_bytes()) == (1, True, changed)


def test_the_journal_restores_what_must_not_repeat(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    """Few rows are possible, so that nearly all are repeats."""
    choice = {"name": "a", "kind": "choice", "values": ["x\ny", "1,2", "z"]}
    number = {"name": "b", "kind": "integer", "min": 0, "max": 1}
    schema = {"format": "csv", "columns": [choice, number]}
    (tmp_path / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    out = tmp_path / "new.csv"
    given = ("sample", "--model", str(folder / "csv.safetensors"), "--schema", str(tmp_path / "schema.json"), "--seed",
             "3", "--out", str(out), "--unique", *FLAT)  # fmt: skip
    code, _, err = run(capsys, *given, "--count", "7", "--tries", "300")
    assert (code, "got 6 of 7 texts" in err) == (1, True)
    expected = sorted([a, b] for a in ("x\ny", "1,2", "z") for b in ("0", "1"))
    assert sorted(read_table(out).rows()) == expected
    code, _, _ = run(capsys, *given, "--count", "7", "--tries", "400", "--resume")
    assert (code, sorted(read_table(out).rows())) == (1, expected)


def test_seed_of_a_finished_file_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path) -> None:
    for form in ("csv", "jsonl"):
        given = ("sample", "--model", str(folder / f"{form}.safetensors"), "--out", str(tmp_path / f"n.{form}"), *FLAT)
        code, _, err = run(capsys, *given)
        assert (code, bool(re.fullmatch(r"seed \d+\n", err))) == (0, True)
        code, _, err = run(capsys, *given, "--resume")
        assert (code, "pass the run's --seed" in err) == (1, True)


def test_novel_compares_with_the_rows_of_a_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    out = tmp_path / "new.csv"
    given = ("sample", "--model", str(folder / "csv.safetensors"), "--count", "20", "--seed", "1", *FLAT)
    run(capsys, *given, "--out", str(out))
    code, text, err = run(capsys, *given, "--novel", str(out), "--format", "csv")
    assert (code, "20 copies" in err) == (0, True)
    items = list(read_table(out).items())
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    assert not set(map(csv_line, rows)) & set(items)
    lm = load(folder / "csv.safetensors", backend="compiled")
    drawn = lm.items(20, seed=1)
    out.write_text("\n".join([",".join(HEADER), *drawn, ""]), encoding="utf-8")
    assert not set(lm.items(20, seed=1, novel=out)) & set(drawn)


def test_info_prints_the_schema_and_sample_takes_it_changed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    model = str(folder / "csv.safetensors")
    code, text, _ = run(capsys, "info", model, "--schema")
    schema = json.loads(text)
    assert (code, schema) == (0, load(model).schema)
    _, facts, _ = run(capsys, "info", model)
    assert "table           12 columns, as CSV" in facts
    assert "column          born: date %d.%m.%Y, 1940 to 2005" in facts
    schema["columns"] = [{"name": "only", "kind": "integer", "min": 7, "max": 8}]
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema), encoding="utf-8")
    code, text, _ = run(capsys, "sample", "--model", model, "--schema", str(path), "--count", "9", "--seed", "1",
                        "--format", "csv", *FLAT)  # fmt: skip
    assert (code, set(text.splitlines())) == (0, {"only", "7", "8"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--pattern", "a"], "the schema of the table is the pattern of its rows"),
        (["--length", "20"], "takes .* characters, its end included, and the length limit is 20"),
        (["D-1"], "no text that matches the constraints begins with this prompt"),
        (["--schema", "none.json"], "cannot read 'none.json'"),
        (["--log-probs"], "a .csv file cannot hold --log-probs"),
        (["--keep-cut", "--exact"], "--keep-cut keeps parts of rows"),
        (["--model", "shakespeare-hybrid"], "holds rows of a table, which this model was not trained on"),
        (["--model", "shakespeare-hybrid", "--schema", "SCHEMA"], "so it takes no schema"),
    ],
)
def test_what_cannot_be_gets_one_clear_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path, given: list[str], message: str
) -> None:
    _, text, _ = run(capsys, "info", str(folder / "csv.safetensors"), "--schema")
    (tmp_path / "schema.json").write_text(text, encoding="utf-8")
    given = [str(tmp_path / "schema.json") if each == "SCHEMA" else each for each in given]
    out = tmp_path / "new.csv"
    code, _, err = run(capsys, "sample", "--model", str(folder / "csv.safetensors"), "--out", str(out), *FLAT, *given)
    assert (code > 0, err.count("\n"), out.exists()) == (True, 1, False)
    assert re.search(message, err)


def test_no_schema_in_a_model_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "info", "--schema")
    assert (code, "has no schema" in err) == (1, True)


def test_a_prompt_is_the_beginning_of_a_row(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    model = str(folder / "csv.safetensors")
    code, text, _ = run(capsys, "sample", "C-123456,Anna ", "--model", model, "--count", "5", "--seed", "1", "--format",
                        "csv", *FLAT)  # fmt: skip
    rows = list(csv.reader(text.splitlines(keepends=True), strict=True))[1:]
    assert (code, {row[0] for row in rows}, {row[1][:5] for row in rows}) == (0, {"C-123456"}, {"Anna "})


def test_the_library_applies_the_schema(folder: Path) -> None:
    lm = load(folder / "csv.safetensors", backend="compiled")
    matches = re.compile(pattern_of(lm.schema or {})).fullmatch
    assert all(map(matches, lm.items(10, seed=1)))
    assert matches(lm.generate(seed=2, max_new_tokens=150).text)
    assert all(matches(text.text) for text in lm.generate_batch([""] * 4, seed=3))
    assert matches("".join(lm.stream(seed=4)))
    with pytest.raises(SamplingError, match="the schema of the table is the pattern of its rows"):
        lm.items(1, pattern="a")
    schema: dict[str, Any] = {"format": "csv", "columns": [{"name": "n", "kind": "choice", "values": ["DE", "FR"]}]}
    lm.schema = schema
    assert set(lm.items(2, seed=1)) == {"DE", "FR"}
    with pytest.raises(SchemaError, match="the format must be one of"):
        lm.schema = schema | {"format": "xml"}
    assert lm.schema == schema


def test_a_lower_case_model_writes_lower_case_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", 100)
    table = read_table(tmp_path / "t.csv")
    vocab = Vocab(sorted(set("".join(table.items()).lower())), lowercase=True, boundary=True)
    config = ModelConfig(vocab_size=vocab.vocab_size, T=8, n_emb=8, nodes=8, n_blocks=1, n_heads=1)
    gpt = ReweightGPT.from_weights(random_weights(config, seed=1, scale=0.3), backend="compiled")
    lm = LanguageModel(gpt, vocab, {"schema": schema_of(table)})
    for item in lm.items(5, seed=1):
        assert item == item.lower()
        assert re.fullmatch(pattern_of(lm.schema or {}), item, re.IGNORECASE)
