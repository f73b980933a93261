"""Measure how well models predict a text: bits per character, perplexity, heat map.

The surprise of a character, in bits, is -log2 of the probability that the model gave it; the first character is scored
as after an empty prompt. The result is a table with one row per model; --heat prints a heat map before it, --json and
--chars replace it. The text is read once, in pieces, so it may be of any length. Perplexity is per character: 2 to the
power of the bits per character, not comparable with the perplexity per word or token of other models.

--held-out measures the part of a training corpus that knock train held out, as knock train does at the end: in
independent blocks of 256 characters, and in one continuous stream.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import math
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from knock.choices import UNKNOWN
from knock.cli.ui.options import add_backend_argument
from knock.cli.ui.terminal import columns, for_output, is_wrapped, printable, read_input, say, wrapped, write
from knock.errors import KnockError, TextError
from knock.models import DEFAULT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from knock.files.corpus import TokenizedText
    from knock.generation.scoring import Scorer
    from knock.language_model import LanguageModel
    from knock.vocab import Vocab

EXAMPLES = """examples:
  knock score book.txt
  knock score book.txt --model shakespeare-small --model my.safetensors --unknown skip
  knock score letter.txt --heat
  cat letter.txt | knock score - --chars > surprise.jsonl
  knock score --held-out corpus.txt --model my.safetensors

A line of --chars, where index counts characters from 0:
  {"model": "my.npz", "index": 0, "char": "F", "bits": 3.519042}
