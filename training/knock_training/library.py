"""Train a model from Python: `knock_training.train`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch

from knock.choices import Unknown
from knock.config import ModelConfig
from knock.cpus import available_threads
from knock.errors import CheckpointError, ConfigError, TrainingError
from knock.files.checkpoint import Checkpoint, check_writable, model_digest, read_checkpoint, write_checkpoint
from knock.gpt import ReweightGPT
from knock.hints import suggestion
from knock.language_model import LanguageModel
from knock.models import locate
from knock.validation import real_number, shown, whole_number
from knock.weights import Weights
from knock.words import counted
from knock_training import trainer
from knock_training.data import Corpus
from knock_training.evaluate import as_record, evaluate
from knock_training.optimizing import native_precision
from knock_training.planning import LEAST_STEPS, Plan, plan
from knock_training.progress import Progress
from knock_training.reading import ItemKind, Source, Validation, items_of, read, several
from knock_training.recipe import Recipe
from knock_training.run import WATCHED_BLOCKS
from knock_training.sizes import SIZES, SMALLEST, shape_for, size_for
from knock_training.teaching import Teachers, teach
from knock_training.team import Team
from knock_training.threads import Threads

# What other libraries call the arguments.
_MISNOMERS = {
    **dict.fromkeys(("lr", "max_lr", "rate", "peak_lr"), "learning_rate"),
    **dict.fromkeys(("muon_lr", "matrix_lr"), "matrix_learning_rate"),
    **dict.fromkeys(("epochs", "iterations", "max_iters", "max_steps", "n_epochs", "num_epochs", "num_steps"), "steps"),
    **dict.fromkeys(("batch_size", "batch"), "batch_chars, in characters"),
    **dict.fromkeys(("block_size", "context", "context_length", "max_length", "seq_len", "window"), "T"),
    **dict.fromkeys(("depth", "layers", "n_layer", "n_layers", "num_layers", "blocks"), "n_blocks"),
    **dict.fromkeys(("d_model", "dim", "embed_dim", "embedding", "hidden_size", "n_embd"), "n_emb"),
    **dict.fromkeys(("d_ff", "ff_dim", "mlp_dim"), "nodes"),
    **dict.fromkeys(("heads", "n_head", "num_heads"), "n_heads"),
    **dict.fromkeys(("clip", "max_grad_norm", "max_norm"), "grad_clip"),
    **dict.fromkeys(("early_stopping",), "patience"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("warmup_steps", "num_warmup_steps"), "warmup"),
    **dict.fromkeys(("val", "valid", "validation_data", "eval_data"), "validation"),
    **dict.fromkeys(("output", "path", "save_to"), "out"),
    **dict.fromkeys(("n_threads", "num_threads"), "threads"),
    **dict.fromkeys(("callback", "verbose"), "progress"),
    **dict.fromkeys(("time", "max_time", "duration"), "minutes"),
    "eval_every": "eval_interval",
    "wd": "weight_decay",
}
_SHAPE = ("T", "n_emb", "nodes", "n_blocks", "n_heads", "head_type", "position", "alpha", "reweight_T")
_RECIPE = tuple(field.name for field in fields(Recipe) if field.name != "seed")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training.

    Attributes:
        model: the model with the lowest validation loss so far, or the latest one if there was no evaluation.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model)
        self.model = model

    def __str__(self) -> str:
        return (
            f"training was interrupted after {counted(self.model.training['steps_done'], 'step')}; the attribute "
            f"`model` has the model of step {self.model.training['best_step']:,}"
        )


def train(
    corpus: Source,
    *,
    items: ItemKind | None = None,
    column: str | None = None,
    size: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 42,
    validation: Validation | None = None,
    lowercase: bool = False,
    unknown: Unknown | None = None,
    min_count: int = 1,
    threads: int | None = None,
    device: str | None = None,
    teachers: LanguageModel | str | os.PathLike[str] | Iterable[LanguageModel | str | os.PathLike[str]] = (),
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
            or a file. By default `"end"`; of items, a tenth chosen by their text and the seed. If the items or rows are
            given as a list, those to hold out may be, too; then none of the corpus is held out.
        lowercase: convert the corpus to lower case.
        unknown: how to handle characters that `min_count` leaves out: `"skip"`, the default, or `"replace"`.
        min_count: leave out characters that occur less often.
        threads: CPU threads; None times several numbers and uses the fastest.
        device: device to train on; a GPU if None and one is available.
        teachers: models, or their names or files, to learn from besides the text: the loss is, to one half, the
            cross-entropy to the mean of what they expect (`distillation=` sets the share). They must know the same
            characters.
        progress: whether to print a line at each evaluation, or a function called after each step.
        out: model file to write whenever the validation loss improves, and at the end or on Ctrl-C. It is overwritten.
        **settings: fields of the shape, such as `T=16` or `T=(2, 32, 32, 512)`, and of the recipe, such as
            `dropout=0.1`, that override those of the size.

    Raises:
        TextError: if the corpus cannot be read, is too short, or has too few items.
        ConfigError: if an argument is out of range.
        TrainingError: if there is too little time, or the run diverges.
        CheckpointError: if `out` cannot be written.
        Interrupted: on Ctrl-C, if there was a step; its `model` is the best one so far.
    """
    started = time.perf_counter()
    _check(settings, size, minutes, steps)
    corpus = corpus if isinstance(corpus, (str, os.PathLike)) else several("corpus", corpus)
    if validation is not None and isinstance(validation, Iterable) and not isinstance(validation, (str, os.PathLike)):
        validation = several("validation", validation)
    if out is not None:
        check_writable(out)
    overrides = settings if steps is None else {**settings, "steps": steps}
    data = read(
        corpus, items_of(corpus, items, column), validation, seed,
        lowercase=lowercase, unknown=unknown or ("skip" if min_count > 1 else "error"), min_count=min_count,
    )  # fmt: skip

    def keep(weights: Weights, record: dict[str, Any]) -> None:
        if out is not None:
            write_checkpoint(out, weights, data.vocab, record)

    with Team.here(device) as team, _threads_of_torch(threads):
        tuner = None
        if threads is None and team.size == 1 and team.device.type == "cpu":
            tuner = Threads(min(available_threads(), torch.get_num_threads()))
        taught = _taught(teachers, data, team)
        watched, seconds = WATCHED_BLOCKS, None
        if minutes is None:
            name = size_for(len(data)) if size == "auto" else size
            config, recipe = _shape_and_recipe(data, name, overrides, seed, team)
        else:
            ends = started + 60 * minutes
            config, planned = _timed(data, size, overrides, seed, ends, team, taught, tuner)
            recipe, watched = planned.recipe, planned.watched
            seconds = ends - planned.closing_seconds - time.perf_counter()
        try:
            result = trainer.train(
                config, data, recipe, team=team, teachers=taught, threads=tuner, seconds=seconds, watched=watched,
                report=_print if progress is True else progress or _ignore, keep=keep,
            )  # fmt: skip
        except trainer.Stopped as stopped:
            raise _interrupted(stopped.result, data, keep) from None
        try:
            losses = evaluate(result.weights, data.validation, boundary=data.vocab.boundary)
        except KeyboardInterrupt:
            raise _interrupted(result, data, keep) from None
    record = _as_written({**result.record, "evaluation": as_record(losses)})
    keep(result.weights, record)
    return _model(result.weights, data, record)


