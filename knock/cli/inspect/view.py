"""Print the inspection on a terminal or as plain text: the heads, then the text character by character."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from knock.cli.inspect.heads import heads_in_full, heads_in_short
from knock.cli.inspect.subject import Subject, label
from knock.cli.ui.heat import DIGITS, heat_digits, heat_lines, legend, style_of
from knock.cli.ui.terminal import END_SIGN, write

_ROWS = 40  # rows of the table before its header is repeated
_LIKELY, _LOOKED_AT = 4, 3  # predicted and attended characters in a row of the table


def show(subject: Subject, *, is_full: bool = False) -> None:
    """Print the inspection to standard output; if it is not full, with one line per head."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(20, console.width)
    has_colours = bool(console.color_system) and not (console.no_color or console.legacy_windows)
    for part in _parts(subject, width, has_colours, is_full):
        with console.capture() as captured:  # Rich itself would exit the process on a broken pipe
            console.print(part)
        shown = captured.get()
        write(shown if has_colours else "".join(f"{line.rstrip()}\n" for line in shown.splitlines()))


def _parts(subject: Subject, width: int, has_colours: bool, is_full: bool) -> Iterator[RenderableType]:
    yield from _wrapped(subject.model, width)
    yield from _wrapped(f"on {subject.source}", width)
    yield Text()
    yield from heads_in_short(subject, width, has_colours)
    yield Text()
    if is_full:
        yield from heads_in_full(subject, width, has_colours)
        yield Text()
    rows = np.arange(len(subject.inspection.text))
    if subject.is_own:  # then only the rows after the character given by --char are of interest
        token = -1 if subject.char is None else subject.vocab.characters.index(subject.char)
        rows = np.flatnonzero(subject.inspection.attention.read == token)
    else:
        yield from _heat(subject, width, has_colours)
    yield from _tables(subject, rows.tolist(), width, has_colours)


def _heat(subject: Subject, width: int, has_colours: bool) -> Iterator[Text]:
    text, bits = subject.inspection.text, subject.inspection.surprise.tolist()
    if has_colours:
        yield legend(width)
        yield from heat_lines(text, bits, width)
    else:
        yield from _wrapped(DIGITS, width)
        yield from map(Text, heat_digits(text, bits, width))
    yield Text()


def _tables(subject: Subject, rows: list[int], width: int, has_colours: bool) -> Iterator[RenderableType]:
    """Yield tables of the given characters, with as many columns as fit."""
    if not rows:
        return
    inspection, attention = subject.inspection, subject.inspection.attention
    back, weight = attention.looked_at(attention.weights.mean((0, 1)), _LOOKED_AT)
    labels = subject.labels
    wide = [("most likely", 26), ("attends to", width - 55)]
    extra = wide[: (width >= 55) + (width >= 75)]
    yield from _wrapped(
        "For each character: its surprise and the entropy of its prediction, in bits"
        + (
            "; what it attends to, as a mean over all heads, with offsets (-1 is the last one read)"
            if len(extra) == 2
            else ""
        )
        + (f"; {END_SIGN} is the end of the item" if subject.vocab.has_boundary and extra else "")
        + ".",
        width,
    )
    for start in range(0, len(rows), _ROWS):
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
        table.add_column("at", justify="right", width=4, no_wrap=True)
        table.add_column("char", width=4, no_wrap=True)
        table.add_column("surpr." if width < 40 else "surprise", justify="right", width=6 if width < 40 else 8)
        if width >= 40:
            table.add_column("entropy", justify="right", width=7)
        for name, size in extra:
            table.add_column(name, width=size, no_wrap=True, overflow="ellipsis")
        for t in rows[start : start + _ROWS]:
            bits = float(inspection.surprise[t])
            expected = zip(inspection.alternatives[t].tolist(), inspection.probabilities[t].tolist(), strict=True)
            likely = [f"{labels[token]} {p:.0%}" for token, p in expected]
            looked = zip(back[t].tolist(), weight[t].tolist(), strict=True)
            cells = [
                Text(str(t)),
                Text(label(inspection.text[t])),
                Text(f"{bits:.2f}", style_of(bits) if has_colours else ""),
                Text(f"{inspection.entropy[t]:.2f}"),
                Text(" ".join(likely[:_LIKELY])),
                Text(" ".join(f"{_before(subject, t - far)}-{far} {w:.0%}" for far, w in looked if far)),
            ]
            table.add_row(*cells[: len(table.columns)])
        yield table
        yield Text()


def _before(subject: Subject, place: int) -> str:
    """Return the label of the character at a position; -1 is the start token."""
    return label(subject.inspection.text[place]) if place >= 0 else "start"


def _wrapped(line: str, width: int) -> Iterator[Text]:
    return map(Text, textwrap.wrap(line, width))
