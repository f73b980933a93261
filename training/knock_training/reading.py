"""What a model is trained on from Python: a text, files, items or rows, and what is held out of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from knock.errors import ConfigError, TextError
from knock.files.items import TABLES, Items
from knock.files.json_table import table_of_mappings
from knock.files.split import How, Split
from knock.files.tables import Table
from knock.generation.constraints.inference import schema_of
from knock.validation import shown, whole_number
from knock_training.data import Corpus

ItemKind = Literal["lines", "paragraphs", "files", "rows", "raw"]
Source = str | os.PathLike[str] | Iterable[str] | Iterable[os.PathLike[str]] | Iterable[Mapping[str, Any]]
Validation = str | os.PathLike[str] | Iterable[str] | Iterable[Mapping[str, Any]]

_PARTS = ("end", "blocks")
_ELEMENTS = (str, os.PathLike, Mapping)
_LONGEST_PATH = 256  # characters; a longer string is surely a text


def items_of(corpus: Source, items: ItemKind | None, column: str | None) -> Items | None:
    """Return what an item of a text or file is; None for plain text, or if the items are given.

    Raises:
        ConfigError: if the arguments do not go together, or a table needs one.
    """
    if items not in (None, *get_args(ItemKind)):
        raise ConfigError(f"items must be one of {', '.join(get_args(ItemKind))}, got {shown(items)}")
    if items not in (None, "rows") and isinstance(corpus, list) and any(isinstance(each, Mapping) for each in corpus):
        raise ConfigError(f"a list of dicts has rows of a table, not {items}; drop items")
    if items is not None and column is not None:
        raise ConfigError("column makes each cell an item; drop items")
    if column is not None:
        return Items(kind="column", column=column)
    if items is None:
        paths = [corpus] if isinstance(corpus, os.PathLike) else corpus if isinstance(corpus, list) else []
        table = next((path for path in paths if isinstance(path, os.PathLike) and Path(path).suffix in TABLES), None)
        if table is not None:
            raise ConfigError(
                f"{os.fspath(table)!r} is a table; pass column=NAME (an item is a cell), items='rows' (an item is a "
                "row), items='lines', or items='raw' for plain text"
            )
    if items is None or items == "raw":
        return None
    return Items(kind=items)


def read(
    corpus: Source,
    items: Items | None,
    validation: Validation | None,
    seed: int,
    **settings: Any,
) -> Corpus:
    """Tokenise and split a text, files or items.

    Raises:
        TextError: if the corpus is none of them, or cannot be read or split.
    """
    given: list[Any] = [] if isinstance(corpus, (str, os.PathLike)) else list(corpus)
    is_list_of_paths = bool(given) and all(isinstance(each, os.PathLike) for each in given)
    are_paths = isinstance(corpus, os.PathLike) or is_list_of_paths
    are_given = not isinstance(corpus, str) and not are_paths
    split = _split(validation, seed, has_items=items is not None or are_given, are_given=are_given)
    if isinstance(corpus, str):
        if 0 < len(corpus) < _LONGEST_PATH and "\n" not in corpus and Path(corpus).exists():
            raise TextError(f"{corpus!r} is the name of a file, but a string is a text; pass Path({corpus!r})")
        return Corpus.from_text(corpus, "text", items=items, split=split, **settings)
    if are_paths:
        paths = [corpus] if isinstance(corpus, os.PathLike) else given
        schema = (
            schema_of(*items.tables(list(map(Path, paths)))) if items is not None and items.kind == "rows" else None
        )
        return replace(Corpus.read(paths, items=items, split=split, **settings), schema=schema)
    if given and all(isinstance(each, Mapping) for each in given):
        table = table_of_mappings(given, "rows")
        rest: list[str] | None = None
        if split.how == "given":
            rest = _texts(table_of_mappings(_held_out(validation, Mapping, "dicts"), "validation"), items)
        if items is not None and items.column is not None:
            return Corpus.from_items(_texts(table, items), "items", rest, split=split, **settings)
        rows = Corpus.from_items(_texts(table, items), "rows", rest, split=split, **settings)
        return replace(rows, schema=schema_of(table))
    if items is not None:
        raise TextError("the items are given as a list; drop items and column, which say what an item of a file is")
    rest = _held_out(validation, str, "strings") if split.how == "given" else None
    return Corpus.from_items(given, "items", rest, split=split, **settings)


def _texts(table: Table, items: Items | None) -> list[str]:
    """Return the items of a table: the cells of a column, or its rows."""
    return list(table.items() if items is None or items.column is None else table.column(items.column))


def _held_out(validation: object, kind: type, name: str) -> list[Any]:
    """Return the items or rows that are given to be held out.

    Raises:
        ConfigError: if they are not like those of the corpus.
    """
    assert isinstance(validation, list)
    wrong = next((each for each in validation if not isinstance(each, kind)), None)
    if wrong is not None:
        raise ConfigError(f"validation must be a list of {name}, as the corpus is, got {shown(wrong)} in it")
    return validation


def _split(validation: object, seed: int, *, has_items: bool, are_given: bool) -> Split:
    """Return what is held out.

    Args:
        validation: as in `train`.
        seed: as in `train`.
        has_items: whether the corpus has items.
        are_given: whether they are given as a list.

    Raises:
        ConfigError: if `validation` does not say what to hold out of the corpus, or the seed is out of range.
    """
    how: How = "items" if has_items else "end"
    file = None
    if isinstance(validation, str) and validation in _PARTS:
        how = "end" if validation == "end" else "blocks"
    elif isinstance(validation, (str, os.PathLike)):
        if are_given:
            raise ConfigError(
                "validation cannot be a file if the items are a list, since it does not say where an item ends; pass "
                "its items as a list, too, or leave validation out to hold out a tenth"
            )
        how, file = "file", os.fspath(validation)
    elif isinstance(validation, list):
        if not are_given:
            raise ConfigError(
                "validation can be a list only if the corpus is a list of items or rows; pass a file, 'end' or 'blocks'"
            )
        how = "given"
    elif validation is not None:
        raise ConfigError(f"validation must be 'end', 'blocks', a file or a list, got {shown(validation)}")
    return Split(how=how, seed=whole_number("seed", seed, 0, 2**64 - 1, error=ConfigError), file=file)


def several(name: str, corpus: object) -> list[Any]:
    """Return the elements of a list of strings, of paths or of rows, the argument of that name.

    Raises:
        TextError: if it is none of them.
    """
    if not isinstance(corpus, Iterable) or isinstance(corpus, (bytes, dict)):
        raise TextError(f"{name} must be a text, a path, or a list of items, rows or paths, got {shown(corpus)}")
    given = list(corpus)
    for kind in _ELEMENTS:
        if all(isinstance(each, kind) for each in given):
            return given
    wrong = next(each for each in given if not isinstance(each, type(given[0])) or not isinstance(each, _ELEMENTS))
    raise TextError(f"a {name} that is a list must have strings, paths or dicts only, got {shown(wrong)} in it")
