"""Write a benchmark run, and the shipped models' own records, into the README's tables and plots.

    pytest bench --benchmark-json=run.json
    python -m bench.report run.json

Everything between `<!-- NAME -->` and `<!-- end NAME -->` in README.md is written here and nowhere else. What each
benchmark took is printed as well.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

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
README, PICTURES = ROOT / "README.md", ROOT / ".github"
SAMPLE_SEED = 7


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
        """Units a second, by the median round."""
        return float(self.results[name]["extra_info"]["count"] / self.results[name]["stats"]["median"])

    def medians(self, name: str) -> dict[str, float]:
        """Median seconds of each thing that a benchmark of several took the time of."""
        return dict(self.results[name]["extra_info"]["medians"])

    def every_median(self) -> dict[str, dict[str, float]]:
        """The same of every benchmark that took turns."""
        return {name: self.medians(name) for name, result in self.results.items() if "medians" in result["extra_info"]}

    def unit(self, name: str) -> str:
        """What is counted, in the plural."""
        return str(self.results[name]["extra_info"]["unit"])


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
    anew = run.rate("bench_generate[compiled-relative]") / run.rate("bench_recompute")
    told = (
        f"The limits were measured in the same run: {peak / 1e9:.0f} GFLOP/s on one core; weights read at "
        f"{L2 / 1e9:.0f} GB/s from the second-level cache and {DRAM / 1e9:.0f} from memory, of which the third-level "
        f"cache may keep a part for the large model. NumPy is the reference, "
        f"with a cache of its own; without one, which is how such a model is often written, one text here is "
        f"{anew:.0f} times as fast."
    )
    lines += ["", told, _measured(run)]
    return "\n".join(lines)


def peer_table(run: Run) -> str:
    """The same model elsewhere, by number of sequences; how many times faster knock is."""
    ours = {
        "batch 1": "bench_generate[compiled-relative]",
        "batch 8": "bench_heads[8-hybrid]",
        "batch 256": "bench_rows",
        "batch 256, two cores": "bench_batch[256-2]",
    }
    theirs = {
        name: [*(f"bench_peer[{name}-{batch}]" for batch in PEER_LENGTH), f"bench_pair[{name}]"] for name in PEERS
    }
    lines = ["| tokens/s | " + " | ".join(ours) + " |", "|---" + "|---:" * len(ours) + "|"]
    lines.append("| knock | " + " | ".join(f"{run.rate(name):,.0f}" for name in ours.values()) + " |")
    measured = [name for name, each in theirs.items() if all(benchmark in run for benchmark in each)]
    for name in sorted(measured, key=lambda name: -run.rate(theirs[name][1])):
        rates = [(run.rate(own), run.rate(other)) for own, other in zip(ours.values(), theirs[name], strict=True)]
        lines.append(f"| {name} | " + " | ".join(f"{other:,.0f} ({own / other:.1f}x)" for own, other in rates) + " |")
    lines += ["", _measured(run)]
    return "\n".join(lines)


def batch_table(run: Run) -> str:
    """Prompts in, texts out, by how many and on how many threads; and the same with a twist."""
    sizes, length = (1, 8, 64, 256, 1024, 4096), 256
    lines = [f"| {length} characters each | " + " | ".join(f"{rows:,} texts" for rows in sizes) + " |"]
    lines.append("|---" + "|---:" * len(sizes) + "|")
    for threads in (1, 2):
        rates = " | ".join(f"{run.rate(f'bench_batch[{rows}-{threads}]'):,.0f}" for rows in sizes)
        lines.append(f"| {threads} thread{'s' * (threads > 1)}, characters/s | {rates} |")
    twists = {
        "16 to 512 characters": "bench_batch_ragged",
        "32 characters": "bench_batch_length[32]",
        "4,096 characters": "bench_batch_length[4096]",
        "different prompts of 64 characters": "bench_batch_prompts",
        "a stop string": "bench_batch_stop",
        "the kernels alone": "bench_batch_kernels[2]",
    }
    told = ", ".join(f"{what} {run.rate(name):,.0f}" for what, name in twists.items())
    command = run.results["bench_command"]
    seconds, size, memory = (
        command["stats"]["median"], command["extra_info"]["size"], command["extra_info"]["memory"]
    )  # fmt: skip
    what = f"knock sample ROMEO: --model shakespeare-hybrid --count {MANY} --length {SHORT} --out texts.jsonl"
    whole = (
        f"`{what}` took {seconds:.0f} s from start to exit, {run.rate('bench_command'):,.0f} characters/s; it wrote "
        f"{size / 1e6:.0f} MB, {size / seconds / 1e6:.1f} MB/s, and had {memory / 1e6:.0f} MB of memory at most."
    )
    return "\n".join([*lines, "", f"65,536 characters on two threads, with: {told}.", "", whole, _measured(run)])


def start_table(run: Run) -> str:
    """Whole processes, against an import of NumPy in the same run; and what the time goes to."""
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
    told = f"What a warm `knock generate` spends it on, in this order: {steps}."
    return "\n".join([*lines, "", told, _measured(run)])


def other_table(run: Run) -> str:
    """What is not generation."""
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
    """The shipped models with the losses in their files."""
    lines = ["| model | parameters | sees back | block 256 | stream |", "|---|---:|---:|---:|---:|"]
    for name, path in shipped().items():
        checkpoint = read_checkpoint(path)
        losses = checkpoint.training["evaluation"]
        block, stream = (f"{losses[key]['nats_per_char']:.4f}" for key in ("block_256", "stream"))
        weights = checkpoint.weights
        lines.append(
            f"| `{name}` | {weights.n_parameters:,} | {weights.config.receptive_field:,} characters "
            f"| {block} | {stream} |"
        )
    return "\n".join(lines)


def sample() -> str:
    """What the README's first command prints."""
    text = load(DEFAULT).generate("ROMEO:", seed=SAMPLE_SEED).text
    return f"```text\nROMEO:{text}\n```"


