"""How `knock train` reads its corpus: what an item is, what is held out, and which characters are left out."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.ui.terminal import printable
from knock.errors import KnockError

if TYPE_CHECKING:
    from knock.files.checkpoint import Checkpoint
    from knock.files.items import Items
    from knock.files.split import Split
    from knock.vocab import Vocab
    from knock_training.data import Corpus

_PARTS = ("end", "blocks")  # values of --validation besides files
_CHOICES = "--lines, --paragraphs, --files, --column NAME or --rows"


def check_options(options: argparse.Namespace) -> None:
    """Report options about characters that exclude each other, and set the default of `--unknown`."""
    leaves_out = options.min_count is not None and options.min_count > 1
    if options.min_count is not None and options.vocab_from is not None:
        options.error("--from keeps the model's vocabulary; drop --min-count")
    if leaves_out and options.unknown == "error":
        options.error("--min-count leaves out characters, so --unknown must be skip or replace")
    if options.unknown is None:
        options.unknown = "skip" if leaves_out else "error"


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what an item is, and what is held out."""
    group = parser.add_argument_group("items, for a model that knows where one begins and ends")
    kinds = group.add_mutually_exclusive_group()
    for name, help_ in (
        ("lines", "an item is a line"),
        ("paragraphs", "an item is a paragraph; blank lines separate them"),
        ("files", "an item is a file; a folder stands for all files in it"),
        ("rows", "an item is a row of a table: .csv, .tsv, .jsonl or .parquet"),
        ("raw", "train on plain text, even if it is a table"),
    ):
        kinds.add_argument(f"--{name}", action="store_const", const=name, dest="item", help=help_)
    kinds.add_argument("--column", metavar="NAME", help="an item is a cell of this column of a table")
    parser.add_argument("--validation", metavar="WHICH",
                        help="what to hold out: end, the last 10%% of the text; blocks, 10%% in blocks spread over it; "
                             "or a FILE (default: end; of items, 10%% chosen by their text and --seed)")  # fmt: skip


def check_reading(options: argparse.Namespace, base: Checkpoint | None) -> None:
    """Check the options about items and validation.

    Args:
        options: the command's options.
        base: the model to fine-tune.
    """
    from knock.files.items import TABLES

    if options.validation is not None and options.validation not in _PARTS:
        paths = [Path(path) for path in options.corpus if path != "-"]
        with contextlib.suppress(OSError, ValueError):  # reading the file reports the error
            if any(path.samefile(options.validation) for path in paths if path.exists()):
                options.error("--validation and CORPUS name the same file; give a text that is not trained on")
    if options.resume:
        return  # the run says what it reads
    if base is not None:
        assert base.vocab is not None
        requested = _requested_items(options)
        if not base.vocab.has_boundary and requested is not None:
            options.error(
                f"{options.vocab_from} is a model of plain text, not of items; drop --{requested.kind}, or train a new "
                "model without --from"
            )
        if base.vocab.has_boundary and (options.item == "raw" or _items(options, base) is None):
            options.error(f"{options.vocab_from} is a model of items; say what an item of CORPUS is: {_CHOICES}")
    items = _items(options, base)
    tables = [path for path in options.corpus if Path(path).suffix.lower() in TABLES]
    binary = [path for path in tables if Path(path).suffix.lower() == ".parquet"]
    if binary and (items is None or items.kind not in ("column", "rows")):
        options.error(
            f"{printable(binary[0])} is a Parquet table; choose --column NAME (an item is a cell) or --rows (an item "
            "is a row)"
        )
    if tables and items is None and options.item != "raw":
        options.error(
            f"{printable(tables[0])} is a table; choose --column NAME (an item is a cell), --rows (an item is a row), "
            "--lines, or --raw for plain text"
        )
    if items is not None and items.kind in ("column", "rows"):
        _check_tables(options, items)
    if items is not None and items.kind == "rows" and options.lowercase:
        options.error("--rows keeps tables as they are; drop --lowercase")
    if items is not None and options.validation in _PARTS:
        options.error(f"--validation {options.validation} is for plain text; items are held out by their text")


def _check_tables(options: argparse.Namespace, items: Items) -> None:
    """Check the tables and their headers, before PyTorch takes seconds to import."""
    if "-" in options.corpus:
        options.error(f"--{items.kind} needs files, not standard input")
    other = [] if options.validation is None or options.validation in _PARTS else [options.validation]
    items.tables([Path(path) for path in [*options.corpus, *other]])


def _requested_items(options: argparse.Namespace) -> Items | None:
    """Return what the options say an item is; None if nothing."""
    from knock.files.items import Items

    if options.column is not None:
        return Items(kind="column", column=options.column)
    return None if options.item in (None, "raw") else Items(kind=options.item)


def _items(options: argparse.Namespace, base: Checkpoint | None) -> Items | None:
    """Return what an item is according to the options, or to the model to fine-tune; None for plain text."""
    from knock.files.corpus import recorded_settings

    items = _requested_items(options)
    if items is not None or options.item == "raw" or base is None or base.vocab is None or not base.vocab.has_boundary:
        return items
    of_base = recorded_settings(base.training)["items"]
    return None if of_base is None or of_base.kind == "texts" else of_base


def reading(options: argparse.Namespace, base: Checkpoint | None) -> tuple[Items | None, Split]:
    """Return what an item of a new run is, and what it holds out."""
    items = _items(options, base)
    return items, _split(options, items)


def saved_reading(options: argparse.Namespace, what: Mapping[str, Any]) -> tuple[Items | None, Split]:
    """Return what an item of a saved run is and what it holds out, unless the options say otherwise.

    Args:
        options: the command's options.
        what: identity of the saved run.
    """
    from knock.files.items import Items
    from knock.files.split import Split

    asks = options.item is not None or options.column is not None
    items = _requested_items(options) if asks else Items.from_record(what["items"])
    return items, Split.from_record(what["validation"]) if options.validation is None else _split(options, items)


def _split(options: argparse.Namespace, items: Items | None) -> Split:
    from knock.files.split import Split
    from knock_training.recipe import Recipe

    seed = vars(options).get("seed", Recipe.seed)
    if options.validation is None:
        return Split(how="end" if items is None else "items", seed=seed)
    if options.validation in _PARTS:
        return Split(how=options.validation, seed=seed)
    return Split(how="file", seed=seed, file=options.validation)


def read_corpus(options: argparse.Namespace, vocab: Vocab | None, items: Items | None, split: Split) -> Corpus:
    """Read the corpus: files, or standard input by way of a temporary file.

    Args:
        options: the command's options.
        vocab: vocabulary to encode with; built from the corpus if None.
        items: what an item is; None for plain text.
        split: what is held out.
    """
    from knock.files.corpus import Settings, TokenizedText
    from knock_training.data import Corpus

    settings: Settings = {
        "vocab": vocab,
        "lowercase": options.lowercase,
        "unknown": options.unknown,
        "min_count": options.min_count or 1,
        "items": items,
        "split": split,
    }
    if items is not None and items.kind == "rows":
        from knock.generation.constraints.inference import schema_of

        schema = schema_of(*items.tables([Path(path) for path in options.corpus]))
        return dataclasses.replace(Corpus.read(options.corpus, **settings), schema=schema)
    if options.corpus != ["-"]:
        return Corpus.read(options.corpus, **settings)
    if sys.stdin is None:
        raise KnockError("standard input is closed; pass a file as CORPUS")
    return Corpus.of(TokenizedText.read_stream(sys.stdin.buffer, "standard input", **settings))
