"""Steps of the tour about how the model reads: its surprise as a heat map, its heads and their patterns."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from rich.console import Console

from knock.cli.demo.drawing import TEMPERATURES
from knock.cli.demo.page import quoted, say, sign, width
from knock.cli.demo.tour import Tour
from knock.cli.ui.bars import bars_of, edges_of
from knock.cli.ui.heat import DIGITS, heat_digits, heat_lines, legend
from knock.cli.ui.terminal import END, write
from knock.inspection import Kind

_HEAT = 200  # characters of the heat map
_LABEL = 11  # columns
_ALONE: tuple[Kind, ...] = ("reweight", "content")

_MEANINGS = {
    "reweight": "A reweight head looks by distance: what it has just read decides how much it looks one back, two back "
                "and so on, whatever stands there.",
    "content": "A content head looks by likeness: it seeks something that depends on what it has just read, and looks "
               "at the characters before that match, wherever they stand.",
    "hybrid": "A hybrid head does both at once: it looks by distance (reweight) and by likeness (content). Its gate "
              "says how much each counts, from 1, only distance, to 0, only likeness.",
}  # fmt: skip


def heat(tour: Tour) -> None:
    """Show a text with the surprise of each character."""
    hottest = TEMPERATURES[-1]
    say(
        "The model can also read a text, and say how much each character surprises it. Here it reads what it wrote at "
        f"temperature {hottest:g}:"
    )
    chars: list[str] = []
    bits: list[float] = []
    for each in tour.write(temperature=hottest):
        score = tour.model.score(tour.prompt + each.text)
        chars += [*score.text, *[END] * (len(score.log_probs) - len(score.text))]
        bits += (0.0 - score.log_probs / math.log(2)).tolist()
    chars, bits = chars[:_HEAT], bits[:_HEAT]
    _show_heat(chars, bits)
    place = int(np.argmax(bits))
    before = "".join(chars[:place]).rpartition(END)[2]
    after = f" after {quoted(before)}" if before else ""
    say(
        f"{np.mean(np.array(bits) < 1):.0%} of the characters were expected: they had more than half of the chances. "
        f"The greatest surprise was {sign(chars[place])!r}{after}: {bits[place]:.1f} bits, a chance of 1 in "
        f"{2 ** bits[place]:,.0f}."
    )


def _show_heat(chars: list[str], bits: list[float]) -> None:
    """Write a text with its surprise as colours, or as digits where there are none."""
    console = Console(highlight=False, soft_wrap=True)
    has_colours = bool(console.color_system) and not (console.no_color or console.legacy_windows)
    if not has_colours:
        say(DIGITS)
        write("".join(f"{line}\n" for line in heat_digits(chars, bits, width())))
        return
    with console.capture() as captured:  # Rich itself would exit the process on a broken pipe
        for line in (legend(width()), *heat_lines(chars, bits, width())):
            console.print(line)
    write("\n" + captured.get())


def heads(tour: Tour) -> None:
    """Show what kinds of heads the model has, and the patterns of some of them."""
    config = tour.model.model.config
    seen = max(tour.inspect(tour.basic), key=lambda each: len(each.text), default=None)
    kinds = list(dict.fromkeys(config.head_types))
    say(
        f"To predict a character, the model looks back at those before. It has {config.n_blocks} blocks, one after the "
        f"other, and each has {config.n_heads} {'head' if config.n_heads == 1 else 'heads'}, each of which decides for "
        "itself where to look."
    )
    for kind in kinds:
        say(_MEANINGS[kind])
    if seen is None:
        say("The text at temperature 1 is empty, so there is nothing to look at; try another --seed.")
        return
    attention = seen.attention
    distance = attention.mean_distance()
    edges = edges_of(attention.weights.shape[-1], max(6, width() - _LABEL - 2))
    scale = ", on a log scale" if len(edges) <= edges[-1] else ""
    say(
        f"Of {'each type' if len(kinds) > 1 else 'these'}, the head that looks nearest and the one that looks "
        "farthest, on average over the text at temperature 1. The bars are how much it looks at each distance, from 1 "
        f"character back at the left to {edges[-1]} at the right{scale}; the largest is a full bar."
    )
    for b, h in _chosen(config.head_types, distance):
        pattern = attention.patterns(by="distance").mean[b, h]
        peak = int(np.nanargmax(pattern))
        gate = (
            "" if attention.gates is None or np.isnan(attention.gates[b, h]) else f", gate {attention.gates[b, h]:.2f}"
        )
        say(
            f"Block {b + 1}, head {h + 1}: {config.head_types[b]}{gate}. It looks {distance[b, h]:.1f} back on "
            f"average, and most at {peak + 1} ({pattern[peak]:.0%})."
        )
        rows = [("attention", pattern)]
        if config.head_types[b] == "hybrid":
            rows += [(kind, attention.patterns(kind, by="distance").mean[b, h]) for kind in _ALONE]
        for label, values in rows:
            write(f"  {label:<{_LABEL}}{bars_of(values, edges)}".rstrip() + "\n")


def _chosen(head_types: tuple[str, ...], distance: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield block and number of the heads to show: of each type, that of the least and of the largest mean distance."""
    for kind in dict.fromkeys(head_types):
        places = [(b, h) for b, h in np.ndindex(*distance.shape) if head_types[b] == kind]
        places.sort(key=lambda place: float(distance[place]))
        yield from dict.fromkeys((places[0], places[-1]))
