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

from bench.extras import needed

with needed(__name__):
    from bench.bench_batch import MANY, SHORT
    from bench.bench_generate import key
    from bench.bench_start import STAGE
    from bench.kinds import kinds_table, plot_kinds, shipped_speed
    from bench.reach import plot_reach, reach_tables
    from bench.results import Run, measured, shown_time
    from bench.speed_tables import (
        COLUMNS,
        ONE,
        TWO_CORES,
        batch_table,
        fastest_peer,
        first_block_table,
        framework_table,
        peer_table,
        set_table,
        small_table,
        speed_table,
    )
    from knock.choices import DEFAULT_PRECISION
    from knock.files.checkpoint import read_checkpoint
    from knock.language_model import load
    from knock.models import DEFAULT, shipped

ROOT = Path(__file__).parent.parent
PAGES = tuple(ROOT / page for page in ("README.md", "bench/README.md", "training/README.md"))
PICTURES = ROOT / ".github"
SAMPLE_SEED = 7


def highlights(run: Run) -> str:
    """The three bullets at the top of README.md: one text and many, start-up, a large job."""

    def of_default(column: str) -> tuple[float, str]:
        """The speed in the default precision, and how far ahead of the fastest peer it is, if any was measured."""
        rates = run.rates(COLUMNS[column])
        rate, peer = rates[key("knock", DEFAULT_PRECISION)], fastest_peer(rates)
        return rate, f", {rate / rates[peer]:.1f} times as fast as {peer}" if peer else ""

    (one, ahead_of_one), (many, ahead_of_many) = of_default(ONE), of_default(TWO_CORES)
    command = run.results["bench_command"]
    seconds, memory = command["stats"]["median"], command["extra_info"]["memory"]
    bullets = {
        "Fast": f"{one:,.0f} tokens/s, each a character, for one text on one core{ahead_of_one}; "
        f"{many:,.0f} for 256 texts on two cores{ahead_of_many}.",
        "Ready at once": f"`knock generate` starts, writes 300 characters and exits in "
        f"{shown_time(run.medians('bench_processes')['generate'])}; on the first run ever, in "
        f"{shown_time(run.medians('bench_first_run')['exit'])}, without waiting for compilation.",
        "Many texts": f"`knock sample` wrote {MANY:,} texts of {SHORT} characters in {seconds:.0f} s, using "
        f"{memory / 1e6:.0f} MB of memory; each row depends on no other row.",
    }
    return "\n".join([*(f"- **{title}**: {text}" for title, text in bullets.items()), "", measured(run)])


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
    lines += [f"| {what} | {shown_time(seconds)} | {seconds / numpy:.2f}x |" for what, seconds in rows.items()]
    steps = ", ".join(f"{what} {shown_time(seconds)}" for what, seconds in stages.items())
    notes = f"What a warm `knock generate` spends it on, in this order: {steps}."
    return "\n".join([*lines, "", notes, measured(run)])


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
    lines += [f"| {what} | {shown_time(1 / run.rate(name))} |" for name, what in rows.items()]
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
    "models-speed": lambda run: f"{shipped_speed(run.every_median())}\n{measured(run)}",
    "kinds": lambda run: f"{kinds_table(run.every_median())}\n\n{measured(run)}",
    "reach": lambda run: f"{reach_tables(run.every_median())}\n\n{measured(run)}",
    "speed": speed_table,
    "peers": peer_table,
    "frameworks": framework_table,
    "small": small_table,
    "sets": set_table,
    "first-block": first_block_table,
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
    plot_sizes(run.every_median(), run.bests("bench_limits"), PICTURES / "speed-by-size.svg")
    plot_places(run.rate, PICTURES / "speed-by-position.svg")
    plot_kinds(run.every_median(), PICTURES / "kinds.svg")
    plot_reach(PICTURES / "reach.svg")
    for name in run.results:
        print(f"{name:48} {shown_time(1 / run.rate(name)):>9} {run.rate(name):>15,.1f} {run.unit(name)}/s")
        for what, seconds in run.results[name]["extra_info"].get("medians", {}).items():
            print(f"  {what:46} {shown_time(seconds):>9}")


if __name__ == "__main__":
    main()
