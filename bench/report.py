"""Write the figures of a benchmark run, and of the shipped models, into the documentation; draw the plots.

    pytest bench --benchmark-json=run.json
    python -m bench.report run.json

Each block of a page between `<!-- NAME -->` and `<!-- end NAME -->` is generated here and must not be edited by hand.
A block may be moved to another page: it is found by its markers. The time of every benchmark is printed as well.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.extras import needed

with needed(__name__):
    from bench.bench_batch import MANY, SHORT
    from bench.bench_generate import LARGE
    from bench.bench_peers import LENGTH as PEER_LENGTH
    from bench.bench_start import STAGE
    from bench.kinds import kinds_table, plot_kinds, shipped_speed
    from bench.limits import cache_bytes, flops, weight_bytes
    from bench.peers import PEERS
    from knock.files.checkpoint import read_checkpoint
    from knock.language_model import load
    from knock.models import DEFAULT, shipped
    from tests.cases import EXAMPLE

ROOT = Path(__file__).parent.parent
PAGES = tuple(ROOT / page for page in ("README.md", "bench/README.md", "training/README.md"))
PICTURES = ROOT / ".github"
SAMPLE_SEED = 7
# What knock is compared with its peers in, and the benchmark of knock for it.
COLUMNS = {
    "batch 1": "bench_generate[compiled-relative]",
    "batch 8": "bench_heads[8-hybrid]",
    "batch 256": "bench_rows",
    "batch 256, two cores": "bench_batch[256-2]",
}


class Run:
    """The results of one benchmark run, by name."""

    def __init__(self, run: dict[str, Any]) -> None:
        self.results = {result["name"]: result for result in run["benchmarks"]}
        machine = run["machine_info"]
        cpu = machine["cpu"].get("brand_raw", machine["machine"])
        self.machine = f"{cpu}, {machine['cpu']['count']} cores, Python {machine['python_version']}"

    def __contains__(self, name: str) -> bool:
        return name in self.results

    def rate(self, name: str) -> float:
        """Units per second in the median round."""
        return float(self.results[name]["extra_info"]["count"] / self.results[name]["stats"]["median"])

    def medians(self, name: str) -> dict[str, float]:
        """Median seconds of each part of a benchmark that takes turns between several."""
        return dict(self.results[name]["extra_info"]["medians"])

    def every_median(self) -> dict[str, dict[str, float]]:
        """`medians` of every benchmark that has them."""
        return {name: self.medians(name) for name, result in self.results.items() if "medians" in result["extra_info"]}

    def unit(self, name: str) -> str:
        """The unit of `rate`, in the plural."""
        return str(self.results[name]["extra_info"]["unit"])


def highlights(run: Run) -> str:
    """The three bullets at the top of README.md: one text and many, start-up, a large job."""

    def ahead(column: str) -> str:
        """How far ahead of the fastest peer knock is; empty if no peer was measured."""
        peers = {name: run.rate(benchmarks[column]) for name, benchmarks in measured_peers(run).items()}
        if not peers:
            return ""
        fastest = max(peers, key=lambda name: peers[name])
        return f", {run.rate(COLUMNS[column]) / peers[fastest]:.1f} times as fast as {fastest}"

    one, many = "batch 1", "batch 256, two cores"
    command = run.results["bench_command"]
    seconds, memory = command["stats"]["median"], command["extra_info"]["memory"]
    bullets = {
        "Fast": f"{run.rate(COLUMNS[one]):,.0f} tokens/s, each a character, for one text on one core{ahead(one)}; "
        f"{run.rate(COLUMNS[many]):,.0f} for 256 texts on two cores{ahead(many)}.",
        "Ready at once": f"`knock generate` starts, writes 300 characters and exits in "
        f"{_time(run.medians('bench_processes')['generate'])}; on the first run ever, in "
        f"{_time(run.medians('bench_first_run')['exit'])}, without waiting for compilation.",
        "Many texts": f"`knock sample` wrote {MANY:,} texts of {SHORT} characters in {seconds:.0f} s, using "
        f"{memory / 1e6:.0f} MB of memory; each row depends on no other row.",
    }
    return "\n".join([*(f"- **{title}**: {text}" for title, text in bullets.items()), "", _measured(run)])


def speed_table(run: Run) -> str:
    """Generation and scoring, against the NumPy reference and the machine's limits of the same run."""
    peak, L2, DRAM = (1e9 * run.rate(f"bench_{name}") for name in ("peak", "stream[L2]", "stream[DRAM]"))
    streaming, arithmetic = L2 / weight_bytes(EXAMPLE), peak / flops(EXAMPLE)
    large = DRAM / (weight_bytes(LARGE) + cache_bytes(LARGE))
    rows = [
        ("one text", "bench_generate[compiled-relative]", "bench_generate[numpy-relative]", streaming,
         "weights from L2"),
        ("eight texts together", "bench_heads[8-hybrid]", None, arithmetic, "multiply-adds"),
        ("one text, absolute positions, window sliding", "bench_generate[compiled-absolute]",
         "bench_generate[numpy-absolute]", None, ""),
        ("logits of 1,024 positions", "bench_logits[compiled]", "bench_logits[numpy]", arithmetic, "multiply-adds"),
        ("one text, 13 million parameters", "bench_large", None, large, "weights and cache from DRAM"),
        ("logits of 1,024 positions, 13 million parameters", "bench_large_logits", None, peak / flops(LARGE),
         "multiply-adds"),
    ]  # fmt: skip
    lines = ["| what | tokens/s | over NumPy | of the machine's limit |", "|---|---:|---:|---|"]
    for what, name, reference, limit, kind in rows:
        over = f"{run.rate(name) / run.rate(reference):.0f}x" if reference else ""
        share = f"{run.rate(name) / limit:.0%}, {kind}" if limit else ""
        lines.append(f"| {what} | {run.rate(name):,.0f} | {over} | {share} |")
    uncached = run.rate("bench_generate[compiled-relative]") / run.rate("bench_recompute")
    notes = (
        f"The limits were measured in the same run: {peak / 1e9:.0f} GFLOP/s on one core; weights read at "
        f"{L2 / 1e9:.0f} GB/s from the second-level cache and {DRAM / 1e9:.0f} from memory, of which the third-level "
        f"cache may keep a part for the large model. NumPy is the reference, "
        f"with a cache of its own; without one, which is how such a model is often written, one text here is "
        f"{uncached:.0f} times as fast."
    )
    lines += ["", notes, _measured(run)]
    return "\n".join(lines)


