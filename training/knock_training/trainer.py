"""Train a model by a recipe, and keep the weights with the best validation loss."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from knock.config import ModelConfig
from knock.errors import ConfigError, TextError, TrainingError
from knock.weights import Weights
from knock_training.data import Corpus, random_batch, validation_length
from knock_training.evaluate import block_loss
from knock_training.model import Twin
from knock_training.optimizing import Average, Optimizers, training_step
from knock_training.recipe import Recipe

_WATCHED_BLOCKS = 256  # validation blocks while training; the evaluation of a finished model takes all


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training run is.

    Attributes:
        step: steps done.
        steps: steps planned.
        loss: training loss in nats/char, mean since the last report with a validation loss.
        validation_loss: loss on validation blocks, at evaluations only.
        chars_per_second: training speed since the start, evaluations left out.
        seconds_left: time to the end at that speed.
        weights: the weights as they are, at evaluations only.
    """

    step: int
    steps: int
    loss: float
    validation_loss: float | None
    chars_per_second: float
    seconds_left: float
    weights: Weights | None


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training run leaves.

    Attributes:
        weights: those with the best validation loss.
        ended: `"done"`, `"interrupted"`, or `"diverged"` when the loss was no longer a finite number.
        record: corpus and recipe as a dict fit for JSON, kept in the model file.
    """

    weights: Weights
    ended: Literal["done", "interrupted", "diverged"]
    record: dict[str, Any]


def train(
    config: ModelConfig,
    corpus: Corpus,
    recipe: Recipe | None = None,
    *,
    start: Weights | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train a new model on a corpus. The same arguments give the same weights on one CPU thread.

    Args:
        config: the model's shape; its vocabulary is the corpus's.
        corpus: the text.
        recipe: how to train; the defaults if None.
        start: the first weights; random ones if None.
        report: called after every step.
        should_stop: asked before every step; once it says yes, the best weights so far are returned.

    Raises:
        ConfigError: if the config has another vocabulary size than the corpus.
        TextError: if the corpus is shorter than training needs.
        TrainingError: if the loss was not finite before there was anything to keep.
    """
    recipe = recipe or Recipe()
    if config.vocab_size != corpus.vocab.vocab_size:
        raise ConfigError(
            f"the config has vocab_size {config.vocab_size} and the corpus {corpus.vocab.vocab_size} characters; "
            "make the config from the corpus's vocabulary"
        )
    length = sequence_length(config, corpus, recipe)
    twin = Twin(start or Weights.random(config, recipe.seed), recipe.dropout)
    optimizers, average = Optimizers(twin, recipe), Average(twin, recipe.ema)

    best, best_loss, best_step = None, math.inf, 0
    ended: Literal["done", "interrupted", "diverged"] = "done"
    seconds, losses, step, seen = 0.0, [], 0, 0
    while step < recipe.steps:
        if should_stop():
            ended = "interrupted"
            break
        started = time.perf_counter()
        # What is random in a step depends on the seed and the step alone, so that nothing has to be kept to resume.
        rng = np.random.default_rng((recipe.seed, step))
        sequences = max(1, recipe.batch_chars_at(step) // length)
        batch = random_batch(corpus.train, sequences, length, rng)
        torch.manual_seed(int(rng.integers(2**63)))  # dropout
        losses.append(training_step(twin, optimizers, batch, recipe, step).item())
        average.update(step)
        step, seen = step + 1, seen + sequences * length
        seconds += time.perf_counter() - started
        if not math.isfinite(losses[-1]):
            ended = "diverged"
            break
        weights, validation_loss = None, None
        if step % recipe.eval_interval == 0 or step == recipe.steps:
            validation_loss = block_loss(average.twin, corpus.validation, at_most=_WATCHED_BLOCKS).nats
            if not math.isfinite(validation_loss):
                ended = "diverged"
                break
            weights = average.twin.weights()
            if validation_loss < best_loss:
                best, best_loss, best_step = weights, validation_loss, step
        report(
            Progress(
                step=step,
                steps=recipe.steps,
                loss=sum(losses) / len(losses),
                validation_loss=validation_loss,
                chars_per_second=seen / seconds,
                seconds_left=(recipe.steps - step) * seconds / step,
                weights=weights,
            )
        )
        if weights is not None:
            losses = []

    if best is None:
        if ended == "diverged":
            raise TrainingError(
                f"the loss was not a finite number at step {step}; try a learning rate below {recipe.learning_rate:g}"
            )
        best, best_step = average.twin.weights(), step
    record = {
        "corpus": {
            "name": corpus.name,
            "sha256": corpus.sha256,
            "characters": len(corpus),
            "validation_characters": len(corpus.validation),
        },
        "recipe": asdict(recipe) | {"sequence_length": length, "threads": torch.get_num_threads()},
        "ended": ended,
        "steps_done": step,
        "best_step": best_step,
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
    }
    return TrainingResult(weights=best, ended=ended, record=record)


def sequence_length(config: ModelConfig, corpus: Corpus, recipe: Recipe) -> int:
    """Characters of a training sequence, as many as the recipe wants and the corpus allows.

    Raises:
        TextError: if the corpus is shorter than a window.
    """

    def enough(characters: int) -> bool:
        validation = validation_length(characters)
        return characters - validation > config.T and validation >= 2

    if not enough(len(corpus)):
        shortest = next(characters for characters in itertools.count(config.T) if enough(characters))
        raise TextError(
            f"{corpus.name!r} has {len(corpus)} characters, and a model with a window of {config.T} needs at least "
            f"{shortest}; use a longer text or a smaller window"
        )
    windows = recipe.windows if config.position == "relative" else 1
    return min(windows * config.T, len(corpus.train) - 1)
