"""Tests of sampling on a local Ray cluster of two workers: the rows equal those of one process."""

from __future__ import annotations

import decimal
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knock import Generation, LanguageModel, ModelConfig, Prompt, Sampling, Vocab, load
from knock.choices import PRECISIONS
from knock.distributed import sample_dataset
from knock.errors import KnockError, PromptError, SamplingError, VocabError
from knock.files.checkpoint import write_checkpoint
from knock.jobs.row_file import RowFile
from knock.jobs.rows import row_of
from knock.weights import Weights
from tests.cli.test_main import run

# Ray itself warns of unclosed sockets and deprecated interfaces.
pytestmark = pytest.mark.filterwarnings("ignore")

PROMPTS = [("ROMEO:", "", "JULIET:\n", "O")[i % 4] for i in range(300)]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", exc_type=ImportError)
    pytest.importorskip("ray.data")

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # or Ray warns about its default
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray").propagate = False  # Ray prints its own messages
    yield ray
    ray.shutdown()


def rows(dataset: Any) -> list[dict[str, Any]]:
    return sorted(dataset.take_all(), key=lambda row: row["index"])


def expected(texts: list[Generation]) -> list[dict[str, Any]]:
    names = ("index", "prompt", "text", "finish_reason", "stop_string", "seed", "error")
    return [{name: getattr(text, name) for name in names} for text in texts]


@pytest.mark.parametrize(("blocks", "batch_size", "workers"), [(1, 1024, 1), (7, 13, 2), (2, 100, None)])
def test_rows_equal_those_of_one_process(
    ray: Any, shakespeare: LanguageModel, blocks: int, batch_size: int, workers: int | None
) -> None:
    dataset = ray.data.from_items([{"prompt": prompt} for prompt in PROMPTS], override_num_blocks=blocks)
    options = {"sampling": "top_p", "seed": 9, "n": 2, "max_new_tokens": 15, "stop": "e"}
    made = rows(sample_dataset(dataset, shakespeare, **options, batch_size=batch_size, workers=workers))
    assert made == expected(shakespeare.generate_batch(PROMPTS, **options))


def test_rows_depend_on_their_index_only(ray: Any, shakespeare: LanguageModel) -> None:
    """Reversing the dataset and dropping half of it changes no other row."""
    items = [{"index": i, "prompt": prompt} for i, prompt in enumerate(PROMPTS)][::-2]
    made = rows(sample_dataset(ray.data.from_items(items), "shakespeare-hybrid", seed=9, n=3, max_new_tokens=5))
    whole = expected(shakespeare.generate_batch(PROMPTS, n=3, seed=9, max_new_tokens=5))
    assert made == [row for row in whole if row["index"] // 3 % 2]


def test_columns_of_controls(ray: Any, shakespeare: LanguageModel) -> None:
    """A null selects the default, and an invalid row becomes an error row."""
    items: list[dict[str, Any]] = [
        {"prompt": "A", "temperature": 0.0},
        {"prompt": "A", "sampling": "top_k", "top_k": 2, "stop": ["e", " "]},
        {"prompt": "é"},
        {"prompt": None, "max_new_tokens": 7},
        {"prompt": "A", "temperature": -1.0},
        {"prompt": "A"},
    ]
    names = {name for item in items for name in item}
    dataset = ray.data.from_items([{name: item.get(name) for name in names} for item in items])
    prompts = [
        Prompt("A", sampling=Sampling(top_p=0.5, temperature=0)),
        Prompt("A", sampling=Sampling(top_k=2), stop=["e", " "]),
        Prompt("é"),
        Prompt("", max_new_tokens=7),
        Prompt("A", sampling="wrong"),
        Prompt("A"),
    ]
    default = Sampling(top_p=0.5)
    made = rows(sample_dataset(dataset, shakespeare, default, seed=1, max_new_tokens=20))
    right = expected(shakespeare.generate_batch(prompts, default, seed=1, max_new_tokens=20, keep_errors=True))
    assert made[4]["error"].startswith("temperature must be 0 (greedy) or ")
    right[4]["error"] = made[4]["error"]  # that of "wrong" is another
    assert made == right


def test_other_columns_are_carried_with_their_types(ray: Any, shakespeare: LanguageModel) -> None:
    import pyarrow as pa

    table = pa.table({
        "id": pa.array([7, None, 9], pa.uint8()),
        "prompt": ["A", "é", "B"],
        "price": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("2.00")]),
        "nested": pa.array([{"a": [1, None]}, None, {"a": None}]),
        "scores": pa.array([[("a", 1.0)], None, []], pa.map_(pa.string(), pa.float32())),
        "temperature": [0.5, None, None],
    })  # fmt: skip
    texts = sample_dataset(ray.data.from_arrow([table]), shakespeare, n=2, max_new_tokens=5)
    made = pa.concat_tables(texts.iter_batches(batch_size=None, batch_format="pyarrow")).sort_by("index")
    for name in ("id", "price", "nested", "scores"):
        assert made.schema.field(name).type == table.schema.field(name).type
        assert made.column(name).to_pylist() == table.column(name).take([0, 0, 1, 1, 2, 2]).to_pylist()
    assert len(set(made.column("seed").to_pylist())) == 1
    assert "temperature" not in made.column_names