def measured_peers(run: Run) -> dict[str, dict[str, str]]:
    """The peers that were measured in every column; for each, its benchmark by column."""
    peers = {}
    for name in PEERS:
        benchmarks = [*(f"bench_peer[{name}-{batch}]" for batch in PEER_LENGTH), f"bench_pair[{name}]"]
        if all(benchmark in run for benchmark in benchmarks):
            peers[name] = dict(zip(COLUMNS, benchmarks, strict=True))
    return peers


def peer_table(run: Run) -> str:
    """The same model in other frameworks, by number of sequences, and how many times as fast knock is."""
    peers = measured_peers(run)
    lines = ["| tokens/s | " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
    lines.append("| knock | " + " | ".join(f"{run.rate(name):,.0f}" for name in COLUMNS.values()) + " |")
    for name in sorted(peers, key=lambda name: -run.rate(peers[name]["batch 8"])):
        rates = [(run.rate(own), run.rate(peers[name][column])) for column, own in COLUMNS.items()]
        lines.append(f"| {name} | " + " | ".join(f"{other:,.0f} ({own / other:.1f}x)" for own, other in rates) + " |")
    lines += ["", _measured(run)]
    return "\n".join(lines)


def batch_table(run: Run) -> str:
    """Prompts in, texts out: by number of texts and of threads, variants of one size, and the command."""
    sizes, length = (1, 8, 64, 256, 1024, 4096), 256
    lines = [f"| {length} characters each | " + " | ".join(f"{rows:,} texts" for rows in sizes) + " |"]
    lines.append("|---" + "|---:" * len(sizes) + "|")
    for threads in (1, 2):
        rates = " | ".join(f"{run.rate(f'bench_batch[{rows}-{threads}]'):,.0f}" for rows in sizes)
        lines.append(f"| {threads} thread{'s' * (threads > 1)}, characters/s | {rates} |")
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
    return "\n".join([*lines, "", f"65,536 characters on two threads, with: {others}.", "", whole, _measured(run)])


def start_table(run: Run) -> str:
    """Processes from start to exit, against an import of NumPy in the same run; the stages of one."""
    processes, first = run.medians("bench_processes"), run.medians("bench_first_run")
    stages = {name.removeprefix(STAGE): time for name, time in processes.items() if name.startswith(STAGE)}
    numpy = processes["import numpy"]
    rows = {
        '`knock generate "ROMEO:"`, 300 characters': processes["generate"],
        "the first run ever: first text": first["first text"],
        "the first run ever: all 300 characters, and exit": first["exit"],
        "`knock --help`": processes["help"],
        '`python -c "import knock"`': processes["import knock"],
        '`python -c "import numpy"`': numpy,
        '`python -c "import numba"`': processes["import numba"],
        '`python -c "pass"`': processes["pass"],
    }
    lines = ["| process | time | against import numpy |", "|---|---:|---:|"]
    lines += [f"| {what} | {_time(seconds)} | {seconds / numpy:.2f}x |" for what, seconds in rows.items()]
    steps = ", ".join(f"{what} {_time(seconds)}" for what, seconds in stages.items())
    notes = f"What a warm `knock generate` spends it on, in this order: {steps}."
    return "\n".join([*lines, "", notes, _measured(run)])


def other_table(run: Run) -> str:
    """Everything that is not generation."""
    rows = {
        "bench_compile": "compile all kernels, as a process",
        "bench_load": "read, check and load the compiled kernels",
        "bench_pack": "fold and pack a model's weights",
        "bench_read": "read and check the shipped model file",
        "bench_score[shakespeare-nano]": "score a text by `shakespeare-nano`, all CPUs, a character",
        "bench_score[shakespeare-small]": "the same by `shakespeare-small`",
        "bench_sampler[temperature-65]": "one draw of 65 characters",
        "bench_sampler[top_p-5000]": "one draw of 5,000 characters, top_p",
        "bench_train[relative]": "train, relative positions, a character",
        "bench_train[absolute]": "train, absolute positions, a character",
        "bench_train_nano": "train a nano, a character",
        "bench_train_hybrid[muon]": "train a relative hybrid of 107,532 parameters, a character",
        "bench_train_hybrid[adamw]": "the same by AdamW alone",
        "bench_train_plain": "the same of a plain GPT with as many parameters and blocks, by AdamW",
    }
    lines = ["| what | time |", "|---|---:|"]
    lines += [f"| {what} | {_time(1 / run.rate(name))} |" for name, what in rows.items()]
    return "\n".join(lines)


def model_table() -> str:
    """The shipped models with their sizes and the losses recorded in their files."""
    checkpoints = {name: read_checkpoint(path) for name, path in shipped().items()}
    kinds = ["block_256", "stream", "items"]  # the last is that of models of items
    kinds = [kind for kind in kinds if any(kind in each.training["evaluation"] for each in checkpoints.values())]
    names = [kind.replace("_", " ") for kind in kinds]
    lines = [
        f"| {' | '.join(['model', 'parameters', 'receptive field', *names])} |",
        f"|---|{(2 + len(kinds)) * '---:|'}",
    ]
    for name, checkpoint in checkpoints.items():
        weights, losses = checkpoint.weights, checkpoint.training["evaluation"]
        cells = [f"{losses[kind]['nats_per_char']:.4f}" if kind in losses else "" for kind in kinds]
        facts = [f"`{name}`", f"{weights.n_parameters:,}", f"{weights.config.receptive_field:,} characters", *cells]
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def sample() -> str:
    """The output of the first command in README.md."""
    text = load(DEFAULT).generate("ROMEO:", sampling="balanced", seed=SAMPLE_SEED).text
    return f"```text\nROMEO:{text}\n```"


# Every marked block, and what writes it.
BLOCKS: dict[str, Callable[[Run], str]] = {
    "highlights": highlights,
    "sample": lambda _: sample(),
    "models": lambda _: model_table(),
    "models-speed": lambda run: f"{shipped_speed(run.every_median())}\n{_measured(run)}",
    "kinds": lambda run: f"{kinds_table(run.every_median())}\n\n{_measured(run)}",
    "speed": speed_table,
    "peers": peer_table,
    "batch": batch_table,
    "start": start_table,
    "other": other_table,
}


def fill(pages: Mapping[Path, str], name: str, content: str) -> dict[Path, str]:
    """Return the pages with one marked block replaced, in the page that has its markers.

    Raises:
        SystemExit: if no page has the markers, or there is more than one such block.
    """
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    found = {page: len(pattern.findall(text)) for page, text in pages.items()}
    if sum(found.values()) != 1:
        places = ", ".join(f"{count} in {page}" for page, count in found.items())
        raise SystemExit(f"need one block between <!-- {name} --> and <!-- end {name} -->, found {places}")
    return {page: pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text) for page, text in pages.items()}