"""

_PIECE = 2**17  # characters scored at a time, to bound memory
_MAX_UNKNOWN = 10  # unknown characters listed in a notice
_DONE = {"skip": "skipped", "replace": "replaced"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE",
                        help="text to score, in UTF-8; - is standard input, with the newline that echo adds. With "
                             "--held-out, the files and folders of a corpus, as given to knock train")  # fmt: skip
    parser.add_argument("-m", "--model", action="append", dest="models", metavar="MODEL",
                        help=f"a shipped model, a file or a folder; can be repeated (default: {DEFAULT})")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters that a model does not know (default: error)")  # fmt: skip
    parser.add_argument("--held-out", action="store_true",
                        help="measure the last 10%% of the corpus, which knock train holds out: the mean over all its "
                             "characters except the first")  # fmt: skip
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
    if options.held_out:
        if options.heat or options.chars:
            options.error(f"--held-out measures losses; drop {'--heat' if options.heat else '--chars'}")
        if "-" in options.files and len(options.files) > 1:
            options.error("- (standard input) must be the only FILE")
        return _score_held_out(options)
    if len(options.files) > 1:
        options.error(f"{len(options.files)} files are a corpus, which --held-out measures; give one FILE")
    return _score(options)


def _score(options: argparse.Namespace) -> int:
    from knock.generation.scoring import Scorer
    from knock.language_model import load

    (file,) = options.files
    models = {name: load(name, backend=options.backend) for name in options.models or [DEFAULT]}
    chunks, size, likely = _text(file)
    for model in models.values():
        model.model.engine.settle(positions=likely)  # all characters are scored by the same backend
    scorers = [Scorer(name, model.model.engine, model.vocab, options.unknown) for name, model in models.items()]
    pieces = _pieces(chunks, scorers, size, is_shown=options.heat or options.chars)
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


def _text(file: str) -> tuple[Iterable[str], int, int]:
    """Return the text in non-empty chunks, its size in bytes, 0 if unknown, and a lower bound of that size."""
    from knock.files.text import read_chunks

    chunks, size = _standard_input() if file == "-" else read_chunks(file), 0
    with contextlib.suppress(OSError, ValueError, AttributeError):  # reading the text reports the error
        status = os.fstat(sys.stdin.fileno()) if file == "-" else Path(file).stat()
        if stat.S_ISREG(status.st_mode):
            size = status.st_size
    if size:
        return chunks, size, size
    first = list(itertools.islice(chunks, 2))
    return itertools.chain(first, chunks), 0, sum(len(text.encode()) for text in first)


def _standard_input() -> Iterator[str]:
    from knock.files.text import decoded

    try:
        yield from decoded(sys.stdin.buffer, "standard input")
    except (AttributeError, OSError) as error:  # AttributeError: sys.stdin is None
        raise KnockError("cannot read standard input; pass a file as the argument") from error


def _pieces(chunks: Iterable[str], scorers: list[Scorer], size: int, *, is_shown: bool) -> Iterator[Piece]:
    """Score the text piece by piece with all models, and show progress.

    Args:
        chunks: The text.
        scorers: The scorers, one per model.
        size: Size of the text in bytes; 0 if unknown.
        is_shown: Whether the pieces are printed, perhaps on the terminal that shows the progress.

    Raises:
        TextError: if the text cannot be read, is not UTF-8, or has no character to score.
        VocabError: at a character that a model does not know, if unknown characters are errors.
    """
    from knock.cli.ui.progress import ShareLine
    from knock.normal_forms import unbroken

    characters, done = 0, 0
    with ShareLine("scored") as line:

        def show(number: int, share: float) -> None:
            """Show progress within a piece: the models before this one are done, and a share of it."""
            of_piece = (number + share) / len(scorers)
            if size:
                line.show(min(1.0, (done + of_piece * width) / size))  # the file may grow
            else:
                line.count(characters + int(of_piece * len(text)))

        pieces = (chunk[start : start + _PIECE] for chunk in chunks for start in range(0, len(chunk), _PIECE))
        for text in unbroken(pieces):
            width = len(text.encode())
            surprise = [scorer.feed(text, functools.partial(show, number)) for number, scorer in enumerate(scorers)]
            if is_shown:
                line.clear()
            yield Piece(text, surprise)
            characters, done = characters + len(text), done + width
    if not characters:
        raise TextError("the text is empty; there is nothing to score")
    for scorer in scorers:
        if scorer.chars == 0:
            raise TextError(f"the text has no character that {scorer.name!r} knows; there is nothing to score")


def _score_held_out(options: argparse.Namespace) -> int:
    """Measure the losses of models on the held-out part of a corpus, and print them."""
    from knock.cli.ui.progress import ShareLine
    from knock.generation.evaluation import as_record, evaluate
    from knock.language_model import load

    models = {name: load(name, backend=options.backend) for name in options.models or [DEFAULT]}
    given = read_input() if options.files == ["-"] else None
    losses = {}
    with ShareLine("measured") as line:
        for number, (name, model) in enumerate(models.items()):

            def show(share: float, number: int = number) -> None:
                line.show((number + share) / len(models))

            text = _corpus(options, model.vocab, given)
            losses[name] = evaluate(model.model.engine, text.held_out, progress=show)
            line.clear()
            _report_corpus(name, model, text, losses[name]["stream"].characters)
    if options.json:
        for name, measured in losses.items():
            facts = {"model": name, "digest": models[name].digest, "held_out": as_record(measured)}
            write(json.dumps(facts, ensure_ascii=False) + "\n")
        return 0
    rows = [
        (printable(name), of.replace("_", " "), *_cells(loss.characters, loss.nats, loss.bits, loss.perplexity))
        for name, measured in losses.items()
        for of, loss in measured.items()
    ]
    write("".join(f"{line}\n" for line in _aligned([("model", "loss", *_FIGURES), *rows], texts=2)))
    return 0


def _corpus(options: argparse.Namespace, vocab: Vocab, given: str | None) -> TokenizedText:
    """Return the corpus as tokens of a model, read as in training."""
    from knock.files.corpus import TokenizedText

    if given is not None:
        return TokenizedText.from_text(given, "standard input", vocab=vocab, unknown=options.unknown)
    return TokenizedText.read(options.files, vocab=vocab, unknown=options.unknown)


def _report_corpus(name: str, model: LanguageModel, text: TokenizedText, predicted: int) -> None:
    """Report what was left out of the measurement, and a corpus that the model was not trained on."""
    if text.marks:
        say(f"knock: {name!r} does not know byte-order marks (U+FEFF): skipped {text.marks:,}")
    if text.unknown_count:
        say(f"knock: {_DONE[text.unknown]} {_characters(text.unknown_count)} that {name!r} does not know")
    if predicted < len(text.held_out) - 1:
        say(f"knock: measured the first {_characters(predicted)} of the {_characters(len(text.held_out))} held out")
    trained_on = model.training.get("corpus", {})
    if trained_on.get("sha256", text.sha256) != text.sha256:
        say(f"knock: {name!r} was trained on another text, {printable(str(trained_on.get('name')))}; "
            "training may have seen what this one holds out")  # fmt: skip


def _characters(count: int) -> str:
    return f"{count:,} character{'s' * (count != 1)}"


_FIGURES = ("chars", "nats/char", "bits/char", "perplexity/char")


def _cells(characters: int, nats: float, bits: float, perplexity: float) -> tuple[str, ...]:
    """Return the columns of `_FIGURES`."""
    return f"{characters:,}", f"{nats:.4f}", f"{bits:.4f}", f"{perplexity:,.4f}"


def _table(scorers: list[Scorer]) -> Iterator[str]:
    rows = [
        (printable(each.name), *_cells(each.chars, each.nats_per_char, each.bits_per_char, each.perplexity))
        for each in scorers
    ]
    return _aligned([("model", *_FIGURES), *rows], texts=1)


def _aligned(rows: Sequence[Sequence[str]], texts: int) -> Iterator[str]:
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
        cells = zip(row, widths, strict=True)
        yield "  ".join(cell.rjust(width) if i >= texts else cell.ljust(width) for i, (cell, width) in enumerate(cells))


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


def _report_unknown(scorers: list[Scorer], unknown: str) -> None:
    for scorer in scorers:
        if scorer.marks:
            say(f"knock: {scorer.name!r} does not know byte-order marks (U+FEFF): skipped {scorer.marks:,}")
        count = scorer.unknown_chars.total()
        if count:
            most = scorer.unknown_chars.most_common(_MAX_UNKNOWN)
            more = f" and {len(scorer.unknown_chars) - len(most)} more" if len(scorer.unknown_chars) > len(most) else ""
            say(
                f"knock: {_DONE[unknown]} {_characters(count)} that {scorer.name!r} does not know: "
                f"{', '.join(f'{char!r} {times:,}' for char, times in most)}{more}"
            )
