"""The output of `knock score`: a table, JSON, characters, items or a heat map."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from knock.cli.ui.terminal import END, columns, for_output, is_wrapped, printable, say, wrapped, write
from knock.generation.scoring import ItemScorer, Scorer
from knock.words import counted

if TYPE_CHECKING:
    from knock.cli.score.pieces import Piece
    from knock.generation.loss import Loss

_MAX_UNKNOWN = 10  # unknown characters listed in a notice
DONE = {"skip": "skipped", "replace": "replaced"}


def characters(count: int) -> str:
    """Return a number of characters in words."""
    return counted(count, "character")


def figures(*, has_items: bool) -> tuple[str, ...]:
    """Return the names of the columns of `cells`."""
    return ("chars", "nats/char", "bits/char", "perplexity/char", *(("items", "bits/item") if has_items else ()))


def cells(loss: Loss, *, has_items: bool) -> tuple[str, ...]:
    """Return a loss as the columns of `figures`."""
    per_char = f"{loss.characters:,}", f"{loss.nats:.4f}", f"{loss.bits:.4f}", f"{loss.perplexity:,.4f}"
    if loss.items is None:
        return (*per_char, "", "") if has_items else per_char
    return (*per_char, f"{loss.items:,}", f"{loss.bits_per_item:.2f}")


def table(scorers: Sequence[Scorer]) -> Iterator[str]:
    """Yield the lines of a table with a row per model."""
    has_items = isinstance(scorers[0], ItemScorer)
    rows = [(printable(each.name), *cells(each.loss, has_items=has_items)) for each in scorers]
    return aligned([("model", *figures(has_items=has_items)), *rows], texts=1)


def aligned(rows: Sequence[Sequence[str]], texts: int) -> Iterator[str]:
    """Yield the lines of a table: the first columns are texts, the others numbers.

    If it is too wide for the terminal, each row becomes a table of its own, with a line for each column.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if is_wrapped() and sum(widths) + 2 * (len(widths) - 1) > columns():
        names, *rest = rows
        for number, row in enumerate(rest):
            if number:
                yield ""
            yield from (f"{name:<{max(map(len, names))}}  {cell}" for name, cell in zip(names, row, strict=True))
        return
    for row in rows:
        padded = zip(row, widths, strict=True)
        line = "  ".join(
            cell.rjust(width) if i >= texts else cell.ljust(width) for i, (cell, width) in enumerate(padded)
        )
        yield line.rstrip()


def as_json(scorer: Scorer, digest: str) -> str:
    """Return the result of a model as a JSON object."""
    loss = scorer.loss
    facts: dict[str, Any] = {
        "model": scorer.name,
        "digest": digest,
        "characters": loss.characters,
        "nats_per_char": loss.nats,
        "bits_per_char": loss.bits,
        "perplexity": loss.perplexity if math.isfinite(loss.perplexity) else None,
    }
    if loss.items is not None:
        facts |= {"items": loss.items, "nats_per_item": loss.nats_per_item, "bits_per_item": loss.bits_per_item}
    return json.dumps(facts | {"unknown": scorer.unknown_chars.total()}, ensure_ascii=False)


def write_chars(pieces: Iterable[Piece], scorers: Sequence[Scorer]) -> None:
    """Print a JSON object for each character and each model that scored it."""
    heads = [json.dumps({"model": scorer.name}, ensure_ascii=False)[:-1] for scorer in scorers]
    has_items = isinstance(scorers[0], ItemScorer)
    item = index = 0
    for text, surprise in pieces:
        shown = {char: json.dumps(None if char == END else char, ensure_ascii=False) for char in set(text)}
        lines = []
        for char, *of_models in zip(text, *(each.tolist() for each in surprise), strict=True):
            where = f'"item": {item}, "index": {index}' if has_items else f'"index": {index}'
            lines += [
                f'{head}, {where}, "char": {shown[char]}, "bits": {round(bits, 6)}}}\n'
                for head, bits in zip(heads, of_models, strict=True)
                if not math.isnan(bits)
            ]
            item, index = (item + 1, 0) if char == END else (item, index + 1)
        write(for_output("".join(lines)))


