"""Step of the tour about the entropy rule: how it chooses the temperature, and how well it holds its target."""

from __future__ import annotations

import numpy as np
from rich.cells import cell_len

from knock.cli.demo.page import command, note, quote, say, sign, width
from knock.cli.demo.tour import Tour, mean, stats_of
from knock.cli.ui.bars import levels
from knock.cli.ui.terminal import write
from knock.sampling import Sampling, TokenStats

_NEAR = 0.05  # bits from the target that count as holding it
_LEAST = 0.1  # bits; the least target
_CHARTED = 60  # characters that are shown with bars, at least
_LABEL = 7  # columns


def entropy_rule(tour: Tour) -> None:
    """Show the model's entropy and that of the draws, character by character, and how often they are on target."""
    own = stats_of(tour.basic)
    if not len(own):
        say("The model wrote nothing at temperature 1, so there is nothing to steer; try another --seed.")
        return
    target = max(_LEAST, round(mean(own.entropy), 1))
    rule = Sampling(target_entropy=target)
    say(
        "Entropy is how unsure the model is, in bits: 0 if one character has all the chances, 1 for a toss of a coin. "
        f"In the text at temperature 1 it was {mean(own.entropy):.2f} bits on average, but anything from "
        f"{own.entropy.min():.2f} to {own.entropy.max():.2f}: sure at one character, unsure at the next. "
        f"The entropy rule asks for {target:g} bits at every character, and chooses the temperature that gives them:"
    )
    texts = tour.write(target_entropy=target)
    stats = stats_of(texts)
    command(tour.as_typed(f"--entropy {target:g}"))
    quote(tour.cells(texts))
    _chart("".join(text.text for text in texts), stats, target)
    _report(stats, rule)
    say(
        "Holding the target has a price: where the model is sure of a letter, the rule makes it unsure, and so words "
        "go wrong. The preset entropy only cools, where the model is unsure:"
    )
    cooler = tour.write(sampling="entropy")
    command(tour.as_typed("", sampling="entropy"))
    quote(tour.cells(cooler))
    means = [mean(stats_of(each).surprise) for each in (texts, cooler)]
    note(f"surprise {means[1]:.2f} bits a character, against {means[0]:.2f} on target")


def _chart(text: str, stats: TokenStats, target: float) -> None:
    """Write the beginning of a text with bars below each character: before the rule, its temperature, after it."""
    room = max(10, width() - _LABEL - 2)
    hottest = float(stats.temperature.max(initial=0))
    say(
        "Here it is with three bars below each character. model: the entropy before the rule; drawn: the entropy of "
        f"the draw. In both, a bar of half the height is {target:g} bits. temp: the temperature that the rule chose, "
        f"up to {hottest:g}."
    )
    chars = [char if char == " " else sign(char) for char in text]
    for start in range(0, min(len(chars), _CHARTED), room):
        part = slice(start, start + room)
        rows = (
            ("", "".join(char if cell_len(char) == 1 else "?" for char in chars[part])),
            ("model", levels(stats.entropy[part], 2 * target)),
            ("temp", levels(stats.temperature[part], hottest)),
            ("drawn", levels(stats.sampled_entropy[part], 2 * target)),
        )
        write("\n" + "".join(f"  {label:<{_LABEL}}{cells}".rstrip() + "\n" for label, cells in rows))


def _report(stats: TokenStats, rule: Sampling) -> None:
    """Say how often the draws were on target, and what kept the others from it."""
    assert rule.target_entropy is not None
    off = stats.sampled_entropy - rule.target_entropy
    is_near = np.abs(off) <= _NEAR
    is_coldest = stats.temperature <= rule.min_temp * (1 + 1e-6)
    is_hottest = stats.temperature >= rule.max_temp * (1 - 1e-6)
    say(
        f"The entropy of the draw was within {_NEAR:g} bits of {rule.target_entropy:g} at {mean(is_near):.0%} of the "
        f"characters, and {mean(stats.sampled_entropy):.2f} on average; without the rule, at "
        f"{mean(np.abs(stats.entropy - rule.target_entropy) <= _NEAR):.0%}. The rule keeps the temperature from "
        f"{rule.min_temp:g} to {rule.max_temp:g}: at {mean(~is_near & is_coldest):.0%} of the characters even the "
        f"lowest left more bits, at {mean(~is_near & is_hottest):.0%} even the highest gave fewer."
    )
