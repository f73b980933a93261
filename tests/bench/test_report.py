"""The report: its tables from a made-up run, and where it writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.bench_kinds import SIZES
from bench.kinds import kinds_table
from bench.limits import cache_bytes, flops, weight_bytes
from bench.report import (
    BLOCKS,
    ROOT,
    Run,
    batch_table,
    fill,
    highlights,
    peer_table,
    read_pages,
    speed_table,
    start_table,
)
from knock import ModelConfig
from tests.cases import EXAMPLE


class Made(dict[str, dict[str, object]]):
    """A run in which every benchmark took one second."""

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


def test_limits_count_every_block_on_its_own() -> None:
    config = ModelConfig(
        vocab_size=7, T=(2, 5, 9), n_emb=6, nodes=4, n_blocks=3, n_heads=3,
        head_type=("reweight", "hybrid", "content"), reweight_T=(2, 4, 0), position="relative",
    )  # fmt: skip
    inputs = (6 * 6 + 6 * 3 * 2) + (3 * 6 * 6 + 6 * 3 * 4) + 3 * 6 * 6
    matrices = inputs + 3 * 2 * 6 * 4 + 6 * 7
    cached = 6 * (2 + 2 * 5 + 2 * 9)
    assert weight_bytes(config) == 4 * matrices
    assert flops(config) == 2 * (matrices + cached)
    assert cache_bytes(config) == 4 * cached


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


HIGHLIGHTS = """\
- **Fast**: 10 tokens/s, each a character, for one text on one core{one}; 10 for 256 texts on two cores{many}.
- **Ready at once**: `knock generate` starts, writes 300 characters and exits in 100 ms; on the first run ever, in \
800 ms, without waiting for compilation.
- **Many texts**: `knock sample` wrote 1,000,000 texts of 64 characters in 1 s, using 2 MB of memory; each row depends \
on no other row.

Measured on a machine, 2 cores, Python 3.11.7."""


@pytest.mark.parametrize(
    ("peers", "one", "many"),
    [
        ({}, "", ""),
        ({"JAX": 5}, ", 2.0 times as fast as JAX", ", 2.0 times as fast as JAX"),
        ({"JAX": 5, "torch eager": 8}, ", 1.2 times as fast as torch eager", ", 1.2 times as fast as torch eager"),
    ],
)
def test_highlights_compare_with_the_fastest_peer(run: Run, peers: dict[str, float], one: str, many: str) -> None:
    run.results["bench_processes"] = {"extra_info": {"medians": {"generate": 0.1}}}
    run.results["bench_first_run"] = {"extra_info": {"medians": {"exit": 0.8}}}
    for name, rate in peers.items():
        for benchmark in (f"peer[{name}-1]", f"peer[{name}-8]", f"peer[{name}-256]", f"pair[{name}]"):
            run.results[f"bench_{benchmark}"] = {"extra_info": {"count": rate}, "stats": {"median": 1.0}}
    assert highlights(run) == HIGHLIGHTS.format(one=one, many=many)


def test_highlights_in_the_readme_have_the_figures_of_its_tables(run: Run) -> None:
    """The bullets, read back: each figure is in a table of the same run, and the words are those of the report."""
    pages = "".join(read_pages().values())
    bullets = block(pages, "highlights")
    run.results["bench_processes"] = {"extra_info": {"medians": {"generate": 0.1}}}
    run.results["bench_first_run"] = {"extra_info": {"medians": {"exit": 0.8}}}
    run.results |= {
        f"bench_{each}": {"extra_info": {"count": 5}, "stats": {"median": 1.0}}
        for each in ("peer[JAX-1]", "peer[JAX-8]", "peer[JAX-256]", "pair[JAX]")
    }

    def words(text: str) -> str:
        return re.sub(r"[\d,.]*\d", "#", text.rpartition("Measured")[0])

    assert words(bullets) == words(highlights(run))
    tables = "".join(block(pages, name) for name in ("peers", "start", "batch"))
    for figure in re.findall(r"[\d,.]+ (?:tokens/s|for 256|ms|times|s,|MB)", bullets):
        number = figure.split()[0]
        assert re.search(rf"(?<![\d,.]){re.escape(number)}(?![\d,.]\d)", tables), figure


def block(text: str, name: str) -> str:
    return text[text.index(f"<!-- {name} -->") : text.index(f"<!-- end {name} -->")].partition("\n")[2]


def test_a_block_is_replaced_in_the_page_that_has_it() -> None:
    one, two = Path("one.md"), Path("two.md")
    pages = {one: "a\n<!-- x -->\nold\n<!-- end x -->\nb\n", two: "<!-- y -->\n<!-- end y -->\n"}
    assert fill(pages, "x", "new") == {**pages, one: "a\n<!-- x -->\nnew\n<!-- end x -->\nb\n"}
    assert fill(pages, "y", "new") == {**pages, two: "<!-- y -->\nnew\n<!-- end y -->\n"}


@pytest.mark.parametrize("twice", [False, True])
def test_a_block_must_be_in_exactly_one_page(twice: bool) -> None:
    text = "<!-- x -->\n<!-- end x -->\n" if twice else "<!-- x -->\n"
    with pytest.raises(SystemExit, match=f"found {int(twice)} in one.md, {int(twice)} in two.md"):
        fill({Path("one.md"): text, Path("two.md"): text}, "x", "new")


def test_pages_have_every_block_once_and_no_other() -> None:
    pages = read_pages()
    assert sorted(re.findall(r"<!-- end (\S+) -->", "".join(pages.values()))) == sorted(BLOCKS)
    for name in BLOCKS:
        fill(pages, name, "")


def test_kinds_table_has_the_losses_of_the_trials() -> None:
    class Microseconds(dict[str, float]):
        def __missing__(self, name: str) -> float:
            return 1e-6

    cell = r"(\d\.\d{4})\*{0,2} ± (\d\.\d{4}), ([0-9.]+)"
    made = re.findall(cell, kinds_table({f"bench_kinds[{size}]": Microseconds() for size in SIZES}))
    page = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
    written = re.findall(cell, block(page, "kinds"))
    assert len(made) == 6 * 4
    assert {microseconds for *_, microseconds in made} == {"1.00"}
    assert [losses for *losses, _ in written] == [losses for *losses, _ in made]


def test_start_table_has_times_and_ratios_to_numpy(run: Run) -> None:
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
