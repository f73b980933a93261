"""What a run of `knock train` is about: corpus, shape, recipe and time, for a new run or a resumed one."""

from __future__ import annotations

import argparse
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.train.reading import read_corpus, reading, saved_reading
from knock.errors import ConfigError, TrainingError, VocabError
from knock.words import counted

if TYPE_CHECKING:
    from knock.cli.train.messages import Messages
    from knock.cli.train.resuming import State
    from knock.config import ModelConfig
    from knock.files.checkpoint import Checkpoint
    from knock_training.data import Corpus
    from knock_training.planning import Plan
    from knock_training.recipe import Recipe
    from knock_training.teaching import Teachers
    from knock_training.team import Team
    from knock_training.threads import Threads

SHAPE = ("T", "n_emb", "nodes", "n_blocks", "n_heads", "head_type", "position", "alpha", "reweight_T")
RECIPE = (
    "steps", "batch_chars", "windows", "optimizer", "learning_rate", "matrix_learning_rate", "schedule", "weight_decay",
    "ema", "dropout", "precision", "distillation", "eval_interval", "patience", "seed",
)  # fmt: skip
_SMALLEST = "nano"
_MORE = 1.1  # how much longer than the time that was too short, at least, the one that is recommended
_COMPARISON, _COMPARISON_SHARE = 5.0, 0.05  # most seconds for yardsticks, and their largest share of the time


@dataclass(frozen=True, kw_only=True)
class Job:
    """A planned training run.

    Attributes:
        corpus: the text.
        config: the model's shape.
        recipe: the training recipe.
        ends: deadline of the last step, by `time.monotonic`; None without a limit.
        watched: validation blocks per evaluation.
        closing_seconds: time limit of the final evaluation; None without a limit.
        teachers: what other models expect of the text; None without any.
        comparison_seconds: time for the comparison with yardsticks, after it.
    """

    corpus: Corpus
    config: ModelConfig
    recipe: Recipe
    ends: float | None
    watched: int
    closing_seconds: float | None
    teachers: Teachers | None
    comparison_seconds: float = 0.0

    def seconds_left(self) -> float | None:
        """Return the time left for everything, at the end of the run; None without a limit."""
        if self.ends is None or self.closing_seconds is None:
            return None
        return self.ends + self.closing_seconds + self.comparison_seconds - time.monotonic()


def step_threads(options: argparse.Namespace, team: Team) -> Threads | None:
    """Return the tuner of CPU threads per step; None if the user set them or they do not matter."""
    import torch

    from knock.cpus import available_threads
    from knock_training.threads import Threads

    if options.threads or team.size > 1 or team.device.type != "cpu":
        return None
    return Threads(min(available_threads(), torch.get_num_threads()))  # the latter follows OMP_NUM_THREADS


def new_job(
    options: argparse.Namespace,
    team: Team,
    base: Checkpoint | None,
    threads: Threads | None,
    started: float,
    messages: Messages,
) -> Job:
    """Plan a new run."""
    from knock_training.run import WATCHED_BLOCKS
    from knock_training.sizes import size_for

    corpus = read_corpus(options, base.vocab if base else None, *reading(options, base))
    teachers = _taught(options.teacher or [], corpus, team, messages)
    names = [size_for(len(corpus))] if options.size == "auto" else [options.size]
    if options.minutes is None:
        config, recipe = _shape_and_recipe(options, names[0], corpus, team, base)
        return Job(
            corpus=corpus, config=config, recipe=recipe, ends=None, watched=WATCHED_BLOCKS, closing_seconds=None,
            teachers=teachers,
        )  # fmt: skip
    return _timed_job(options, names, corpus, team, base, teachers, threads, started, messages)


def _taught(names: list[str], corpus: Corpus, team: Team, messages: Messages) -> Teachers | None:
    """Return what models expect of the training text; None if there are no models."""
    if not names:
        return None
    from knock.files.checkpoint import read_checkpoint
    from knock.models import locate
    from knock_training.teaching import teach

    messages.doing(f"reading the corpus with {counted(len(names), 'teacher')}")
    files = [(name, read_checkpoint(locate(name))) for name in names]
    return teach(files, corpus.train, corpus.vocab, team.device)


def _timed_job(
    options: argparse.Namespace,
    names: list[str],
    corpus: Corpus,
    team: Team,
    base: Checkpoint | None,
    teachers: Teachers | None,
    threads: Threads | None,
    started: float,
    messages: Messages,
) -> Job:
    """Plan a new run of `--minutes`, with the largest model that has time to learn.

    Raises:
        TrainingError: if there is time for too few steps; the message says what would fit.
    """
    from knock_training.planning import LEAST_STEPS, plan
    from knock_training.sizes import SIZES

    comparison = min(_COMPARISON, _COMPARISON_SHARE * 60 * options.minutes)
    ends = started + 60 * options.minutes - comparison

    def plan_for(name: str) -> tuple[ModelConfig, Plan]:
        config, recipe = _shape_and_recipe(options, name, corpus, team, base)
        interval = vars(options).get("eval_interval")
        left = ends - time.monotonic()
        planned = plan(
            config, corpus, recipe, left, eval_interval=interval, team=team, teachers=teachers, threads=threads
        )
        return config, planned

    messages.doing("timing training steps")
    name = names[0]
    config, planned = plan_for(name)
    enough = SIZES[name].recipe["steps"] // 2 if name != _SMALLEST else LEAST_STEPS
    if options.size == "auto" and name != _SMALLEST and planned.steps < enough:
        messages.say(
            f"--minutes {options.minutes:g} allows {counted(planned.steps, 'step')} of size {name}, which needs about "
            f"{enough:,}; training {_SMALLEST} instead. Pass --size {name} to override"
        )
        name = _SMALLEST
        config, planned = plan_for(name)
    if planned.steps < LEAST_STEPS:
        seconds = time.monotonic() - started + 60 * planned.minutes_for(LEAST_STEPS) + planned.closing_seconds
        fits = [f"--minutes {_recommended(seconds, options.minutes):g}"]
        if name != _SMALLEST and base is None:
            smaller = plan_for(_SMALLEST)[1].steps
            fits += [f"--size {_SMALLEST} ({smaller:,} steps)"] * (smaller >= LEAST_STEPS)
        raise TrainingError(
            f"--minutes {options.minutes:g} allows {counted(planned.steps, 'step')} of this model on this machine, "
            f"fewer than the {LEAST_STEPS} it needs; pass {' or '.join(fits)}"
        )
    return Job(
        corpus=corpus,
        config=config,
        recipe=planned.recipe,
        ends=ends - planned.closing_seconds,
        watched=planned.watched,
        closing_seconds=planned.closing_seconds,
        teachers=teachers,
        comparison_seconds=comparison,
    )


