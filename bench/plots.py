"""Plots of speed by model size and of time by position."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.bench_generate import PLACES, SIZES, key
from bench.bench_limits import PEAK
from bench.kinds import Medians
from bench.limits import multiply_adds
from knock.choices import PRECISIONS
from knock_kernels.cache.store import ROWS
from tests.cases import EXAMPLE

Rate = Callable[[str], float]

# The colours of Okabe and Ito, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
STYLE = {
    "svg.hashsalt": "knock",  # reproducible ids
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
}


def plot_sizes(medians: Medians, limits: Mapping[str, float], path: Path) -> None:
    """Plot tokens per second against embedding width, in every precision.

    Args:
        medians: seconds of a token, by benchmark and precision.
        limits: seconds of a multiply-add at best, by precision.
        path: where to write the picture.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure()
        for precision, color in zip(PRECISIONS, (BLUE, ORANGE, GREEN), strict=False):
            for count, style, label in ((ROWS, "o-", "eight texts together"), (1, "o--", "one text")):
                speeds = [1 / medians[f"bench_size[{size}-{count}]"][precision] for size in SIZES]
                axes.plot(SIZES, speeds, style, color=color, markersize=4, label=f"{precision}, {label}")
            counts = [multiply_adds(replace(EXAMPLE, n_emb=size, nodes=size)) for size in SIZES]
            limit = [1 / (count * limits[key(PEAK, precision)]) for count in counts]
            axes.plot(SIZES, limit, ":", color=color, label=f"{precision}, limit of multiply-adds")
        axes.set(
            xscale="log", yscale="log", xlabel="embedding width C (MLP width the same)", ylabel="tokens/s, one thread"
        )
        axes.set_xticks(SIZES, [str(size) for size in SIZES])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8)
        save(figure, path)


def plot_places(rate: Rate, path: Path) -> None:
    """Plot microseconds per token against its position in the text."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure()
        for position, color, label in (
            ("absolute", ORANGE, "absolute positions, window slides"),
            ("relative", BLUE, "relative positions"),
        ):
            names = [(place, f"bench_place[{place}-{position}]") for place in PLACES]
            times = {place: 1e6 / rate(name) for place, name in names if position == "relative" or place < PLACES[-1]}
            axes.plot(list(times), list(times.values()), "o-", color=color, label=label)
        axes.set(xscale="log", yscale="log", xlabel="position in the text, tokens", ylabel="µs a token, one thread")
        axes.set_ylim(bottom=1)
        axes.legend(frameon=False)
        save(figure, path)


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    return figure, figure.subplots()


def save(figure: Figure, path: Path) -> None:
    """Write a figure reproducibly."""
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
