"""The comparison of head types and position modes: loss against time, as a table and a plot."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import NamedTuple

from bench.bench_kinds import COUNTS, SIZES, key
from knock.models import shipped
from training.trials import COMPARISONS, RESULTS, Arm, Results, learned_gates

Medians = dict[str, dict[str, float]]  # seconds by benchmark and name

EXAMPLE_MODEL = "shakespeare-hybrid"
TICKS = (2, 5, 10, 20, 50, 100)  # microseconds
FAIR = {"parameters": "as many parameters", "time": "as fast"}


class Reached(NamedTuple):
    """The result of one arm of a comparison.

    Attributes:
        arm: the arm.
        nats: mean validation loss over the seeds, in nats per character, in blocks of 256.
        spread: standard deviation of the loss of one run.
        parameters: number of parameters.
        seconds: time per character of one text.
        seconds_of_eight: time per character of eight texts together.
    """

    arm: Arm
    nats: float
    spread: float
    parameters: int
    seconds: float
    seconds_of_eight: float


def reached(group: str, medians: Medians, results: Results) -> list[Reached]:
    """Return the results of every arm of a comparison."""
    times = medians[f"bench_kinds[{group.partition('-')[2]}]"]
    every = []
    for arm in COMPARISONS[group]:
        runs = [results[trial] for trial in results.seeds(arm, group)]
        losses = [run["block_256"] for run in runs]
        alone, eight = (times[key(f"{group}: {arm.name}", count)] for count in COUNTS)
        every.append(
            Reached(arm, statistics.mean(losses), statistics.stdev(losses), runs[0]["parameters"], alone, eight)
        )
    return every


def kinds_table(medians: Medians) -> str:
    """Return a row per kind, with the loss, its spread and the time per character for each size and comparison."""
    results = Results(RESULTS)
    columns = [(size, fair) for size in SIZES for fair in FAIR]
    by_column = {
        (size, fair): {each.arm.name: each for each in reached(f"{fair}-{size}", medians, results)}
        for size, fair in columns
    }
    heads = [f"{size}, {FAIR[fair]}" for size, fair in columns]
    lines = ["| nats/char, µs | " + " | ".join(heads) + " |", "|---" + "|---" * len(heads) + "|"]
    for arm in COMPARISONS["parameters-nano"]:
        cells = []
        for column in columns:
            each = by_column[column][arm.name]
            best = min(other.nats for other in by_column[column].values())
            nats = f"**{each.nats:.4f}**" if each.nats == best else f"{each.nats:.4f}"
            cells.append(f"{nats} ± {each.spread:.4f}, {1e6 * each.seconds:.2f}")
        lines.append(f"| {arm.name} | " + " | ".join(cells) + " |")
    gates = "; ".join(
        f"{size}, {arm.name.partition(', ')[2]}: {learned_gates([results[trial]['gates'] for trial in trials])}"
        for size in SIZES
        for arm in COMPARISONS[f"parameters-{size}"]
        if arm.shape["head_type"] == "hybrid" and (trials := results.seeds(arm, f"parameters-{size}"))
    )
    return "\n".join([*lines, "", f"The hybrids' gates after training, block by block: {gates}."])


def shipped_speed(medians: Medians) -> str:
    """Return the speed of the shipped models relative to the one of the example shape, as a sentence."""
    times = medians["bench_shipped"]
    speeds = []
    for name in shipped():
        ratios = [times[key(EXAMPLE_MODEL, count)] / times[key(name, count)] for count in COUNTS]
        if name != EXAMPLE_MODEL:
            speeds.append(
                f"`{name}` {ratios[0]:.2f} times as fast alone, {ratios[1]:.2f} times with eight texts together"
            )
    return f"Against `{EXAMPLE_MODEL}`, in turns: {'; '.join(speeds)}."


def plot_kinds(medians: Medians, path: Path) -> None:
    """Plot the loss against the time per character, for every arm of every comparison."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from bench.plots import BLUE, GREEN, ORANGE, STYLE, save

    colors = {"hybrid": BLUE, "reweight": ORANGE, "content": GREEN}
    marks = {"parameters": "o", "time": "s"}
    results = Results(RESULTS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.1), layout="constrained")
        for axes, size in zip(figure.subplots(1, len(SIZES), sharey=True), SIZES, strict=True):
            for fair, mark in marks.items():
                for each in reached(f"{fair}-{size}", medians, results):
                    color = colors[each.arm.shape["head_type"]]
                    axes.errorbar(
                        1e6 * each.seconds, each.nats, each.spread, fmt=mark, color=color, capsize=2, markersize=6,
                        fillstyle="full" if each.arm.shape["position"] == "relative" else "none",
                    )  # fmt: skip
            axes.set(xscale="log", xlabel="µs a character, one text", title=f"{size}: like {_base(size, results)}")
            axes.set_xlim(2, 100)
            axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
            axes.minorticks_off()
        figure.axes[0].set_ylabel("nats a character, block 256")
        legend = [
            *(Line2D([], [], marker="o", ls="", color=color, label=name) for name, color in colors.items()),
            Line2D([], [], marker="o", ls="", color="#333333", label="relative"),
            Line2D([], [], marker="o", ls="", color="#333333", fillstyle="none", label="absolute"),
            *(Line2D([], [], marker=mark, ls="", color="#333333", label=FAIR[fair]) for fair, mark in marks.items()),
        ]
        figure.legend(handles=legend, frameon=False, loc="outside lower center", ncols=4, handletextpad=0.1)
        save(figure, path)


def _base(size: str, results: Results) -> str:
    group = f"parameters-{size}"
    first = results.seeds(COMPARISONS[group][0], group)[0]
    return f"a hybrid of {results[first]['parameters']:,} parameters"
