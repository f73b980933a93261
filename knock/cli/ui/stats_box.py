"""Box of statistics shown after a text."""

from __future__ import annotations

from collections.abc import Sequence

from knock.sampling import Stats

ENDED_BY = {"end": "end of item", "match": "full match"}  # finish reasons that need words

_TITLE = "Generation Stats"
_WIDTH = 37


def stats_box(stats: Stats, columns: int = 80, ending: Sequence[tuple[str, str]] = ()) -> str:
    """Return the statistics in a box of Unicode lines, or as plain lines if the terminal is too narrow.

    Args:
        stats: the statistics.
        columns: width of the terminal.
        ending: labels and values of more rows.
    """
    if stats["tokens"]:
        rows = [
            ("Mean entropy:", f"{stats['mean_entropy']:6.2f} bits"),
            ("Entropy range:", f"[{stats['min_entropy']:.2f}, {stats['max_entropy']:.2f}]"),
            ("Entropy σ:", f"{stats['entropy_std']:.3f}"),
            ("Mean confidence:", f"{stats['mean_confidence']:.3f}"),
            ("Mean temperature:", f"{stats['mean_temp']:.3f}"),
        ]
    else:
        rows = [("No characters were generated.", "")]
    lines = [f"  {label:<18}{value}".rstrip() for label, value in (*rows, *ending)]
    if columns < _WIDTH + 2:
        return "\n".join(line.strip() for line in lines)
    width = max(_WIDTH, *(len(line) + 1 for line in lines))
    rule = "─" * width
    # If the title cannot be centred exactly, it is one column further right.
    title = _TITLE.rjust((width + len(_TITLE) + 1) // 2).ljust(width)
    body = "\n".join(f"│{line:<{width}}│" for line in lines)
    return f"┌{rule}┐\n│{title}│\n├{rule}┤\n{body}\n└{rule}┘"