def test_workers_have_the_precision_of_the_model(ray: Any) -> None:
    dataset = ray.data.from_items([{"prompt": prompt} for prompt in PROMPTS[:8]])
    found = {}
    for precision in PRECISIONS:
        model = load("shakespeare-hybrid", backend="compiled", precision=precision)
        made = rows(sample_dataset(dataset, model, seed=9, max_new_tokens=15, log_probs=True))
        texts = model.generate_batch(PROMPTS[:8], seed=9, max_new_tokens=15, token_stats=True)
        found[precision] = [list(row["log_probs"]) for row in made]
        assert found[precision] == [row_of(text, log_probs=True)["log_probs"] for text in texts]
    assert len({str(each) for each in found.values()}) == len(PRECISIONS)


def test_statistics_per_character(ray: Any, shakespeare: LanguageModel) -> None:
    dataset = ray.data.from_items([{"prompt": "A"}, {"prompt": "é"}])
    made = rows(sample_dataset(dataset, shakespeare, seed=0, max_new_tokens=9, log_probs=True, entropies=True))
    (text,) = shakespeare.generate_batch(["A"], seed=0, max_new_tokens=9, token_stats=True)
    assert text.token_stats is not None
    assert made[0]["log_probs"] == pytest.approx(text.token_stats.log_probs, abs=1e-6)
    assert made[0]["entropies"] == pytest.approx(text.token_stats.entropy, abs=1e-6)
    assert list(made[1]["log_probs"]) == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_worker_killed_during_the_run(ray: Any, shakespeare: LanguageModel) -> None:
    count = 3000
    dataset = ray.data.from_items([{"prompt": "ROMEO:"}] * count, override_num_blocks=60)
    texts = sample_dataset(dataset, shakespeare, seed=4, max_new_tokens=200, batch_size=50, workers=2)
    made: list[dict[str, Any]] = []
    killed: list[int] = []
    for batch in texts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        made += batch.to_pylist()
        if not killed and len(workers()) == 2:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)
            assert len(made) < count / 2
    assert killed
    assert killed[0] not in workers()
    made.sort(key=lambda row: row["index"])
    assert made == expected(shakespeare.generate_batch(["ROMEO:"], n=count, seed=4, max_new_tokens=200))


