"""Filters of `knock sample`: their options, what they judge by, and the summary of what they dropped."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.ui.options import constraint_options, whole_number
from knock.cli.ui.terminal import is_live, say

if TYPE_CHECKING:
    from knock.jobs.row_filter import RowFilter
    from knock.language_model import LanguageModel

_LARGE = 10**8  # bytes
_NEED = "--unique, --novel, --max-overlap, --accept or --exact"


def add_filter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that drop rows."""
    group = parser.add_argument_group(
        "filters",
        "Which texts to keep: in a model of items the whole item with PROMPT, otherwise the text after PROMPT. A text "
        "that is dropped is replaced by the next one, until there are --count; with --prompts, it is only dropped. "
        "Texts cut at --length are dropped, too, if --stop or the end of an item could have ended them.",
    )
    group.add_argument("--unique", action="store_true",
                       help="no text twice; needs 100 MB of memory for each million rows")  # fmt: skip
    group.add_argument("--novel", metavar="FILE", action="append",
                       help="no text that is a line of FILE, with or without PROMPT, or a paragraph, cell, row or "
                            "whole of it in a model of such items. FILE may also be a .txt or .jsonl file that this "
                            "command wrote: escapes, and the texts of JSON rows, are recognised. Needs 12 bytes of "
                            "memory for each text, and up to 20 while FILE is read; can be repeated")  # fmt: skip
    group.add_argument("--max-overlap", nargs=2, metavar=("N", "FILE"), action="append",
                       help="no text that has N characters or more in a row that occur in FILE, which is read as with "
                            "--novel. Needs 12 bytes of memory for each character of "
                            "FILE, and up to 20 while it is read; can be repeated with the same N")  # fmt: skip
    group.add_argument("--accept", metavar="REGEX",
                       help="only texts that match REGEX as a whole, in all of Python's syntax; what --pattern can "
                            "express is faster there")  # fmt: skip
    group.add_argument("--keep-cut", action="store_true", help="keep texts that were cut at --length")
    group.add_argument("--tries", type=whole_number(1), metavar="M",
                       help="draw at most M texts (default: 100 for each of --count, at least 10000)")  # fmt: skip


def check(options: argparse.Namespace) -> None:
    """Exit with a usage error if the options of filters are invalid or contradict each other."""
    if not is_filtered(options):
        for name in ("keep_cut", "tries"):
            if getattr(options, name):
                options.error(f"--{name.replace('_', '-')} is for rows that are filtered; give {_NEED}, too")
    if options.tries is not None:
        if options.prompts is not None:
            options.error("--tries is for one PROMPT; with --prompts, every prompt has --count tries")
        if options.tries < options.count:
            options.error(f"--tries {options.tries} is below --count {options.count}; raise it")
    for number, _ in options.max_overlap or ():
        try:
            whole_number(1, 10**6)(number)
        except argparse.ArgumentTypeError as error:
            options.error(f"argument --max-overlap: N {error}")
    if len({int(number) for number, _ in options.max_overlap or ()}) > 1:
        options.error("--max-overlap must have the same N for each FILE")
    if options.accept is not None:
        import re

        try:
            re.compile(options.accept)
        except re.error as error:
            options.error(f"argument --accept: not a regular expression: {error}")


def is_filtered(options: argparse.Namespace) -> bool:
    """Return whether rows may be dropped."""
    return bool(options.unique or options.novel or options.max_overlap or options.accept is not None or options.exact)


def row_filter(options: argparse.Namespace, model: LanguageModel, settings: dict[str, Any]) -> RowFilter | None:
    """Return which rows to keep, None for all; add the filters to the settings that determine the rows.

    Raises:
        TextError: if a file cannot be read.
    """
    _say_what_is_read([*(options.novel or ()), *(path for _, path in options.max_overlap or ())])
    novel = overlap = None
    if options.novel or options.max_overlap:
        from knock.files.known_items import known_items
        from knock.generation.known_texts import KnownRuns, KnownTexts, Source

        def known(paths: Iterable[str]) -> Iterator[Source]:
            return (source for path in paths for source in known_items(path, model.training, model.schema))

        if options.novel:
            novel = KnownTexts(*known(options.novel))
        if options.max_overlap:
            overlap = KnownRuns(int(options.max_overlap[0][0]), *known(path for _, path in options.max_overlap))
    settings |= {
        "unique": options.unique,
        "novel": None if novel is None else novel.digest,
        "max_overlap": None if overlap is None else [overlap.length, overlap.digest],
        "accept": options.accept,
        "keep_cut": options.keep_cut,
    }
    if not is_filtered(options):
        return None
    from knock.generation.filters import Filters, is_open_ended
    from knock.jobs.row_filter import RowFilter

    filters = Filters(
        unique=options.unique,
        novel=novel,
        overlap=overlap,
        accept=options.accept,
        keep_cut=options.keep_cut or is_open_ended(model.vocab, options.stop or ()),
    )
    return RowFilter(
        filters, of_items=model.vocab.has_boundary, count=options.count if options.prompts is None else None
    )


def _say_what_is_read(paths: list[str]) -> None:
    """Name the files that take some time to read: about a minute for each gigabyte."""
    large = [path for path in paths if Path(path).is_file() and Path(path).stat().st_size > _LARGE]
    if large and is_live():
        say(f"reading {', '.join(large)}")


def draws(options: argparse.Namespace) -> int:
    """Return how many texts a prompt may have."""
    if options.prompts is not None or not is_filtered(options):
        return int(options.count)
    from knock.generation.filters import default_tries

    return default_tries(options.count) if options.tries is None else int(options.tries)


def constraints(options: argparse.Namespace) -> dict[str, Any]:
    """Return the constraints as settings that determine the rows; empty if there are none.

    Raises:
        SamplingError: if one is out of range.
    """
    from dataclasses import asdict

    from knock.generation.options import split

    _, constraint = split(constraint_options(options))
    return {} if constraint is None else asdict(constraint)
