"""The report's tables, from a made-up run."""

from __future__ import annotations

import re

import pytest

from bench.bench_kinds import SIZES
from bench.kinds import kinds_table
from bench.limits import cache_bytes, flops, weight_bytes
from bench.report import README, Run, batch_table, fill, peer_table, speed_table, start_table
from knock import ModelConfig
from tests.cases import EXAMPLE


class Made(dict[str, dict[str, object]]):
    """A run in which every benchmark that is looked up took a second."""

    def __missing__(self, name: str) -> dict[str, object]:
        return {"extra_info": {"count": 10.0, "unit": "tokens", "size": 3e7, "memory": 2e6}, "stats": {"median": 1.0}}


@pytest.fixture
def run() -> Run:
    machine = {"cpu": {"count": 2}, "machine": "a machine", "python_version": "3.11.7"}
    run = Run({"benchmarks": [], "machine_info": machine})
    run.results = Made()
    return run


def test_limits_count_every_product() -> None:
    config = ModelConfig(vocab_size=7, T=5, n_emb=6, nodes=4, n_blocks=2, n_heads=3, position="relative")
    matrices = 2 * (3 * 6 * 6 + 6 * 15 + 2 * 6 * 4) + 6 * 7
    assert weight_bytes(config) == 4 * matrices
    assert flops(config) == 2 * matrices + 2 * (2 * 2 * 6 * 5)
    assert cache_bytes(config) == 4 * 2 * 2 * 5 * 6


def test_speed_table_has_ratios_and_shares(run: Run) -> None:
    run.results["bench_generate[compiled-relative]"] = {
        "extra_info": {"count": 500, "unit": "tokens"},
        "stats": {"median": 2.0},
    }
    run.results["bench_stream[L2]"] = {
        "extra_info": {"count": 1000 * weight_bytes(EXAMPLE) / 1e9, "unit": "GB"},
        "stats": {"median": 1.0},
    }
    table = speed_table(run)
    assert "| one text | 250 | 25x | 25%, weights from L2 |" in table
    assert "a machine, 2 cores, Python 3.11.7" in table


def test_peers_that_are_missing_are_left_out(run: Run) -> None:
    for name, rate in (("peer[JAX-1]", 5), ("peer[JAX-8]", 2), ("peer[JAX-256]", 1), ("pair[JAX]", 4)):
        run.results[f"bench_{name}"] = {
            "extra_info": {"count": rate, "unit": "tokens"},
            "stats": {"median": 1.0},
        }
    table = peer_table(run)
    assert "| JAX | 5 (2.0x) | 2 (5.0x) | 1 (10.0x) | 4 (2.5x) |" in table
    assert "torch" not in table


def test_a_part_is_replaced_and_must_be_there() -> None:
    readme = "a\n<!-- x -->\nold\n<!-- end x -->\nb\n"
    assert fill(readme, "x", "new") == "a\n<!-- x -->\nnew\n<!-- end x -->\nb\n"
    with pytest.raises(SystemExit, match="must have one part"):
        fill(readme, "y", "new")


def test_kinds_are_told_as_they_were_measured() -> None:
    class Microseconds(dict[str, float]):
        def __missing__(self, name: str) -> float:
            return 1e-6

    cell = r"(\d\.\d{4})\*{0,2} ± (\d\.\d{4}), ([0-9.]+)"
    made = re.findall(cell, kinds_table({f"bench_kinds[{size}]": Microseconds() for size in SIZES}))
    readme = README.read_text(encoding="utf-8")
    told = re.findall(cell, readme[readme.index("<!-- kinds -->") : readme.index("<!-- end kinds -->")])
    assert len(made) == 6 * 4
    assert {microseconds for *_, microseconds in made} == {"1.00"}
    assert [losses for *losses, _ in told] == [losses for *losses, _ in made]


def test_start_is_told_as_times_and_against_numpy(run: Run) -> None:
    names = ("generate", "help", "import knock", "import numpy", "import numba", "pass")
    for name, medians in {
        "processes": {each: 0.1 * (i + 1) for i, each in enumerate(names)}
        | {"stage: Python": 0.012, "stage: NumPy": 0.05},
        "first_run": {"first text": 0.2, "all text": 0.6, "exit": 0.8},
    }.items():
        run.results[f"bench_{name}"] = {"extra_info": {"medians": medians}}
    table = start_table(run)
    assert '| `knock generate "ROMEO:"`, 300 characters | 100 ms | 0.25x |' in table
    assert "| the first run ever: all 300 characters, and exit | 800 ms | 2.00x |" in table
    assert "Python 12 ms, NumPy 50 ms." in table


def test_batch_table_has_every_size(run: Run) -> None:
    run.results["bench_batch[64-2]"] = {"extra_info": {"count": 3000}, "stats": {"median": 2.0}}
    table = batch_table(run)
    assert "| 2 threads, characters/s | 10 | 10 | 1,500 | 10 | 10 | 10 |" in table
    assert "a stop string 10," in table