def write_items(pieces: Iterable[Piece], scorers: Sequence[Scorer]) -> None:
    """Print a JSON object for each item and each model: its text, its characters with its end, and their surprise."""
    number = 0
    for chars, surprise in pieces:
        ends = [place for place, char in enumerate(chars) if char == END]
        for begin, end in zip([0, *(end + 1 for end in ends[:-1])], ends, strict=True):
            for scorer, each in zip(scorers, surprise, strict=True):
                bits = each[begin : end + 1]
                facts = {
                    "model": scorer.name,
                    "item": number,
                    "text": "".join(chars[begin:end]),
                    "characters": int(np.count_nonzero(~np.isnan(bits))),
                    "bits": round(float(np.nansum(bits)), 6),
                }
                write(for_output(json.dumps(facts, ensure_ascii=False) + "\n"))
            number += 1


def show_heat(pieces: Iterable[Piece], scorers: Sequence[Scorer]) -> None:
    """Print the heat map; with several models, each line of the text is repeated for each model."""
    from rich.console import Console
    from rich.text import Text

    from knock.cli.ui.heat import DIGITS, heat_digits, heat_lines, legend

    console = Console(highlight=False, soft_wrap=True)
    has_colours = bool(console.color_system) and not (console.no_color or console.legacy_windows)
    marks = [f"{number} " for number in range(1, len(scorers) + 1)] if len(scorers) > 1 else [""]
    width = max(10, console.width - len(marks[-1]))

    def show(line: Text) -> None:
        with console.capture() as captured:  # Rich itself would exit the process on a broken pipe
            console.print(line)
        write(captured.get())

    def text_and_bits(copy: Iterator[Piece], number: int) -> tuple[Iterable[str], Iterable[float], int]:
        first, second = itertools.tee(copy)
        bits = (piece.surprise[number].tolist() for piece in second)
        return chain(piece.text for piece in first), chain(bits), width

    chain = itertools.chain.from_iterable
    views = [text_and_bits(copy, number) for number, copy in enumerate(itertools.tee(pieces, len(scorers)))]
    show(legend(console.width) if has_colours else Text(wrapped(DIGITS, console.width)))
    for mark, scorer in zip(marks, scorers, strict=True):
        write(f"{mark}{printable(scorer.name)}\n" if mark else "")
    write("\n")
    if has_colours:
        for lines in zip(*(heat_lines(*view) for view in views), strict=True):
            for mark, line in zip(marks, lines, strict=True):
                show(Text.assemble(mark, line))
    else:
        rows = zip(*(heat_digits(*view) for view in views), strict=True)
        for texts, digits in zip(rows, rows, strict=True):
            write(" " * len(marks[0]) + texts[0] + "\n")  # the same for all models
            write("".join(f"{mark}{each}\n" for mark, each in zip(marks, digits, strict=True)))
    write("\n")


def report_unknown(scorers: Sequence[Scorer], unknown: str) -> None:
    """Report the characters that were skipped or replaced."""
    for scorer in scorers:
        if scorer.marks:
            say(f"knock: {scorer.name!r} does not know byte-order marks (U+FEFF): skipped {scorer.marks:,}")
        count = scorer.unknown_chars.total()
        if count:
            most = scorer.unknown_chars.most_common(_MAX_UNKNOWN)
            more = f" and {len(scorer.unknown_chars) - len(most)} more" if len(scorer.unknown_chars) > len(most) else ""
            say(
                f"knock: {DONE[unknown]} {characters(count)} that {scorer.name!r} does not know: "
                f"{', '.join(f'{char!r} {times:,}' for char, times in most)}{more}"
            )