def _recommended(seconds: float, too_few: float) -> float:
    """Return minutes that leave a number of seconds for all but the yardsticks, rounded up to two significant digits.

    Args:
        seconds: the seconds.
        too_few: minutes that were too few by another measurement, which are exceeded in any case.
    """
    minutes = max(min(seconds + _COMPARISON, seconds / (1 - _COMPARISON_SHARE)) / 60, _MORE * too_few)
    unit = 10.0 ** (math.floor(math.log10(minutes)) - 1)
    return float(f"{math.ceil(minutes / unit) * unit:.2g}")


def _shape_and_recipe(
    options: argparse.Namespace, size: str, corpus: Corpus, team: Team, base: Checkpoint | None
) -> tuple[ModelConfig, Recipe]:
    """Return the shape and recipe of a size (or the shape of `base`), with the overrides of the options."""
    from knock_training.optimizing import native_precision
    from knock_training.recipe import Recipe
    from knock_training.sizes import SIZES, fine_tuning

    known = SIZES[size].recipe
    if base is not None:
        config, known = base.weights.config, fine_tuning(known)
    else:
        config = _config({"vocab_size": corpus.vocab.vocab_size, **_shape(size, corpus), **given(options, SHAPE)})
    return config, Recipe(**{**known, "precision": native_precision(team.device), **given(options, RECIPE)})


def _shape(size: str, corpus: Corpus) -> dict[str, Any]:
    """Return the shape of a size for a corpus."""
    from knock_training.sizes import shape_for

    return shape_for(size, None if corpus.text.items is None else corpus.text.longest)


def resumed_job(
    options: argparse.Namespace, path: Path, state: State, base: Checkpoint | None, team: Team, messages: Messages
) -> Job:
    """Restore corpus, teachers, config and recipe from the saved state, which was read from `path`.

    Options override the restored values, so that `train` can reject those that differ.
    """
    from knock.vocab import Vocab
    from knock_training.recipe import Recipe
    from knock_training.run import WATCHED_BLOCKS
    from knock_training.state import check_same

    what, saved = state
    items, split = saved_reading(options, what)
    check_same(
        {"items": what["items"], "validation": what["validation"]},
        {"items": None if items is None else items.to_record(), "validation": split.to_record()},
        str(path),
    )
    vocab = Vocab.from_json(what["vocabulary"], lowercase=what["lowercase"], boundary=items is not None)
    if options.lowercase:
        check_same({"lowercase": vocab.lowercase}, {"lowercase": True}, str(path))
    if base is not None:
        assert base.vocab is not None
        before, now = {"vocabulary": vocab.to_json()}, {"vocabulary": base.vocab.to_json()}
        check_same({**before, **what["config"]}, {**now, **base.weights.config.to_dict()}, str(path))
    options.unknown = what["unknown"]
    options.min_count = options.min_count or what["min_count"]
    try:
        corpus = read_corpus(options, vocab, items, split)
    except VocabError as error:
        raise TrainingError(f"{str(path)!r} belongs to a run on another corpus: {error}") from error
    recipe = what["recipe"] | {"betas": tuple(what["recipe"]["betas"])} | given(options, RECIPE)
    size = {} if options.size == "auto" or base is not None else _shape(options.size, corpus)
    left = saved["numbers"]["seconds_left"]
    names = options.teacher or [teacher["name"] for teacher in what.get("teachers", [])]
    return Job(
        corpus=corpus,
        config=_config({**what["config"], **size, **given(options, SHAPE)}),
        recipe=Recipe(**recipe),
        ends=None if left is None else time.monotonic() + left,
        watched=WATCHED_BLOCKS,  # `train` restores this and closing_seconds from the state
        closing_seconds=None,
        teachers=_taught(names, corpus, team, messages),
    )


def _config(shape: dict[str, Any]) -> ModelConfig:
    """Return the config of a shape.

    Raises:
        ConfigError: if it is invalid; the message names the options.
    """
    from knock.config import ModelConfig

    try:
        return ModelConfig(**shape)
    except ConfigError as error:
        raise as_options(error) from error


def as_options(error: ConfigError) -> ConfigError:
    """Return the error about a shape with the options that set its fields, such as `--n-heads 3` for `n_heads=3`."""

    def option(match: re.Match[str]) -> str:
        name, equals = match.groups()
        return f"--{name.replace('_', '-')}{' ' * bool(equals)}"

    return ConfigError(re.sub(rf"\b({'|'.join(SHAPE)})\b(=?)", option, str(error)))


def given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of these names that the user gave."""
    values = vars(options)
    return {name: values[name] for name in names if name in values}
