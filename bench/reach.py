"""The trial of far attention: losses and times of every model, as tables and a plot."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.bench_kinds import COUNTS, key
from bench.kinds import Medians
from training.reach.arms import ARMS, BASELINE
from training.reach.results import Results, table

POSITIONS = {"stream_matched": "with a match", "stream_others": "without", "stream": "all"}


def time_ratios(medians: Medians) -> dict[str, list[float]]:
    """Return the times for a character, one text and eight, of each arm as ratios to those of the baseline."""
    times = medians["bench_reach"]
    return {arm: [times[key(arm, count)] / times[key(BASELINE, count)] for count in COUNTS] for arm in ARMS}


def reach_tables(medians: Medians) -> str:
    """Return the table of every corpus."""
    results, ratios = Results(), time_ratios(medians)
    return "\n\n".join(table(results, corpus, ratios) for corpus in results.corpora)


def plot_reach(path: Path) -> None:
    """Plot how much each arm gains over the baseline on each corpus, on positions with a match and on the others."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from bench.plots import BLUE, GREY, ORANGE, STYLE, save

    results, arms = Results(), [arm for arm in reversed(ARMS) if arm != BASELINE]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 5.6), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True).ravel()
        for axes, corpus in zip(panels, results.corpora, strict=False):
            base = results.of(corpus, BASELINE)
            for (column, label), color, mark in zip(POSITIONS.items(), (BLUE, ORANGE, GREY), "o^s", strict=True):
                before = statistics.mean(run[column] for run in base)
                for place, arm in enumerate(arms):
                    if runs := results.of(corpus, arm):
                        change = statistics.mean(run[column] for run in runs) - before
                        axes.plot(change, place, mark, color=color, label=label if place == 0 else None)
            axes.axvline(0, color="#333333", linewidth=0.8)
            axes.set_title(corpus)
            axes.set_yticks(range(len(arms)), [ARMS[arm].name for arm in arms])
        for axes in panels[2:]:
            axes.set_xlabel("nats a character, less is better")
        for axes in panels[len(results.corpora) :]:
            axes.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
        save(figure, path)
