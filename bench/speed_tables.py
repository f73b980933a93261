"""Tables of speed: knock in every precision against its peers, against the machine's limits, and in batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

from bench import bench_limits as limits
from bench.bench_batch import MANY, SHORT, SIZES
from bench.bench_first_block import LENGTH as COUNTS
from bench.bench_first_block import TABLES
from bench.bench_generate import LARGE, key
from bench.bench_peers import SMALL_LENGTH
from bench.limits import multiply_adds
from bench.peers import PEERS
from bench.results import Run, measured
from knock.choices import DEFAULT_PRECISION, PRECISIONS
from tests.cases import EXAMPLE

# What knock is compared with its peers in, and the benchmark that takes turns between them.
ONE, TWO_CORES = "one text", "256 texts, two cores"
BATCHES = {1: ONE, 8: "8 texts", 256: "256 texts"}
COLUMNS = {name: f"bench_peers[{batch}]" for batch, name in BATCHES.items()} | {TWO_CORES: "bench_pairs"}


def fastest_peer(rates: Mapping[str, float]) -> str | None:
    """The peer with the highest rate; None if none was measured."""
    return max((name for name in rates if name in PEERS), key=lambda name: rates[name], default=None)


def peer_table(run: Run) -> str:
    """knock in every precision and the fastest peer, which the factors in brackets compare it with."""
    columns = {column: run.rates(name) for column, name in COLUMNS.items()}
    lines = [*_head("tokens/s", columns), *_knock_rows(columns.values())]
    peers = [(rates, fastest_peer(rates)) for rates in columns.values()]
    if all(peer for _, peer in peers):
        cells = [f"{rates[peer]:,.0f}, {peer}" for rates, peer in peers if peer]
        lines.append(_row("the fastest peer", cells))
    return "\n".join([*lines, "", measured(run)])


def framework_table(run: Run) -> str:
    """Every peer, and how many times as fast knock is in its default precision."""
    columns = {column: run.rates(name) for column, name in COLUMNS.items()}
    knock = key("knock", DEFAULT_PRECISION)
    lines = [*_head("tokens/s", columns), _row(knock, (f"{rates[knock]:,.0f}" for rates in columns.values()))]
    names = [name for name in PEERS if all(name in rates for rates in columns.values())]
    for name in sorted(names, key=lambda name: -columns[ONE][name]):
        cells = [f"{rates[name]:,.0f} ({rates[knock] / rates[name]:.1f}x)" for rates in columns.values()]
        lines.append(_row(name, cells))
    return "\n".join([*lines, "", measured(run)])


def small_table(run: Run) -> str:
    """The tiny shape, against a peer."""
    columns = {f"{batch} text{'s' * (batch > 1)}": run.rates(f"bench_small[{batch}]") for batch in SMALL_LENGTH}
    lines = [*_head("tokens/s", columns), *_knock_rows(columns.values())]
    peers = [name for name in PEERS if all(name in rates for rates in columns.values())]
    lines += [_row(name, (f"{rates[name]:,.0f}" for rates in columns.values())) for name in peers]
    return "\n".join([*lines, "", measured(run)])


def set_table(run: Run) -> str:
    """Builds for AVX-512 and for AVX2 on one machine."""
    names = {f"bench_sets[{batch}]": column for batch, column in BATCHES.items()}
    if not all(name in run for name in names):
        return f"Not measured: this machine has no AVX-512.\n{measured(run)}"
    columns = [run.rates(name) for name in names]
    lines = _head("tokens/s", names.values())
    for part in columns[0]:
        instructions, _, name = part.partition(": ")
        lines.append(_row(f"{name}, {instructions}", (f"{rates[part]:,.0f}" for rates in columns)))
    return "\n".join([*lines, "", measured(run)])


def first_block_table(run: Run) -> str:
    """A first block of window 2 with its tables, and how many times as fast that is as without."""
    columns = {f"{count} text{'s' * (count > 1)}": run.rates(f"bench_first_block[{count}]") for count in COUNTS}
    lines = _head("tokens/s", columns)
    for precision, table in itertools.product(PRECISIONS, TABLES):
        name = key(table, precision)
        cells = [
            f"{rates[name]:,.0f} ({rates[name] / rates[key('none', precision)]:.2f}x)" for rates in columns.values()
        ]
        lines.append(_row(f"{precision}, {TABLES[table]}", cells))
    return "\n".join([*lines, "", measured(run)])


def speed_table(run: Run) -> str:
    """Generation and scoring in every precision, against the machine's limits in the same turns."""
    medians, bests = run.medians("bench_limits"), run.bests("bench_limits")
    products, reading = "multiply-adds", "reading weights and cache"
    # For each row: its name, the name of its limit, and what that limit is in one precision, in seconds per token.
    rows: list[tuple[str, str, str, Callable[[str], float] | None]] = [
        (limits.ONE, limits.ONE, reading, lambda p: bests[key(limits.WEIGHTS, p)]),
        (limits.EIGHT, limits.EIGHT, products, lambda p: bests[key(limits.PEAK, p)] * multiply_adds(EXAMPLE)),
        (limits.MANY, limits.MANY, products, lambda p: bests[key(limits.PEAK, p)] * multiply_adds(EXAMPLE)),
        (limits.SLIDING, limits.SLIDING, "", None),
        (limits.NUMPY, limits.NUMPY, "", None),
        (f"logits of {limits.POSITIONS:,} positions", limits.LOGITS, products,
         lambda p: bests[key(limits.PEAK, p)] * multiply_adds(EXAMPLE)),
        ("one text, 13 million parameters", limits.LARGE_ONE, reading, lambda p: bests[key(limits.LARGE_WEIGHTS, p)]),
        (f"logits of {limits.POSITIONS:,} positions, 13 million parameters", limits.LARGE_LOGITS, products,
         lambda p: bests[key(limits.PEAK, p)] * multiply_adds(LARGE)),
    ]  # fmt: skip
    lines = ["| tokens/s | " + " | ".join(PRECISIONS) + " | limit |", "|---" + "|---:" * len(PRECISIONS) + "|---|"]
    for title, what, limit, least in rows:
        cells = []
        for precision in PRECISIONS:
            name = key(what, precision)
            share = f" ({least(precision) / bests[name]:.0%})" if least else ""
            cells.append(f"{1 / medians[name]:,.0f}{share}")
        lines.append(_row(title, [*cells, limit]))
    bound = {precision: 1e-9 / bests[key(limits.PEAK, precision)] for precision in PRECISIONS}
    blas = run.results["bench_limits"]["extra_info"]["blas"]
    peaks = ", ".join(f"{each:.0f} in {precision}" for precision, each in bound.items())
    memory = ", ".join(f"{1e-9 / bests[f'{limits.MEMORY}{place}']:.0f} from {place}" for place in limits.MEGABYTES)
    notes = (
        f"Percentages are shares of the limit, both in their fastest rounds. The limits are measured in "
        f"the same turns. Billions of multiply-adds a second on one core: {peaks}; float32 is the matrix product of "
        f"{blas}, integers are multiplied in registers. GB/s read by one core: {memory}; the limit of one text is "
        f"reading as many bytes as its weights and its cache have. The first block's projection is a table, and is "
        f"not counted. NumPy has a cache of keys and values, too; without it, as such a model is often written, "
        f"it generates {run.rate('bench_recompute'):.0f} tokens/s."
    )
    return "\n".join([*lines, "", notes, measured(run)])


