"""The jobs of `bench.jobs`: what they measure, with small inputs."""

from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.jobs.command import knock, table
from bench.jobs.rows import check
from bench.jobs.table import HEADER, write_table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def customers(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    write_table(path, 300)
    return path


def test_rows_that_the_generator_made_pass(customers: Path) -> None:
    result = check(customers, customers)
    assert (result.has_header, result.rows, result.whole, result.valid, result.different) == (True, 300, 300, 300, 300)
    assert not result.wrong


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("id", "C-12345"),
        ("country", "XX"),
        ("city", ""),
        ("born", "30.02.1980"),
        ("born", "1.2.1980"),
        ("updated", "2022-08-29 13:07:32"),
        ("orders", "-1"),
        ("orders", "07"),
        ("spent", "12.5"),
        ("active", "yes"),
        ("phone", "none"),
    ],
)
def test_wrong_fields_are_found(customers: Path, name: str, wrong: str) -> None:
    with customers.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    rows[5][HEADER.index(name)] = wrong
    made = customers.with_name("made.csv")
    with made.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*rows, rows[1][:-1], rows[2]])
    result = check(made, customers)
    assert (result.rows, result.whole, result.valid, result.different) == (302, 301, 300, 301)
    assert result.wrong == {name: 1}


def test_commands_that_fail_end_the_job() -> None:
    assert knock("--version").seconds > 0
    with pytest.raises(SystemExit, match=r"knock info nowhere failed with exit code 1:\n.*nowhere"):
        knock("info", "nowhere")


def test_table() -> None:
    assert table(["what", "n"], [["a", "1"]]) == "| what | n |\n| --- | ---: |\n| a | 1 |"


def test_missing_package_is_one_line() -> None:
    code = "import runpy, sys; sys.modules['rdkit'] = None; runpy.run_module('bench.jobs', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: rdkit is not installed; in a clone of knock, run: pip install -e '.[test,bench]'\n"


def test_ppmd_learns_from_the_lines_before() -> None:
    pytest.importorskip("pyppmd")
    from bench.jobs.names import ppmd_bits

    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice(list("abcdefgh"), 8)) for _ in range(4000)]
    assert 3 * 8 / 9 < ppmd_bits(lines[:3600], lines[3600:]) < 3.5  # 3 bits for a letter, none for an end
    assert ppmd_bits(lines, lines[:400]) < 2.5


def test_report_of_names(tmp_path: Path) -> None:
    pytest.importorskip("pyppmd")
    pytest.importorskip("torch")
    import knock_training
    from bench.jobs import names

    rng = np.random.default_rng(0)
    corpus = tmp_path / "words.txt"
    corpus.write_text("\n".join("".join(rng.choice(list("aeiou"), 5)) for _ in range(400)), encoding="utf-8")
    model = tmp_path / "words.safetensors"
    knock_training.train(corpus, items="lines", steps=10, T=8, n_emb=8, nodes=8, n_heads=2, threads=1, out=model)
    report = names.report(str(model), corpus, 20)
    assert "| PPMd, order 5 | " in report
    assert "--unique --novel words.txt" in report
    assert "kept 20" in report


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A file like that of the package molsets."""
    import gzip

    path = tmp_path / "molsets.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("moses/dataset/data/train.csv.gz", gzip.compress(b"SMILES\nCCO\nc1ccccc1\n"))
        archive.writestr("moses/metrics/mcf.csv", "names,smarts\nMCF1,[#6]#[#7]\n")
        archive.writestr("moses/metrics/wehi_pains.csv", '"[#16]-[#1]" ,"<regId=a>"\n')
    return path


@pytest.fixture
def measure(wheel: Path) -> Callable[[list[str]], tuple[float, ...]]:
    pytest.importorskip("rdkit")
    from bench.jobs import molecules

    train, filters = set(molecules.smiles(wheel, "train")), molecules.medicinal_filters(wheel)
    return lambda given: molecules.measure(given, train, filters)


def test_metrics_of_molecules(measure: Callable[[list[str]], tuple[float, ...]]) -> None:
    given = ["OCC", "CCO", "CCC", "CC(", "", "c1ccccc1", "C1CC", "CCN"]  # 5 of 8 are valid, 4 of those differ
    assert measure(given) == (5 / 8, 4 / 5, 2 / 4, 1.0)


@pytest.mark.parametrize("bad", ["CC#N", "CCS", "C[O-]", "CC[Si]", "C1CCCCCCC1"])
def test_filters_of_molecules(measure: Callable[[list[str]], tuple[float, ...]], bad: str) -> None:
    assert measure(["CCO", bad, "CCC", "CSC"])[3] == 3 / 4
    assert measure([bad])[3] == 0
