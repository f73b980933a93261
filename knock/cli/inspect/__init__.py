"""Show what a model learned: its reweight patterns, its attention, its predictions on a text.

One line per head shows how it distributes its attention over the window, on average over a text. With --text or
--file, the output also shows for each character what the model predicted, its surprise, and which characters it
attended to. Otherwise the averages are over a short text that the model generates; --char then shows the predictions
after that character. A model of items reads the text as the beginning of an item, and may predict its end.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from knock.choices import DEFAULT_PRECISION, UNKNOWN
from knock.cli.ui.options import add_force_argument, add_precision_argument, path_ending_in
from knock.cli.ui.output_file import check_output, write_output
from knock.cli.ui.terminal import printable, read_input, say
from knock.escapes import unescape
from knock.models import DEFAULT
from knock.words import counted

if TYPE_CHECKING:
    from knock.cli.inspect.subject import Subject
    from knock.language_model import LanguageModel

EXAMPLES = r"""examples:
  knock inspect
  knock inspect --full
  knock inspect --text "To be, or not to be" --char e
  knock inspect my.safetensors --file letter.txt --html letter.html
  knock inspect shakespeare-hybrid --char "\n" --plot patterns.svg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", nargs="?", default=DEFAULT, metavar="MODEL",
                        help=f"a shipped model, a file or a folder (default: {DEFAULT})")  # fmt: skip
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--text", metavar="TEXT", help="text to inspect")
    text.add_argument("--file", metavar="FILE", help="file with the text, in UTF-8; - is standard input")
    parser.add_argument("--char", type=_character, metavar="CHAR",
                        help=r"also show the attention of each head when it reads CHAR; \n is a newline")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters that the model does not know (default: error)")  # fmt: skip
    parser.add_argument("--full", action="store_true",
                        help="also print the reweight patterns of each head, and standard deviations")  # fmt: skip
    parser.add_argument("--plot", type=_path_of(".png", ".svg"), metavar="FILE",
                        help="plot the patterns to FILE, .png or .svg, instead of printing them; needs "
                             "Matplotlib")  # fmt: skip
    parser.add_argument("--html", type=_path_of(".html", ".htm"), metavar="FILE",
                        help="write a web page with the text and the model inside to FILE instead of printing, as "
                             "knock page does")  # fmt: skip
    add_precision_argument(parser)
    add_force_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Print the inspection, or write the requested files."""
    _check(options)

    from knock.language_model import load
    from knock.models import locate

    path = locate(options.model)
    model = load(path, precision=options.precision)
    char = None if options.char is None else _known(model, options.char)  # checked before any work is done
    text = _text(options, model)
    if options.plot is not None or options.html is None:
        subject = _subject(options, path, model, text, char)
        if options.plot is None:
            from knock.cli.inspect.view import show

            show(subject, is_full=options.full)
        else:
            from knock.cli.inspect.plot import plot

            write_output(options.plot, plot(subject, options.plot.suffix.lower()[1:]))
    if options.html is not None:
        from knock.cli.inspect.page import page

        write_output(options.html, page(model, path, text.text, text.described, text.name, char))
    return 0


def _check(options: argparse.Namespace) -> None:
    """Check the files to write, before any work is done."""
    from knock.errors import missing_package

    inputs = [options.file or ""]
    if options.plot is not None:
        from importlib.util import find_spec

        check_output(options.plot, force=options.force, inputs=inputs)
        if find_spec("matplotlib") is None:
            raise missing_package("--plot", "Matplotlib", "plot")
    if options.html is not None:
        if options.precision != DEFAULT_PRECISION:
            options.error(
                f"the model in a page computes with precision {DEFAULT_PRECISION}, got --precision "
                f"{options.precision}; leave it out"
            )
        check_output(options.html, force=options.force, inputs=inputs)


class _Text(NamedTuple):
    """A text to inspect.

    Attributes:
        text: The text, as the model reads it.
        source: Description of its source.
        name: The text in a word or two.
        described: Its source in a sentence, without folders: a page may be read by others.
    """

    text: str
    source: str
    name: str
    described: str


def _subject(options: argparse.Namespace, path: Path, model: LanguageModel, text: _Text, char: str | None) -> Subject:
    """Compute what to show."""
    from knock.cli.inspect.subject import Subject
    from knock.inspection import inspect_text, with_character

    inspection = inspect_text(model, text.text, unknown=options.unknown)
    char_attention = None
    if char is not None:
        char_attention, _ = with_character(model, inspection.attention, char)
    return Subject(
        name=path.stem,
        vocab=model.vocab,
        source=text.source,
        is_own=options.text is None and options.file is None,
        inspection=inspection,
        char=char,
        char_attention=char_attention,
    )


def _known(model: LanguageModel, char: str) -> str:
    """Return a character as the model reads it.

    Raises:
        VocabError: if the model does not know it, or only as several characters in another Unicode normal form.
    """
    from knock.errors import VocabError

    known = model.vocab.decode(model.vocab.encode(char))
    if len(known) != 1:
        raise VocabError(
            f"the model reads {char!r} as {len(known)} characters, {known!r} in another Unicode normal form; pass one "
            "of them to --char"
        )
    return known


def _text(options: argparse.Namespace, model: LanguageModel) -> _Text:
    """Return the text to inspect; one that is too long is truncated."""
    from knock.errors import TextError
    from knock.files.text import decode_utf8, read_text
    from knock.inspection import OWN_ITEMS, OWN_TEXT_SEED, longest_text, own_text

    if options.text is None and options.file is None:
        text = own_text(model)
        if not text:
            raise TextError("all items that the model generates are empty; pass a --text to inspect")
        which = f", the longest of {OWN_ITEMS} items" if model.vocab.has_boundary else ""
        source = f"{counted(len(text), 'character')}{which} generated by the model, seed {OWN_TEXT_SEED}"
        return _Text(text, source, "Its own text", f"The text is {source}.")
    if options.text is not None:
        # In a locale that is not UTF-8, Python represents undecodable bytes by surrogates; fsencode restores them.
        given, source, name = decode_utf8(os.fsencode(options.text), "the text"), "the text", "A text"
    elif options.file == "-":
        given, source, name = read_input(), "standard input", "Standard input"
    else:
        given, source = read_text(options.file), printable(options.file)
        name = printable(Path(options.file).name)
    if not given:
        raise TextError(f"{source} is empty; there is nothing to inspect")
    longest, total = longest_text(model.model.config), len(given)
    if total > longest:
        say(f"knock: only the first {longest:,} of {total:,} characters are inspected")
        given = given[:longest]
    text = model.vocab.decode(model.vocab.encode(given, unknown=options.unknown))
    if not text:
        raise TextError(f"{source} has no character that the model knows; there is nothing to inspect")
    n_unknown = len(model.vocab.examine(given)[0])
    if n_unknown:
        done = {"skip": "skipped", "replace": "replaced"}[options.unknown]
        say(f"knock: {done} {n_unknown:,} character{'s' * (n_unknown > 1)} that the model does not know")
    length = f"the first {longest:,} of {total:,} characters" if total > longest else counted(len(text), "character")
    described = f"The text has {length}." if options.file is None else f"The text is {name}, {length}."
    return _Text(text, f"{source}, {length}", name, described)


def _character(argument: str) -> str:
    """Argument type: a single character."""
    char = unescape(argument)
    if len(char) != 1:
        raise argparse.ArgumentTypeError(f"must be one character, got {len(char)}: {argument[:20]!r}")
    return char


def _path_of(*suffixes: str) -> Callable[[str], Path]:
    """Return an argument type for paths with one of the suffixes."""
    checked = path_ending_in(*suffixes)
    return lambda argument: Path(checked(argument))
