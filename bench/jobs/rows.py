"""1,000,000 rows of a table with 12 columns of all kinds: how many a CSV reader takes, and how many match the schema.

python -m bench.jobs.table customers.csv
knock train customers.csv --rows --minutes 20 --out customers.safetensors
python -m bench.jobs rows customers.safetensors customers.csv
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from bench.jobs.command import knock, table
from bench.jobs.table import HEADER
from knock.files.checkpoint import read_checkpoint
from knock.files.tables import read_table
from knock.generation.constraints.schema import pattern_of

COUNT = 1_000_000


class Checked(NamedTuple):
    """What a CSV reader found in a file.

    Attributes:
        has_header: whether the first row is the header of the table.
        rows: number of rows after it.
        whole: rows with the right number of fields.
        valid: rows in which each field has the form of its column.
        different: number of different rows.
        wrong: number of wrong fields, by column.
    """

    has_header: bool
    rows: int
    whole: int
    valid: int
    different: int
    wrong: Counter[str]


def check(path: Path, known: Path) -> Checked:
    """Read a CSV file with Python's reader, and check each field.

    Args:
        path: the file.
        known: the table that the model was trained on, in which columns with few values have all of them.
    """
    forms = columns(known)
    rows = whole = valid = 0
    seen, wrong = set[int](), Counter[str]()
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader)
        for row in reader:
            rows += 1
            seen.add(hash(tuple(row)))
            if len(row) != len(HEADER):
                continue
            whole += 1
            bad = [name for name, field in zip(HEADER, row, strict=True) if not forms[name](field)]
            wrong.update(bad)
            valid += not bad
    return Checked(tuple(header) == HEADER, rows, whole, valid, len(seen), wrong)


def columns(known: Path) -> dict[str, Callable[[str], object]]:
    """Return what each column may hold: the rules by which `bench.jobs.table` makes it."""
    with known.open(encoding="utf-8", newline="") as file:
        table_rows = list(csv.DictReader(file))

    def among(name: str) -> Callable[[str], object]:
        return {row[name] for row in table_rows}.__contains__

    def matching(pattern: str) -> Callable[[str], object]:
        return re.compile(pattern, re.DOTALL).fullmatch

    def date(form: str) -> Callable[[str], object]:
        def is_date(field: str) -> bool:
            try:
                return datetime.strptime(field, form).strftime(form) == field
            except ValueError:
                return False

        return is_date

    return {
        "id": matching(r"C-\d{6}"),
        "name": matching(r".+"),
        "email": matching(r".+"),
        "country": among("country"),
        "city": among("city"),
        "born": date("%d.%m.%Y"),
        "updated": date("%Y-%m-%dT%H:%M:%SZ"),
        "orders": matching(r"0|[1-9]\d*"),
        "spent": matching(r"(-?(0|[1-9]\d*)\.\d\d)?"),
        "active": among("active"),
        "phone": matching(r"(\+\d\d? \d+ \d+ \d{4})?"),
        "note": matching(r".*"),
    }


def report(model: Path, known: Path, count: int = COUNT) -> str:
    """Let a model write a table, check it, and return the report, in Markdown.

    Args:
        model: model file, trained on `known` with `--rows`.
        known: the table, written by `bench.jobs.table`.
        count: number of rows.
    """
    training = read_checkpoint(model).training
    accepts = re.compile(pattern_of(training["schema"]), re.DOTALL).fullmatch
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "customers.csv"
        done = knock("sample", "--model", model, "--count", str(count), "--out", out, "--seed", "1")
        size = out.stat().st_size
        result = check(out, known)
        matching = sum(accepts(line) is not None for line in read_table(out).items())
    wrong = ", ".join(f"{name} ({number:,})" for name, number in result.wrong.most_common()) or "none"
    figures = {
        "rows that Python's `csv` reads": f"{result.rows:,}",
        f"rows with {len(HEADER)} fields": f"{result.whole:,}",
        "rows that match the schema": f"{matching:,}",
        "rows in which every field passes the rules of the generator": f"{result.valid:,}",
        "different rows": f"{result.different:,}",
        "fields that fail, by column": wrong,
        "time from start to exit": f"{done.seconds:.0f} s, {size / 1e6 / done.seconds:.1f} MB/s",
    }
    assert result.has_header
    seconds, steps = training["seconds"], training["steps_done"]
    return (
        f"{table([f'{count:,} rows', ''], [list(each) for each in figures.items()])}\n\n"
        f"The model was trained on {sum(1 for _ in read_table(known).items()):,} rows for {seconds / 60:.0f} minutes, "
        f"{steps:,} steps."
    )