def workers() -> list[int]:
    """Return the process ids of Ray's workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:  # the process has ended
            continue
        if name.startswith(b"ray::MapWorker"):
            found.append(int(folder.name))
    return found


def test_invalid_arguments_are_rejected_immediately(ray: Any, shakespeare: LanguageModel) -> None:
    dataset = ray.data.from_items([{"prompt": "A", "promt": "B"}])
    with pytest.raises(PromptError, match=r"unknown column 'promt'; did you mean prompt\?"):
        sample_dataset(dataset, shakespeare)
    dataset = ray.data.from_items([{"prompt": "A", "text": "B"}])
    with pytest.raises(PromptError, match="column 'text' is one that knock writes into the rows"):
        sample_dataset(dataset, shakespeare)
    dataset = ray.data.from_items([{"prompt": "A"}])
    with pytest.raises(PromptError, match="expected a Ray dataset"):
        sample_dataset(["A"], shakespeare)
    with pytest.raises(VocabError, match="unknown must be"):
        sample_dataset(dataset, shakespeare, unknown="x")
    for wrong in (
        {"n": 0},
        {"batch_size": 0},
        {"workers": 0},
        {"workers": "2"},
        {"sampling": "nucleus"},
        {"max_new_tokens": -1},
        {"seed": -1},
    ):
        with pytest.raises(SamplingError):
            sample_dataset(dataset, shakespeare, **wrong)


@pytest.mark.parametrize("index", [None, "x", 1.5, -1])
def test_invalid_index_is_rejected(ray: Any, shakespeare: LanguageModel, index: Any) -> None:
    dataset = ray.data.from_items([{"prompt": "A", "index": index}])
    with pytest.raises(ray.exceptions.RayTaskError, match="PromptError: index must be a whole number from 0"):
        sample_dataset(dataset, shakespeare, max_new_tokens=2).take_all()


def test_failure_on_the_cluster_is_reported_in_one_line(
    ray: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = Weights.random(ModelConfig(vocab_size=2, T=4, n_emb=4, nodes=4, n_blocks=1, n_heads=1))
    arrays = {name: np.full_like(array, 0.5 if "gate" in name else 3e38) for name, array in broken.items()}
    write_checkpoint(tmp_path / "m.safetensors", Weights(broken.config, arrays), Vocab("AB"))
    arguments = ["sample", "A", "--model", str(tmp_path / "m.safetensors"), "--engine", "ray", "--backend", "compiled"]
    code, said, err = run(capsys, *arguments)
    assert (code, said) == (1, "")
    assert "knock: error: Ray failed: knock.errors.GenerationError: the model's logits at step 0 are not finite" in err


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.parquet"])
def test_command(ray: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    """It writes the same bytes as the local engine, error rows included."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    items = [
        {"id": i, "prompt": prompt, "temperature": (None, 0.5)[i % 2], "tags": [{"a": i}, None][: i % 3]}
        for i, prompt in enumerate([*PROMPTS, "é", "A"])
    ]
    prompts = tmp_path / name
    if name.endswith("jsonl"):
        prompts.write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(items), prompts)
    common = ["sample", "--prompts", str(prompts), "--count", "2", "--length", "9", "--seed", "3", "--log-probs",
              "--stop", "e"]  # fmt: skip
    for form in ("jsonl", "parquet"):
        written = []
        for engine in ("local", "ray"):
            out = tmp_path / f"{engine}.{form}"
            code, _, err = run(capsys, *common, "--engine", engine, "--out", str(out))
            assert code == 1
            assert "row 600: unknown character 'é'" in err
            assert "rows with an error: 2" in err
            written.append(out.read_bytes() if form == "jsonl" else pq.read_table(out))
        assert written[0] == written[1]


def test_filtered_and_constrained_rows_equal_those_of_one_process(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sample", "A", "--count", "120", "--length", "9", "--seed", "3", "--unique", "--stop", "e"]
    arguments += ["--accept", "[ -~]*", "--pattern", "[a-z ]{2,}", "--ban", "th"]
    local = run(capsys, *arguments)
    assert (local[0], " 0 repeats" in local[2]) == (0, False)
    assert run(capsys, *arguments, "--engine", "ray") == local


def test_run_is_resumable_by_the_other_engine(
    ray: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(RowFile, "finish", lambda self: None)  # as if the run had been killed before the end
    out, whole = tmp_path / "rows.jsonl", tmp_path / "whole.jsonl"
    common = ["sample", "ROMEO:", "--count", "3000", "--length", "9", "--seed", "3", "--out"]
    assert run(capsys, *common, str(whole))[0] == 0
    assert run(capsys, *common, str(out))[0] == 0
    for engine in ("ray", "local"):
        lines = out.with_name("rows.jsonl.run").read_bytes().splitlines(keepends=True)
        out.with_name("rows.jsonl.run").write_bytes(b"".join(lines[:1]))  # as if no write had been recorded
        out.write_bytes(out.read_bytes()[:12_345])
        assert run(capsys, *common, str(out), "--resume", "--engine", engine)[0] == 0
        assert out.read_bytes() == whole.read_bytes()


def test_invalid_line_ends_the_command_after_earlier_rows(
    ray: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prompts, out = tmp_path / "p.jsonl", tmp_path / "rows.jsonl"
    prompts.write_text('{"prompt": "A"}\n{"prompt": "B"}\nno\n', encoding="utf-8")
    code, _, err = run(capsys, "sample", "--prompts", str(prompts), "--engine", "ray", "--out", str(out))
    assert (code, len(out.read_bytes().splitlines())) == (1, 2)
    assert "line 3: not JSON" in err


def test_missing_ray(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shakespeare: LanguageModel
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # makes the import fail
    with pytest.raises(
        KnockError, match=r"needs Ray, which is not installed; in a clone of knock, run: pip install '.\[ray\]'"
    ):
        sample_dataset(None, shakespeare)  # type: ignore[arg-type]
    code, said, err = run(capsys, "sample", "A", "--engine", "ray")
    assert (code, said) == (1, "")
    assert (
        err == "knock: error: sampling on a cluster needs Ray, which is not installed; in a clone of knock, run: "
        "pip install '.[ray]'\n"
    )
