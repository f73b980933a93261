"""Measure how well models predict a text: bits per character, perplexity, heat map.

The surprise of a character, in bits, is -log2 of the probability that the model gave it; the first character is scored
as after an empty prompt. The result is a table with one row per model; --heat prints a heat map before it, --json,
--chars and --items replace it. The text is read once, in pieces, so it may be of any length. Perplexity is per
character: 2 to the power of the bits per character, not comparable with the perplexity per word or token of others.

A model of items, such as names, is given one item per line, or a file like the one that it was trained on. Each item is
scored alone, and so is its end, which counts as a character. Blank items are skipped.

--held-out measures the part of a training corpus that knock train held out, as knock train does at the end: in
independent blocks of 256 characters, and in one continuous stream; or the items.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from knock.choices import UNKNOWN
from knock.cli.ui.options import add_backend_argument, add_precision_argument
from knock.cli.ui.terminal import write
from knock.errors import KnockError
from knock.models import DEFAULT

if TYPE_CHECKING:
    from knock.files.items import Items
    from knock.generation.scoring import ItemScorer
    from knock.language_model import LanguageModel

EXAMPLES = """examples:
  knock score book.txt
  knock score book.txt --model shakespeare-small --model my.safetensors --unknown skip
  knock score letter.txt --heat
  cat letter.txt | knock score - --chars > surprise.jsonl
  knock score surnames.txt --model names.safetensors --items
  knock score --held-out corpus.txt --model my.safetensors

A line of --chars, where index counts characters from 0; and one of a model of items, where null is the end of the item:
  {"model": "my.npz", "index": 0, "char": "F", "bits": 3.519042}
  {"model": "names.npz", "item": 0, "index": 5, "char": null, "bits": 0.412117}
"""


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
                        help="measure the part of the corpus that knock train held out: the mean over all its "
                             "characters except the first")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--heat", action="store_true",
                      help="show the surprise of each character as a colour, or as a digit if the output has no "
                           "colours")  # fmt: skip
    form.add_argument("--chars", action="store_true", help="print one JSON object per character and model")
    form.add_argument(
        "--items", action="store_true", help="print one JSON object per item and model, of models of items"
    )
    form.add_argument("--json", action="store_true", help="print one JSON object per model")
    add_backend_argument(parser)
    add_precision_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Score the text and print the result."""
    if options.held_out:
        from knock.cli.score.held_out import score_held_out

        for form in ("heat", "chars", "items"):
            if vars(options)[form]:
                options.error(f"--held-out measures losses; drop --{form}")
        if "-" in options.files and len(options.files) > 1:
            options.error("- (standard input) must be the only FILE")
        return score_held_out(options)
    if len(options.files) > 1:
        options.error(f"{len(options.files)} files are a corpus, which --held-out measures; give one FILE")
    return _score(options)


def _score(options: argparse.Namespace) -> int:
    from knock.cli.score import output
    from knock.cli.score.pieces import pieces_of_items, pieces_of_text, text_at
    from knock.generation.scoring import ItemScorer, Scorer
    from knock.language_model import load

    (file,) = options.files
    models = {
        name: load(name, backend=options.backend, precision=options.precision) for name in options.models or [DEFAULT]
    }
    items = _items_of(models)
    if options.items and items is None:
        options.error("--items is for models of items; use --chars")
    text = text_at(file)
    for model in models.values():
        model.model.engine.settle(positions=text.at_least)  # all characters are scored by the same backend
    is_shown = options.heat or options.chars or options.items
    scorers: Sequence[Scorer] | Sequence[ItemScorer]
    if items is None:
        scorers = plain = [Scorer(name, of.model.engine, of.vocab, options.unknown) for name, of in models.items()]
        pieces = pieces_of_text(text, plain, is_shown=is_shown)
    else:
        scorers = of_items = [
            ItemScorer(name, of.model.engine, of.vocab, options.unknown) for name, of in models.items()
        ]
        pieces = pieces_of_items(text, items, of_items, is_shown=is_shown)
    if options.heat:
        output.show_heat(pieces, scorers)
    elif options.chars:
        output.write_chars(pieces, scorers)
    elif options.items:
        output.write_items(pieces, scorers)
    else:
        for _ in pieces:
            pass
    output.report_unknown(scorers, options.unknown)
    if options.json:
        write("".join(f"{output.as_json(scorer, models[scorer.name].digest)}\n" for scorer in scorers))
    elif not (options.chars or options.items):
        write("".join(f"{line}\n" for line in output.table(scorers)))
    return 0


def _items_of(models: dict[str, LanguageModel]) -> Items | None:
    """Return what an item of the models is; None for models of plain text.

    Raises:
        KnockError: if that differs, because the models then read different texts.
    """
    from knock.files.corpus import recorded_settings
    from knock.files.items import Items

    kinds: dict[str, Items | None] = {}
    for name, model in models.items():
        kinds[name] = None
        if model.vocab.has_boundary:
            recorded = recorded_settings(model.training).get("items")
            is_known = recorded is not None and recorded.kind != "texts"
            kinds[name] = recorded if is_known else Items(kind="lines")
    first, *others = kinds
    for name in others:
        if kinds[name] != kinds[first]:
            raise KnockError(
                f"{first!r} reads {_described(kinds[first])} and {name!r} {_described(kinds[name])}; score them one at "
                "a time"
            )
    return kinds[first]


def _described(items: Items | None) -> str:
    if items is None:
        return "plain text"
    return items.kind if items.column is None else f"the column {items.column!r}"