def fill(readme: str, name: str, content: str) -> str:
    """The README with one of its generated parts replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
    filled, count = re.subn(pattern, lambda match: f"{match[1]}{content}\n{match[2]}", readme, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"README.md must have one part between <!-- {name} --> and <!-- end {name} -->, has {count}")
    return filled


def _measured(run: Run) -> str:
    return f"Measured on {run.machine}."


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def main() -> None:
    """Fill in the README, draw the plots, and print everything."""
    from bench.plots import plot_places, plot_sizes  # Matplotlib is needed only here

    parser = argparse.ArgumentParser(prog="python -m bench.report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="the JSON file of pytest bench --benchmark-json=FILE")
    run = Run(json.loads(parser.parse_args().run.read_text(encoding="utf-8")))
    parts = {
        "sample": sample(),
        "models": model_table(),
        "models-speed": f"{shipped_speed(run.every_median())}\n{_measured(run)}",
        "kinds": f"{kinds_table(run.every_median())}\n\n{_measured(run)}",
        "speed": speed_table(run),
        "peers": peer_table(run),
        "batch": batch_table(run),
        "start": start_table(run),
        "other": other_table(run),
    }
    readme = README.read_text(encoding="utf-8")
    for name, content in parts.items():
        readme = fill(readme, name, content)
    README.write_text(readme, encoding="utf-8")
    plot_sizes(run.rate, PICTURES / "speed-by-size.svg")
    plot_places(run.rate, PICTURES / "speed-by-position.svg")
    plot_kinds(run.every_median(), PICTURES / "kinds.svg")
    for name in run.results:
        print(f"{name:48} {_time(1 / run.rate(name)):>9} {run.rate(name):>15,.1f} {run.unit(name)}/s")
        for what, seconds in run.results[name]["extra_info"].get("medians", {}).items():
            print(f"  {what:46} {_time(seconds):>9}")


if __name__ == "__main__":
    main()