def read_pages() -> dict[Path, str]:
    """The pages that have generated blocks, with their text."""
    return {page: page.read_text(encoding="utf-8") for page in PAGES}


def _measured(run: Run) -> str:
    return f"Measured on {run.machine}."


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def main() -> None:
    """Fill in the pages, draw the plots, and print the time of every benchmark."""
    with needed(__name__):
        from bench.plots import plot_places, plot_sizes  # Matplotlib is needed only here

    parser = argparse.ArgumentParser(prog="python -m bench.report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="the JSON file of pytest bench --benchmark-json=FILE")
    run = Run(json.loads(parser.parse_args().run.read_text(encoding="utf-8")))
    pages = read_pages()
    for name, write in BLOCKS.items():
        pages = fill(pages, name, write(run))
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
    plot_sizes(run.rate, PICTURES / "speed-by-size.svg")
    plot_places(run.rate, PICTURES / "speed-by-position.svg")
    plot_kinds(run.every_median(), PICTURES / "kinds.svg")
    for name in run.results:
        print(f"{name:48} {_time(1 / run.rate(name)):>9} {run.rate(name):>15,.1f} {run.unit(name)}/s")
        for what, seconds in run.results[name]["extra_info"].get("medians", {}).items():
            print(f"  {what:46} {_time(seconds):>9}")


if __name__ == "__main__":
    main()
