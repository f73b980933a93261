"""The report: its tables from a made-up run, and where it writes them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.bench_generate import key
from bench.bench_kinds import SIZES
from bench.bench_limits import (
    EIGHT,
    LARGE_LOGITS,
    LARGE_ONE,
    LARGE_WEIGHTS,
    LOGITS,
    MANY,
    MEGABYTES,
    MEMORY,
    NUMPY,
    ONE,
    PEAK,
    SLIDING,
    WEIGHTS,
)
from bench.kinds import kinds_table
from bench.limits import bytes_read, multiply_adds
from bench.report import BLOCKS, ROOT, fill, highlights, read_pages, start_table
from bench.results import Run
from bench.speed_tables import (
    batch_table,
    first_block_table,
    framework_table,
    peer_table,
    set_table,
    small_table,
    speed_table,
)
from knock import ModelConfig
from knock.choices import DEFAULT_PRECISION, PRECISIONS

PEER_BENCHMARKS = ("bench_peers[1]", "bench_peers[8]", "bench_peers[256]", "bench_pairs")
ENGINE = (ONE, EIGHT, MANY, SLIDING, NUMPY, LOGITS, LARGE_ONE, LARGE_LOGITS)
KNOCK = {key("knock", precision): 0.1 for precision in PRECISIONS}
DEFAULT = key("knock", DEFAULT_PRECISION)
LIMITS = {key(what, precision): 0.1 for what in ENGINE for precision in PRECISIONS}
LIMITS |= {key(what, precision): 1e-9 for what in (PEAK, WEIGHTS, LARGE_WEIGHTS) for precision in PRECISIONS}
LIMITS |= {f"{MEMORY}{place}": 1e-9 for place in MEGABYTES}


def made(medians: dict[str, float], **extra: object) -> dict[str, object]:
    """The result of a benchmark, of one that takes turns if it has medians."""
    information = {"count": 10.0, "unit": "tokens", "size": 3e7, "memory": 2e6, "medians": medians, "bests": medians}
    return {"extra_info": information | extra, "stats": {"median": 1.0}}


class Made(dict[str, dict[str, object]]):
    """A run in which everything took a tenth of a second, and benchmarks without turns one second."""

    def __missing__(self, name: str) -> dict[str, object]:
        if name == "bench_limits":
            return made(LIMITS, blas="a library")
        return made(dict.fromkeys(PRECISIONS, 0.1) if name.startswith("bench_batch[") else KNOCK)


@pytest.fixture
def run() -> Run:
    machine = {"cpu": {"count": 2}, "machine": "a machine", "python_version": "3.11.7"}
    run = Run({"benchmarks": [], "machine_info": machine})
    run.results = Made()
    return run


def test_limits_count_every_product_but_that_of_the_first_block() -> None:
    config = ModelConfig(vocab_size=7, T=5, n_emb=6, nodes=4, n_blocks=2, n_heads=3, position="relative")
    inputs, mlp, output, cached = 3 * 6 * 6 + 6 * 15, 2 * 6 * 4, 6 * 7, 2 * 5 * 6
    numbers = inputs + 2 * mlp + output + 2 * cached
    assert multiply_adds(config) == numbers
    assert multiply_adds(replace(config, position="absolute")) == numbers + inputs
    assert {precision: bytes_read(config, precision) for precision in ("int8", "int16", "float32")} == {
        "int8": numbers + 2 * cached, "int16": 2 * numbers, "float32": 4 * numbers,
    }  # fmt: skip


def test_limits_count_every_block_on_its_own() -> None:
    config = ModelConfig(
        vocab_size=7, T=(2, 5, 9), n_emb=6, nodes=4, n_blocks=3, n_heads=3,
        head_type=("reweight", "hybrid", "content"), reweight_T=(2, 4, 0), position="relative",
    )  # fmt: skip
    inputs = (3 * 6 * 6 + 6 * 3 * 4) + 3 * 6 * 6
    matrices = inputs + 3 * 2 * 6 * 4 + 6 * 7
    cached = 6 * (2 + 2 * 5 + 2 * 9)
    assert multiply_adds(config) == matrices + cached
    assert bytes_read(config, "float32") == 4 * (matrices + cached)


def test_speed_table_has_a_column_for_each_precision_and_shares(run: Run) -> None:
    times = {key(ONE, "int16"): 0.004, key(WEIGHTS, "int16"): 0.001, key(PEAK, "float32"): 1e-11}
    run.results["bench_limits"] = made(LIMITS | times, blas="a library")
    table = speed_table(run)
    columns = table.splitlines()[0].strip("| ").split(" | ")
    assert columns == ["tokens/s", *PRECISIONS, "limit"]
    row = dict(zip(columns, table.splitlines()[2].strip("| ").split(" | "), strict=True))
    assert row["tokens/s"] == ONE
    assert row["int16"] == "250 (25%)"
    assert "100 in float32; float32 is the matrix product of a library" in table
    assert "a machine, 2 cores, Python 3.11.7" in table


def measure(run: Run, name: str, **seconds: float) -> None:
    """Add peers to a benchmark, with their time for a token."""
    run.results[name] = made(KNOCK | {peer.replace("_", " "): each for peer, each in seconds.items()})


def test_peer_table_compares_with_the_fastest_of_each_column(run: Run) -> None:
    for name in PEER_BENCHMARKS:
        measure(run, name, JAX=0.2, torch_eager=0.5)
    measure(run, PEER_BENCHMARKS[1], JAX=0.4, torch_eager=0.25)
    table = peer_table(run)
    assert f"| {DEFAULT} | 10 (2.0x) | 10 (2.5x) | 10 (2.0x) | 10 (2.0x) |" in table
    assert "| the fastest peer | 5, JAX | 4, torch eager | 5, JAX | 5, JAX |" in table


def test_peers_that_are_missing_are_left_out(run: Run) -> None:
    assert "peer" not in peer_table(run)
    assert f"| {DEFAULT} | 10 | 10 | 10 | 10 |" in peer_table(run)
    for name, seconds in zip(PEER_BENCHMARKS, (0.2, 0.5, 1, 0.25), strict=True):
        measure(run, name, JAX=seconds)
    table = framework_table(run)
    assert "| JAX | 5 (2.0x) | 2 (5.0x) | 1 (10.0x) | 4 (2.5x) |" in table
    assert "torch" not in table


def test_small_table_has_every_precision_and_the_peer(run: Run) -> None:
    assert "JAX" not in small_table(run)
    for name in ("bench_small[1]", "bench_small[256]"):
        measure(run, name, JAX=0.3)
    table = small_table(run)
    assert all(f"| {name} | 10 (3.0x) | 10 (3.0x) |" in table for name in KNOCK)
    assert "| JAX | 3 | 3 |" in table


def test_first_block_table_compares_with_no_table(run: Run) -> None:
    for count in (1, 256):
        run.results[f"bench_first_block[{count}]"] = made(
            {
                key(table, precision): 0.1 * seconds
                for precision in PRECISIONS
                for table, seconds in (("none", 1), ("tokens", 0.8), ("pairs", 0.5))
            }
        )
    table = first_block_table(run)
    for precision in PRECISIONS:
        assert f"| {precision}, table of pairs | 20 (2.00x) | 20 (2.00x) |" in table


def test_set_table_has_a_row_for_each_build(run: Run) -> None:
    assert set_table(run).startswith("Not measured: this machine has no AVX-512.")
    for batch in (1, 8, 256):
        run.results[f"bench_sets[{batch}]"] = made({"AVX-512: JAX": 0.1, "AVX2: JAX": 1 / batch})
    table = set_table(run)
    assert "| JAX, AVX-512 | 10 | 10 | 10 |" in table
    assert "| JAX, AVX2 | 1 | 8 | 256 |" in table


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
    for name in PEER_BENCHMARKS:
        run.results[name] = made(KNOCK | {peer: 1 / rate for peer, rate in peers.items()})
    assert highlights(run) == HIGHLIGHTS.format(one=one, many=many)


def test_highlights_in_the_readme_have_the_figures_of_its_tables(run: Run) -> None:
    """The bullets, read back: each figure is in a table of the same run, and the words are those of the report."""
    pages = "".join(read_pages().values())
    bullets = block(pages, "highlights")
    run.results["bench_processes"] = {"extra_info": {"medians": {"generate": 0.1}}}
    run.results["bench_first_run"] = {"extra_info": {"medians": {"exit": 0.8}}}
    for name in PEER_BENCHMARKS:
        measure(run, name, JAX=0.2)

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


def test_batch_table_has_every_size_and_precision(run: Run) -> None:
    run.results["bench_batch[64-2]"] = made(dict.fromkeys(PRECISIONS, 1 / 1500))
    table = batch_table(run)
    for precision in PRECISIONS:
        assert f"| {precision}, 2 threads | 10 | 10 | 1,500 | 10 | 10 |" in table
    assert "a stop string 10," in table
