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
from typing import TYPE_CHECKING

from knock.choices import UNKNOWN
from knock.cli.ui.options import add_force_argument, add_precision_argument, path_ending_in
from knock.cli.ui.terminal import printable, read_input, say, write
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
                        help="write an interactive, self-contained web page to FILE instead of printing")  # fmt: skip
    add_precision_argument(parser)
    add_force_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Print the inspection, or write the requested files."""
    writers = _writers(options)
    subject = _subject(options)
    for path, content in writers:
        size = _write_file(path, content(subject))
        write(f"{printable(str(path))}: {size:,} bytes\n")
    if not writers:
        from knock.cli.inspect.view import show

        show(subject, is_full=options.full)
    return 0


def _writers(options: argparse.Namespace) -> list[tuple[Path, Callable[[Subject], bytes]]]:
    """Return the files to write, each with a function that renders its content; check them before any work is done."""
    from knock.errors import missing_package

    writers: list[tuple[Path, Callable[[Subject], bytes]]] = []
    if options.plot is not None:
        from importlib.util import find_spec

        _check_output(options.plot, options)
        if find_spec("matplotlib") is None:
            raise missing_package("--plot", "Matplotlib", "plot")
        from knock.cli.inspect.plot import plot

        writers.append((options.plot, lambda subject: plot(subject, options.plot.suffix.lower()[1:])))
    if options.html is not None:
        from knock.cli.inspect.page import page

        _check_output(options.html, options)
        writers.append((options.html, page))
    return writers


def _subject(options: argparse.Namespace) -> Subject:
    """Load the model and compute what to show."""
    from knock.cli.inspect.subject import Subject
    from knock.inspection import inspect_text, with_character
    from knock.language_model import load
    from knock.models import locate

    model = load(options.model, precision=options.precision)
    char = None if options.char is None else _known(model, options.char)  # checked before any work is done
    text, source = _text(options, model)
    inspection = inspect_text(model, text, unknown=options.unknown)
    char_attention = None
    if char is not None:
        char_attention, _ = with_character(model, inspection.attention, char)
    return Subject(
        name=locate(options.model).stem,
        vocab=model.vocab,
        source=source,
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


def _text(options: argparse.Namespace, model: LanguageModel) -> tuple[str, str]:
    """Return the text as the model reads it, and a description of its source."""
    from knock.errors import TextError
    from knock.files.text import decode_utf8, read_text
    from knock.inspection import OWN_ITEMS, OWN_TEXT_SEED, longest_text, own_text

    if options.text is None and options.file is None:
        text = own_text(model)
        if not text:
            raise TextError("all items that the model generates are empty; pass a --text to inspect")
        which = f", the longest of {OWN_ITEMS} items" if model.vocab.has_boundary else ""
        return text, f"{counted(len(text), 'character')}{which} generated by the model, seed {OWN_TEXT_SEED}"
    if options.text is not None:
        # In a locale that is not UTF-8, Python represents undecodable bytes by surrogates; fsencode restores them.
        given, source = decode_utf8(os.fsencode(options.text), "the text"), "the text"
    elif options.file == "-":
        given, source = read_input(), "standard input"
    else:
        given, source = read_text(options.file), printable(options.file)
    if not given:
        raise TextError(f"{source} is empty; there is nothing to inspect")
    longest = longest_text(model.model.config)
    if len(given) > longest:
        say(f"knock: only the first {longest:,} of {len(given):,} characters are inspected")
        given = given[:longest]
    text = model.vocab.decode(model.vocab.encode(given, unknown=options.unknown))
    if not text:
        raise TextError(f"{source} has no character that the model knows; there is nothing to inspect")
    n_unknown = len(model.vocab.examine(given)[0])
    if n_unknown:
        done = {"skip": "skipped", "replace": "replaced"}[options.unknown]
        say(f"knock: {done} {n_unknown:,} character{'s' * (n_unknown > 1)} that the model does not know")
    return text, f"{source}, {len(text):,} character{'s' * (len(text) > 1)}"


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


def _check_output(path: Path, options: argparse.Namespace) -> None:
    """Check that a file can be written.

    Raises:
        OutputError: if the path is a folder, is in a folder that does not exist, or must not be overwritten.
    """
    from knock.errors import OutputError
    from knock.files.output import check_free

    try:
        if path.is_dir():
            raise OutputError(f"{str(path)!r} is a folder; pass the path of a file")
        if not path.parent.is_dir():
            raise OutputError(
                f"cannot write {str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first"
            )
    except (OSError, ValueError) as error:  # no access to a folder, or NUL in the path
        raise OutputError(f"cannot write {str(path)[:60]!r}: {error}; choose another path") from error
    check_free(path, force=options.force, inputs=[options.file or ""])


def _write_file(path: Path, content: bytes) -> int:
    """Write a file; return its size in bytes.

    Raises:
        OutputError: if the file cannot be written.
    """
    from knock.errors import OutputError
    from knock.files.output import write_whole

    try:
        write_whole(path, content)
        return len(content)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise OutputError(f"cannot write {str(path)!r}: {reason}; choose another path") from error
