"""Train a model from Python: `knock_training.train`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from knock.choices import Unknown
from knock.config import ModelConfig
from knock.cpus import available_threads
from knock.errors import ConfigError, TextError, TrainingError
from knock.files.checkpoint import check_writable, write_checkpoint
from knock.files.items import TABLES, Items
from knock.files.json_table import table_of_mappings
from knock.files.split import Split
from knock.generation.constraints.inference import schema_of
from knock.gpt import ReweightGPT
from knock.language_model import LanguageModel
from knock.validation import real_number, shown, whole_number
from knock.weights import Weights
from knock.words import counted
from knock_training import trainer
from knock_training.data import Corpus
from knock_training.evaluate import as_record, evaluate
from knock_training.optimizing import native_precision
from knock_training.planning import LEAST_STEPS, Plan, plan
from knock_training.progress import Progress
from knock_training.recipe import Recipe
from knock_training.run import WATCHED_BLOCKS
from knock_training.sizes import SIZES, SMALLEST, shape_for, size_for
from knock_training.team import Team
from knock_training.threads import Threads

ItemKind = Literal["lines", "paragraphs", "files", "rows", "raw"]
Source = str | os.PathLike[str] | Iterable[str] | Iterable[os.PathLike[str]] | Iterable[Mapping[str, Any]]

_SHAPE = ("T", "n_emb", "nodes", "n_blocks", "n_heads", "head_type", "position", "alpha", "reweight_T")
_RECIPE = tuple(field.name for field in fields(Recipe) if field.name != "seed")
_PARTS = ("end", "blocks")
_ELEMENTS = (str, os.PathLike, Mapping)
_LONGEST_PATH = 256  # characters; a longer string is surely a text


def train(
    corpus: Source,
    *,
    items: ItemKind | None = None,
    column: str | None = None,
    size: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 42,
    validation: str | os.PathLike[str] | None = None,
    lowercase: bool = False,
    unknown: Unknown | None = None,
    min_count: int = 1,
    threads: int | None = None,
    device: str | None = None,
    progress: bool | Callable[[Progress], None] = False,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> LanguageModel:
    """Train a model, as `knock train` does, and return the weights with the lowest validation loss.

    On one thread and with `steps`, the same arguments give the same weights.

    Args:
        corpus: a text (a string), a file or folder (a path), several of them, or the items themselves: a list of
            strings, or the rows of a table as a list of dicts, which the model writes as JSON objects.
        items: what an item of a text or file is: `"lines"`, `"paragraphs"`, `"files"` or `"rows"` of a table; None
            trains on plain text. A table needs `column`, `items`, or `items="raw"` for plain text. A model of rows has
            the table's schema, which every text matches.
        column: an item is a cell of this column of a table.
        size: `"nano"`, `"small"` or `"auto"`, which depends on the length of the corpus and on `minutes`.
        minutes: train for this time, with as many steps as fit.
        steps: number of steps; by default that of the size.
        seed: seed of weights, batches and dropout, and of what is held out.
        validation: what to hold out: `"end"`, the last tenth of a text; `"blocks"`, a tenth in blocks spread over it;
            or a file. By default `"end"`; of items, a tenth chosen by their text and the seed.
        lowercase: convert the corpus to lower case.
        unknown: how to handle characters that `min_count` leaves out: `"skip"`, the default, or `"replace"`.
        min_count: leave out characters that occur less often.
        threads: CPU threads; None times several numbers and uses the fastest.
        device: device to train on; a GPU if None and one is available.
        progress: whether to print a line at each evaluation, or a function called after each step.
        out: model file to write whenever the validation loss improves, and at the end. It is overwritten.
        **settings: fields of the shape, such as `T=16` or `T=(2, 32, 32, 512)`, and of the recipe, such as
            `dropout=0.1`, that override those of the size.

    Raises:
        TextError: if the corpus cannot be read, is too short, or has too few items.
        ConfigError: if an argument is out of range.
        TrainingError: if there is too little time, or the run diverges.
        CheckpointError: if `out` cannot be written.
    """
    started = time.perf_counter()
    _check(settings, size, minutes, steps)
    corpus = corpus if isinstance(corpus, (str, os.PathLike)) else _several(corpus)
    if out is not None:
        check_writable(out)
    overrides = settings if steps is None else {**settings, "steps": steps}
    data = _read(
        corpus, _items(corpus, items, column), validation, seed,
        lowercase=lowercase, unknown=unknown or ("skip" if min_count > 1 else "error"), min_count=min_count,
    )  # fmt: skip

    def keep(weights: Weights, record: dict[str, Any]) -> None:
        if out is not None:
            write_checkpoint(out, weights, data.vocab, record)

    with Team.here(device) as team, _threads_of_torch(threads):
        tuner = None
        if threads is None and team.size == 1 and team.device.type == "cpu":
            tuner = Threads(min(available_threads(), torch.get_num_threads()))
        watched, seconds = WATCHED_BLOCKS, None
        if minutes is None:
            name = size_for(len(data)) if size == "auto" else size
            config, recipe = _shape_and_recipe(data, name, overrides, seed, team)
        else:
            ends = started + 60 * minutes
            config, planned = _timed(data, size, overrides, seed, ends, team, tuner)
            recipe, watched = planned.recipe, planned.watched
            seconds = ends - planned.closing_seconds - time.perf_counter()
        result = trainer.train(
            config, data, recipe, team=team, threads=tuner, seconds=seconds, watched=watched,
            report=_print if progress is True else progress or _ignore, keep=keep,
        )  # fmt: skip
        losses = evaluate(result.weights, data.validation, boundary=data.vocab.boundary)
    record = json.loads(json.dumps({**result.record, "evaluation": as_record(losses)}))  # as a model file has it
    keep(result.weights, record)
    return LanguageModel(ReweightGPT.from_weights(result.weights), data.vocab, record)


def _check(settings: dict[str, Any], size: str, minutes: float | None, steps: int | None) -> None:
    """Check arguments that need no corpus.

    Raises:
        ConfigError: if one is unknown or out of range.
    """
    known = (*_SHAPE, *_RECIPE)
    if wrong := next((name for name in settings if name not in known), None):
        raise ConfigError(f"train has no argument {wrong!r}; fields of the shape and recipe are {', '.join(known)}")
    if size not in ("auto", *SIZES):
        raise ConfigError(f"size must be auto, {' or '.join(SIZES)}, got {shown(size)}")
    if minutes is not None and not 0 < real_number(minutes) < 1e6:
        raise ConfigError(f"minutes must be a number above 0, got {shown(minutes)}")
    if minutes is not None and steps is not None:
        raise ConfigError("minutes sets the number of steps; pass one of them")


def _items(corpus: Source, items: ItemKind | None, column: str | None) -> Items | None:
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


def _read(
    corpus: Source,
    items: Items | None,
    validation: str | os.PathLike[str] | None,
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
        if items is not None and items.column is not None:
            return Corpus.from_items(list(table.column(items.column)), "items", split=split, **settings)
        rows = Corpus.from_items(list(table.items()), "rows", split=split, **settings)
        return replace(rows, schema=schema_of(table))
    if items is not None:
        raise TextError("the items are given as a list; drop items and column, which say what an item of a file is")
    return Corpus.from_items(given, "items", split=split, **settings)


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
    how: Literal["end", "blocks", "items", "file"] = "items" if has_items else "end"
    file = None
    if isinstance(validation, str) and validation in _PARTS:
        how = "end" if validation == "end" else "blocks"
    elif isinstance(validation, (str, os.PathLike)):
        if are_given:
            raise ConfigError(
                "validation cannot be a file if the items are a list, since it does not say where an item ends; leave "
                "validation out to hold out a tenth, or pass the items as a file, too"
            )
        how, file = "file", os.fspath(validation)
    elif validation is not None:
        raise ConfigError(f"validation must be 'end', 'blocks' or a file, got {shown(validation)}")
    return Split(how=how, seed=whole_number("seed", seed, 0, 2**64 - 1, error=ConfigError), file=file)


def _several(corpus: object) -> list[Any]:
    """Return the elements of a list of strings, of paths or of rows.

    Raises:
        TextError: if it is none of them.
    """
    if not isinstance(corpus, Iterable) or isinstance(corpus, (bytes, dict)):
        raise TextError(f"corpus must be a text, a path, or a list of items, rows or paths, got {shown(corpus)}")
    given = list(corpus)
    for kind in _ELEMENTS:
        if all(isinstance(each, kind) for each in given):
            return given
    wrong = next(each for each in given if not isinstance(each, type(given[0])) or not isinstance(each, _ELEMENTS))
    raise TextError(f"a corpus that is a list must have strings, paths or dicts only, got {shown(wrong)} in it")


def _shape_and_recipe(
    corpus: Corpus, size: str, overrides: dict[str, Any], seed: int, team: Team
) -> tuple[ModelConfig, Recipe]:
    """Return the shape and recipe of a size with the overrides.

    Raises:
        ConfigError: if a field is out of range.
    """
    shape = shape_for(size, corpus.text.longest if corpus.vocab.has_boundary else None)
    own = {name: value for name, value in overrides.items() if name in _SHAPE}
    rest = {name: value for name, value in overrides.items() if name not in _SHAPE}
    recipe = {**SIZES[size].recipe, "precision": native_precision(team.device), **rest, "seed": seed}
    return ModelConfig(**{"vocab_size": corpus.vocab.vocab_size, **shape, **own}), Recipe(**recipe)


def _timed(
    corpus: Corpus,
    size: str,
    overrides: dict[str, Any],
    seed: int,
    ends: float,
    team: Team,
    threads: Threads | None,
) -> tuple[ModelConfig, Plan]:
    """Return the shape of a run that ends at a time, and its plan; "auto" is the largest size that has time to learn.

    Raises:
        ConfigError: if a field is out of range.
        TrainingError: if there is time for too few steps.
    """

    def plan_for(name: str) -> tuple[ModelConfig, Plan]:
        config, recipe = _shape_and_recipe(corpus, name, overrides, seed, team)
        interval, left = overrides.get("eval_interval"), ends - time.perf_counter()
        return config, plan(config, corpus, recipe, left, eval_interval=interval, team=team, threads=threads)

    name = size_for(len(corpus)) if size == "auto" else size
    config, planned = plan_for(name)
    if size == "auto" and name != SMALLEST and planned.steps < SIZES[name].recipe["steps"] // 2:
        config, planned = plan_for(SMALLEST)
    if planned.steps < LEAST_STEPS:
        raise TrainingError(
            f"there is time for {counted(planned.steps, 'step')} of this model, fewer than the {LEAST_STEPS} it needs; "
            f"pass at least minutes={planned.minutes_for(LEAST_STEPS):.2g}, or a smaller model"
        )
    return config, planned


@contextmanager
def _threads_of_torch(threads: int | None) -> Iterator[None]:
    """Set PyTorch's number of threads, and restore it at the end.

    Raises:
        ConfigError: if `threads` is not a number of threads.
    """
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(whole_number("threads", threads, 1, 1024, error=ConfigError))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _print(progress: Progress) -> None:
    """Print a line at each evaluation."""
    if progress.validation_loss is not None:
        print(
            f"step {progress.step:,}/{progress.steps:,}  loss {progress.loss:.4f}  "
            f"validation {progress.validation_loss:.4f}  {progress.seconds_left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def _ignore(_: Progress) -> None:
    """Do nothing with the progress of a run."""