def batch_table(run: Run) -> str:
    """Prompts in, texts out: by number of texts and of threads, variants of one size, and the command."""
    lines = _head("characters/s", (f"{rows:,} text{'s' * (rows > 1)}" for rows in SIZES))
    for threads in (1, 2):
        columns = [run.rates(f"bench_batch[{rows}-{threads}]") for rows in SIZES]
        for precision in PRECISIONS:
            name = f"{precision}, {threads} thread{'s' * (threads > 1)}"
            lines.append(_row(name, (f"{rates[precision]:,.0f}" for rates in columns)))
    variants = {
        "16 to 512 characters": "bench_batch_ragged",
        "32 characters": "bench_batch_length[32]",
        "4,096 characters": "bench_batch_length[4096]",
        "different prompts of 64 characters": "bench_batch_prompts",
        "a stop string": "bench_batch_stop",
        "the kernels alone": "bench_batch_kernels[2]",
    }
    others = ", ".join(f"{what} {run.rate(name):,.0f}" for what, name in variants.items())
    command = run.results["bench_command"]
    seconds, size, memory = (
        command["stats"]["median"], command["extra_info"]["size"], command["extra_info"]["memory"]
    )  # fmt: skip
    what = f"knock sample ROMEO: --model shakespeare-hybrid --count {MANY} --length {SHORT} --out texts.jsonl"
    whole = (
        f"`{what}` took {seconds:.0f} s from start to exit, {run.rate('bench_command'):,.0f} characters/s; it wrote "
        f"{size / 1e6:.0f} MB, {size / seconds / 1e6:.1f} MB/s, and had {memory / 1e6:.0f} MB of memory at most."
    )
    others = f"In {DEFAULT_PRECISION}, 65,536 characters on two threads, with: {others}."
    return "\n".join([*lines, "", others, "", whole, measured(run)])


def _knock_rows(columns: Iterable[Mapping[str, float]]) -> list[str]:
    """A row for each precision, with the factors over the fastest peer."""
    rows = []
    for name in (key("knock", precision) for precision in PRECISIONS):
        cells = []
        for rates in columns:
            peer = fastest_peer(rates)
            factor = f" ({rates[name] / rates[peer]:.1f}x)" if peer else ""
            cells.append(f"{rates[name]:,.0f}{factor}")
        rows.append(_row(name, cells))
    return rows


def _head(first: str, columns: Iterable[str]) -> list[str]:
    """The first two lines of a table."""
    names = list(columns)
    return [_row(first, names), "|---" + "|---:" * len(names) + "|"]


def _row(name: str, cells: Iterable[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"
