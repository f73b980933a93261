"""Step of the tour about greedy text: how much it repeats itself, and what stops that."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any, NamedTuple

from knock.cli.demo.page import Cell, command, note, quote, row, say, width
from knock.cli.demo.repetition import RUN, repeated_parts, share_repeated
from knock.cli.demo.tour import Tour, mean, stats_of
from knock.cli.ui.style import has_styles
from knock.generation.results import Generation

_LITTLE = 0.1  # share of repetition up to which a text counts as free of loops
_MUCH = 0.3  # share from which it counts as one that loops
_WIDE = 60  # columns; narrower tables have no surprise
_GREEDY = "-t 0"
_TIMES = 2  # length of the texts, since loops take a while to begin

# What may stop repetition: options, what they do, and their controls.
_PENALTIES: tuple[tuple[str, dict[str, Any]], ...] = (
    (f"{_GREEDY} --no-repeat-ngram {RUN}", {"temperature": 0.0, "no_repeat_ngram": RUN}),
    (f"{_GREEDY} --dry-multiplier 0.8", {"temperature": 0.0, "dry_multiplier": 0.8}),
)
_CHANCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("-t 0.2", {"temperature": 0.2}),
    ("-t 0.8", {"temperature": 0.8}),
    ("--entropy 1", {"target_entropy": 1.0}),
)


class _Result(NamedTuple):
    """What comes of a remedy: the share that is repeated, the mean surprise in bits, and the texts."""

    share: float
    surprise: float
    texts: list[Generation]


def loops(tour: Tour) -> None:
    """Show a greedy text with its repetitions, and measure what stops them."""
    unit = "items" if tour.has_items else f"runs of {RUN} characters or more"
    dim = " (dim)" if has_styles(sys.stdout) else ""
    say(
        "At temperature 0, nothing is left to chance: the likeliest character is always taken. That is called greedy. "
        f"Here, {unit} that came before{dim} count as repeated:"
    )
    greedy = tour.write(times=_TIMES, temperature=0.0)
    command(tour.as_typed(_GREEDY, times=_TIMES))
    cells = [
        [Cell(char, "dim" if again else "") for char, again in zip(each.text, part, strict=True)]
        for each, part in zip(greedy, repeated_parts(greedy), strict=True)
    ]
    quote(tour.cells(greedy, cells))
    share = share_repeated(greedy)
    bits = mean(stats_of(greedy).surprise)
    note(f"{share:.0%} repeated, surprise {bits:.2f} bits a character")
    if tour.has_items:
        say("Greedy writes the same item every time; only chance brings others:")
    elif share >= _MUCH:
        say(
            "Once a phrase has come back, the same beginning asks for the same continuation, and nothing leads out. "
            "Two penalties forbid or discourage repetition: --no-repeat-ngram and --dry-multiplier. Chance may lead "
            "out, too: a temperature, or the entropy rule, which warms the model up where it is sure. What really "
            "helps:"
        )
    else:
        say("This one repeats little. Another prompt may have more of it; compare it with these:")
    _compare(tour, share, bits)


def _compare(tour: Tour, greedy: float, bits: float) -> None:
    """Write how much is repeated with each remedy, which of them help, and a text of one that does."""
    remedies = _CHANCES if tour.has_items else (*_PENALTIES, *_CHANCES)
    start = max(len(name) for name, _ in remedies) + 2
    is_wide = width() >= _WIDE
    row("", "repeated" + "  surprise" * is_wide, start)

    def show(name: str, share: float, surprise: float) -> None:
        row(name, f"{share:>8.0%}" + f"  {surprise:.2f} bits" * is_wide, start)

    show(_GREEDY, greedy, bits)
    found: dict[str, _Result] = {}
    for name, controls in remedies:
        texts = tour.write(times=_TIMES, **controls)
        share, surprise = share_repeated(texts), mean(stats_of(texts).surprise)
        found[name] = _Result(share, surprise, texts)
        show(name, share, surprise)
    looping = [name for name, result in found.items() if result.share > _LITTLE]
    if not looping:
        say(f"All of them bring it down to {_LITTLE:.0%} or less.")
    elif len(looping) == len(found):
        say(f"None of them brings it down to {_LITTLE:.0%}.")
    else:
        say(f"All but {' and '.join(looping)} bring it down to {_LITTLE:.0%} or less.")
    if not tour.has_items:
        best = min(_PENALTIES, key=lambda each: (each[0] in looping, found[each[0]].surprise))[0]
        say("Still greedy, with the penalty that surprises the model less:")
        command(tour.as_typed(best))
        quote(islice(tour.cells(found[best].texts), len(tour.prompt) + tour.length))