def _taught(
    teachers: LanguageModel | str | os.PathLike[str] | Iterable[LanguageModel | str | os.PathLike[str]],
    corpus: Corpus,
    team: Team,
) -> Teachers | None:
    """Return what models expect of the training text; None if there are no models."""
    files = []
    given = [teachers] if isinstance(teachers, LanguageModel | str | os.PathLike) else teachers
    for number, teacher in enumerate(given, 1):
        if isinstance(teacher, LanguageModel):
            weights, vocab = teacher.model.weights, teacher.vocab
            checkpoint = Checkpoint(weights=weights, vocab=vocab, digest=model_digest(weights, vocab))
            files.append((f"model {number}", checkpoint))
        else:
            files.append((str(teacher), read_checkpoint(locate(teacher))))
    return teach(files, corpus.train, corpus.vocab, team.device) if files else None


def _interrupted(
    result: trainer.TrainingResult, corpus: Corpus, keep: Callable[[Weights, dict[str, Any]], None]
) -> Interrupted:
    """Return the exception for a run that was interrupted, after its model was written, if it is worth it."""
    interrupted = Interrupted(_model(result.weights, corpus, _as_written(result.record)))
    if result.is_evaluated and not result.is_lost:
        try:
            keep(result.weights, result.record)
        except CheckpointError as error:
            interrupted.add_note(f"The model was not written: {error}")
    return interrupted


def _model(weights: Weights, corpus: Corpus, record: dict[str, Any]) -> LanguageModel:
    """Return a model, ready to generate."""
    return LanguageModel(ReweightGPT.from_weights(weights), corpus.vocab, record)


def _as_written(record: dict[str, Any]) -> dict[str, Any]:
    """Return a training record as a model file has it."""
    written: dict[str, Any] = json.loads(json.dumps(record))
    return written


def _check(settings: dict[str, Any], size: str, minutes: float | None, steps: int | None) -> None:
    """Check arguments that need no corpus.

    Raises:
        ConfigError: if one is unknown or out of range.
    """
    known = (*_SHAPE, *_RECIPE)
    if wrong := next((name for name in settings if name not in known), None):
        if right := _MISNOMERS.get(wrong.lower()):
            raise ConfigError(f"train has no argument {wrong!r}; use {right}")
        own = train.__code__.co_varnames[: train.__code__.co_argcount + train.__code__.co_kwonlyargcount]
        if meant := suggestion(wrong, {*own, *known}):
            raise ConfigError(f"train has no argument {wrong!r}; did you mean {meant}?")
        raise ConfigError(f"train has no argument {wrong!r}; fields of the shape and recipe are {', '.join(known)}")
    if size not in ("auto", *SIZES):
        raise ConfigError(f"size must be auto, {' or '.join(SIZES)}, got {shown(size)}")
    if minutes is not None and not 0 < real_number(minutes) < 1e6:
        raise ConfigError(f"minutes must be a number above 0, got {shown(minutes)}")
    if minutes is not None and steps is not None:
        raise ConfigError("minutes sets the number of steps; pass one of them")


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
    teachers: Teachers | None,
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
        planned = plan(
            config, corpus, recipe, left, eval_interval=interval, team=team, teachers=teachers, threads=threads
        )
        return config, planned

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
