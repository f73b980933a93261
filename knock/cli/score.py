"""Measure how well models predict a text: bits per character, perplexity, heat map.

The surprise of a character, in bits, is -log2 of the probability that the model gave it; the first character is scored
as after an empty prompt. The result is a table with one row per model; --heat prints a heat map before it, --json and
--chars replace it. The text is read once, in pieces, so it may be of any length.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from knock.choices import UNKNOWN
from knock.cli.ui.options import add_backend_argument
from knock.cli.ui.terminal import for_output, printable, read_input, say, write
from knock.errors import TextError
from knock.models import DEFAULT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from knock.generation.scoring import Scorer
    from knock.language_model import LanguageModel

EXAMPLES = """examples:
  knock score book.txt
  knock score book.txt --model shakespeare-small --model my.safetensors --unknown skip
  knock score letter.txt --heat
  cat letter.txt | knock score - --chars > surprise.jsonl

A line of --chars, where index counts characters from 0:
  {"model": "my.npz", "index": 0, "char": "F", "bits": 3.519042}
"""

_PIECE = 2**17  # characters scored at a time, to bound memory
_MAX_UNKNOWN = 10  # unknown characters listed in a notice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", metavar="FILE", help="text to score, in UTF-8; - is standard input")
    parser.add_argument("--model", action="append", dest="models", metavar="MODEL",
                        help=f"a shipped model, a file or a folder; can be repeated (default: {DEFAULT})")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters that a model does not know (default: error)")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--heat", action="store_true",
                      help="show the surprise of each character as a colour, or as a digit if the output has no "
                           "colours")  # fmt: skip
    form.add_argument("--chars", action="store_true", help="print one JSON object per character and model")
    form.add_argument("--json", action="store_true", help="print one JSON object per model")
    add_backend_argument(parser)


class Piece(NamedTuple):
    """A piece of the text and the surprise of its characters.

    Attributes:
        text: The piece.
        surprise: Surprise in bits for each model, [N] float64; NaN for skipped characters.
    """

    text: str
    surprise: list[npt.NDArray[np.float64]]


def run(options: argparse.Namespace) -> int:
    """Score the text and print the result."""
    from knock.generation.scoring import Scorer

    chunks, size = _text(options.file)
    models = {name: _model(name, options.backend, size) for name in options.models or [DEFAULT]}
    scorers = [Scorer(name, model.model.engine, model.vocab, options.unknown) for name, model in models.items()]
    pieces = _pieces(chunks, scorers, 0 if options.heat or options.chars else size)
    if options.heat:
        _show_heat(pieces, scorers)
    elif options.chars:
        _write_chars(pieces, scorers)
    else:
        for _ in pieces:
            pass
    _report_unknown(scorers, options.unknown)
    if options.json:
        write("".join(f"{_as_json(scorer, models[scorer.name].digest)}\n" for scorer in scorers))
    elif not options.chars:
        write("".join(f"{line}\n" for line in _table(scorers)))
    return 0


def _text(file: str) -> tuple[Iterable[str], int]:
    """Return the text in non-empty chunks, and its approximate size in bytes, 0 if unknown."""
    from knock.files.text import read_chunks

    if file == "-":
        text = read_input()
        return ([text] if text else []), len(text.encode())
    size = 0
    with contextlib.suppress(OSError, ValueError):  # reading the file reports the error
        size = Path(file).stat().st_size
    return read_chunks(file), size


def _model(name: str, backend: Any, size: int) -> LanguageModel:
    """Load a model and fix its backend, so that all characters are scored by the same one."""
    from knock.language_model import load

    model = load(name, backend=backend)
    model.model.engine.settle(positions=size)
    return model


def _pieces(chunks: Iterable[str], scorers: list[Scorer], size: int) -> Iterator[Piece]:
    """Score the text piece by piece with all models.

    Args:
        chunks: The text.
        scorers: The scorers, one per model.
        size: Size of the text in bytes, to show progress; 0 shows none.

    Raises:
        TextError: if the text cannot be read, is not UTF-8, or has no character to score.
        VocabError: at a character that a model does not know, if unknown characters are errors.
    """
    from knock.cli.ui.progress import ShareLine

    is_empty, done = True, 0
    with ShareLine("scored") as line:
        for chunk in chunks:
            is_empty = False
            for start in range(0, len(chunk), _PIECE):
                text = chunk[start : start + _PIECE]
                yield Piece(text, [scorer.feed(text) for scorer in scorers])
                done += len(text.encode())
                if size:
                    line.show(done / size)
    if is_empty:
        raise TextError("the text is empty; there is nothing to score")
    for scorer in scorers:
        if scorer.chars == 0:
            raise TextError(f"the text has no character that {scorer.name!r} knows; there is nothing to score")


def _table(scorers: list[Scorer]) -> Iterator[str]:
    rows = [("model", "characters", "nats/char", "bits/char", "perplexity")]
    rows += [
        (printable(each.name), f"{each.chars:,}", f"{each.nats_per_char:.4f}", f"{each.bits_per_char:.4f}",
         f"{each.perplexity:,.4f}")
        for each in scorers
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for model, *numbers in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        yield "  ".join([model.ljust(widths[0]), *cells])


def _as_json(scorer: Scorer, digest: str) -> str:
    facts: dict[str, Any] = {
        "model": scorer.name,
        "digest": digest,
        "characters": scorer.chars,
        "nats_per_char": scorer.nats_per_char,
        "bits_per_char": scorer.bits_per_char,
        "perplexity": scorer.perplexity if math.isfinite(scorer.perplexity) else None,
        "unknown": scorer.unknown_chars.total(),
    }
    return json.dumps(facts, ensure_ascii=False)


def _write_chars(pieces: Iterable[Piece], scorers: list[Scorer]) -> None:
    """Print a JSON object for each character and each model that scored it."""
    heads = [json.dumps({"model": scorer.name}, ensure_ascii=False)[:-1] for scorer in scorers]
    begin = 0
    for text, surprise in pieces:
        shown = {char: json.dumps(char, ensure_ascii=False) for char in set(text)}
        rows = zip(text, *(each.tolist() for each in surprise), strict=True)
        lines = (
            f'{head}, "index": {index}, "char": {shown[char]}, "bits": {round(bits, 6)}}}\n'
            for index, (char, *of_models) in enumerate(rows, begin)
            for head, bits in zip(heads, of_models, strict=True)
            if not math.isnan(bits)
        )
        write(for_output("".join(lines)))
        begin += len(text)


def _show_heat(pieces: Iterable[Piece], scorers: list[Scorer]) -> None:
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
    show(legend() if has_colours else Text(DIGITS))
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


def _report_unknown(scorers: list[Scorer], unknown: str) -> None:
    done = {"skip": "skipped", "replace": "replaced"}
    for scorer in scorers:
        count = scorer.unknown_chars.total()
        if count:
            most = scorer.unknown_chars.most_common(_MAX_UNKNOWN)
            more = f" and {len(scorer.unknown_chars) - len(most)} more" if len(scorer.unknown_chars) > len(most) else ""
            say(
                f"knock: {done[unknown]} {count:,} character{'s' * (count > 1)} that {scorer.name!r} does not know: "
                f"{', '.join(f'{char!r} {times:,}' for char, times in most)}{more}"
            )
