"""Train a model by a recipe, and keep the weights with the best validation loss."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from knock.config import ModelConfig
from knock.errors import ConfigError, TextError, TrainingError, WeightsError
from knock.weights import Weights
from knock_training.data import Corpus, random_batch, validation_length
from knock_training.evaluate import block_loss
from knock_training.model import Twin
from knock_training.optimizing import Average, Optimizers, training_step
from knock_training.recipe import Recipe
from knock_training.state import check_same, read_state, write_state
from knock_training.team import Team

_WATCHED_BLOCKS = 256  # validation blocks while training; the evaluation of a finished model takes all
_TIMED = 12  # steps, to plan how many there is time for
_EVALUATIONS = 20  # that a plan has time for
_LAST_EVALUATION = 6  # as long as so many of those: two losses over all of the validation text

Ended = Literal["done", "early", "interrupted", "diverged"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training run is.

    Attributes:
        step: steps done.
        steps: steps planned.
        loss: training loss in nats/char, mean since the last report with a validation loss.
        validation_loss: loss on validation blocks, at evaluations only.
        best_loss: the lowest validation loss so far; infinite before the first.
        learning_rate: AdamW's, in the step that was done.
        chars_per_second: training speed since the start, evaluations left out.
        seconds: of training so far, evaluations left out.
        seconds_left: time to the end at that speed.
        weights: the weights as they are, at evaluations only.
    """

    step: int
    steps: int
    loss: float
    validation_loss: float | None
    best_loss: float
    learning_rate: float
    chars_per_second: float
    seconds: float
    seconds_left: float
    weights: Weights | None


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training run leaves.

    Attributes:
        weights: those with the best validation loss; those of the end, if there was none yet.
        is_evaluated: whether there was one.
        ended: `"done"`; `"early"` when the validation loss had not fallen for as long as the recipe's patience;
            `"interrupted"`; or `"diverged"` when the loss was no longer a finite number.
        record: corpus and recipe as a dict fit for JSON, kept in the model file.
    """

    weights: Weights
    is_evaluated: bool
    ended: Ended
    record: dict[str, Any]


def train(
    config: ModelConfig,
    corpus: Corpus,
    recipe: Recipe | None = None,
    *,
    start: Weights | None = None,
    state: Path | None = None,
    resume: bool = False,
    team: Team | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    keep: Callable[[Weights, dict[str, Any]], None] = lambda weights, record: None,
) -> TrainingResult:
    """Train a model on a corpus. The same arguments give the same weights on one CPU thread.

    Args:
        config: the model's shape; its vocabulary is the corpus's.
        corpus: the text.
        recipe: how to train; the defaults if None.
        start: the first weights; random ones if None.
        state: a file for the state of the run, written after each evaluation, from which it can be gone on with.
        resume: whether to go on from there; the weights come to be what they would have been without a stop.
        team: the processes that train together; this one alone if None. Only the first reports and writes.
        report: called after every step.
        should_stop: asked before every step; once it says yes, the best weights so far are returned.
        keep: given the weights, with the record so far, whenever there are better ones.

    Raises:
        ConfigError: if the config has another vocabulary size than the corpus.
        TextError: if the corpus is shorter than training needs.
        TrainingError: if the loss was not finite before there was anything to keep; if there is no state to resume, or
            it is that of another run.
    """
    run = _Run(config, corpus, recipe or Recipe(), start, team or Team())
    if resume:
        assert state is not None
        what, saved = read_state(state)
        check_same(what, run.what, str(state))
        run.restore(saved)

    def save() -> None:
        if state is not None and run.team.leads:
            write_state(state, run.what, run.saved())

    ended: Ended = "done"
    while run.step < run.recipe.steps:
        if run.team.any(should_stop()):
            ended = "interrupted"
            save()
            break
        if not run.advance():
            ended = "diverged"
            break
        weights, validation_loss = None, None
        if run.step % run.recipe.eval_interval == 0 or run.step == run.recipe.steps:
            weights, validation_loss = run.evaluate()
            if weights is None:
                ended = "diverged"
                break
            if run.best_step == run.step and run.team.leads:
                keep(weights, run.record(None))
        if run.team.leads:
            report(run.progress(weights, validation_loss))
        if weights is not None:
            run.losses = []
            save()
            if run.is_out_of_patience:
                ended = "early"
                break
    if ended == "diverged" and state is not None and run.team.leads:
        state.unlink(missing_ok=True)  # to go on from there would lead to the same end
    is_evaluated = run.best is not None
    best = run.best or (None if ended == "diverged" else run.weights())
    if best is None:
        raise TrainingError(
            f"the loss was not a finite number at step {run.step}; try learning rates below "
            f"{run.recipe.learning_rate:g} and {run.recipe.matrix_learning_rate:g}"
        )
    if not is_evaluated:
        run.best_step = run.step
    return TrainingResult(weights=best, is_evaluated=is_evaluated, ended=ended, record=run.record(ended))


class _Run:
    """A training run.

    Attributes:
        team: the processes that train together.
        recipe: how.
        what: which run it is, fit for JSON.
        average: of the weights; what is evaluated and kept.
        step: steps done.
        losses: of the steps since the last evaluation.
        best: the weights with the lowest validation loss, in step `best_step`.
    """

    def __init__(self, config: ModelConfig, corpus: Corpus, recipe: Recipe, start: Weights | None, team: Team) -> None:
        if config.vocab_size != corpus.vocab.vocab_size:
            raise ConfigError(
                f"the config has vocab_size {config.vocab_size} and the corpus {corpus.vocab.vocab_size} characters; "
                "make the config from the corpus's vocabulary"
            )
        self._length = sequence_length(config, corpus, recipe)
        self._corpus = corpus
        self.team, self.recipe = team, recipe
        self.what = {
            "corpus": corpus.sha256,
            "vocabulary": corpus.vocab.to_json(),
            "lowercase": corpus.vocab.lowercase,
            "unknown": corpus.unknown,
            "config": config.to_dict(),
            "recipe": {
                name: list(value) if isinstance(value, tuple) else value for name, value in vars(recipe).items()
            },
        }
        self._twin = Twin(start or Weights.random(config, recipe.seed), recipe.dropout).to(team.device)
        self._wrapped = team.wrapped(self._twin)
        self._optimizers = Optimizers(self._twin, recipe)
        self.average = Average(self._twin, recipe.ema)
        self.step = self.best_step = self._seen = 0
        self.best: Weights | None = None
        self._best_loss = math.inf
        self._worse = 0  # evaluations since the best
        self._seconds = 0.0
        self.losses: list[float] = []

    def advance(self) -> bool:
        """One step. Whether its loss is a finite number."""
        started = time.perf_counter()
        recipe, team = self.recipe, self.team
        # What is random in a step depends on the seed and the step alone, so that nothing has to be kept to resume.
        rng = np.random.default_rng((recipe.seed, self.step))
        sequences = max(1, recipe.batch_chars_at(self.step) // self._length)
        sequences = -(-sequences // team.size) * team.size
        inputs, targets = random_batch(self._corpus.train, sequences, self._length, rng)
        torch.manual_seed(int(rng.integers(2**63)) + team.rank)  # dropout
        batch = team.share(inputs), team.share(targets)
        loss = team.mean(training_step(self._wrapped, self._optimizers, batch, recipe, self.step))
        self.average.update(self.step)
        self.losses.append(loss)
        self.step += 1
        self._seen += sequences * self._length
        self._seconds += time.perf_counter() - started
        return math.isfinite(loss)

    def weights(self) -> Weights | None:
        """The average of the weights; None where they are no longer finite."""
        try:
            return self.average.twin.weights()
        except WeightsError:
            return None

    def evaluate(self) -> tuple[Weights | None, float]:
        """The average of the weights, None if it or its loss is not finite, and that loss; the best is kept."""
        weights = self.weights()
        if weights is None:
            return None, math.nan
        loss = torch.zeros(1, dtype=torch.float64, device=self.team.device)
        if self.team.leads:
            loss += block_loss(self.average.twin, self._corpus.validation, at_most=_WATCHED_BLOCKS).nats
        validation_loss = self.team.mean(loss) * self.team.size
        self._worse += 1
        if validation_loss < self._best_loss:
            self.best, self._best_loss, self.best_step, self._worse = weights, validation_loss, self.step, 0
        return weights if math.isfinite(validation_loss) else None, validation_loss

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the validation loss has not fallen for too long."""
        return self.recipe.patience is not None and self._worse >= self.recipe.patience

    def progress(self, weights: Weights | None, validation_loss: float | None) -> Progress:
        """Where the run is."""
        return Progress(
            step=self.step,
            steps=self.recipe.steps,
            loss=sum(self.losses) / len(self.losses),
            validation_loss=validation_loss,
            best_loss=self._best_loss,
            learning_rate=self.recipe.learning_rate * self.recipe.rate_at(self.step - 1),
            chars_per_second=self._seen / self._seconds,
            seconds=self._seconds,
            seconds_left=(self.recipe.steps - self.step) * self._seconds / self.step,
            weights=weights,
        )

    def record(self, ended: Ended | None) -> dict[str, Any]:
        """What a model file says of the run."""
        corpus = self._corpus
        return {
            "corpus": {
                "name": corpus.name,
                "sha256": corpus.sha256,
                "characters": len(corpus),
                "validation_characters": len(corpus.validation),
            },
            "recipe": asdict(self.recipe)
            | {"sequence_length": self._length, "threads": torch.get_num_threads(), "processes": self.team.size},
            "ended": ended or "not yet",
            "steps_done": self.step,
            "best_step": self.best_step,
            "seconds": round(self._seconds, 1),
            "torch": torch.__version__,
        }

    def saved(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "twin": self._twin.state_dict(),
            "average": self.average.twin.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.all.items()},
            "best": None
            if self.best is None
            else {name: torch.from_numpy(self.best[name].copy()) for name in self.best},
            "numbers": {
                "step": self.step,
                "seen": self._seen,
                "seconds": self._seconds,
                "best_step": self.best_step,
                "best_loss": self._best_loss,
                "worse": self._worse,
                "losses": self.losses,
            },
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what was saved."""
        self._twin.load_state_dict(saved["twin"])
        self.average.twin.load_state_dict(saved["average"])
        for name, optimizer in self._optimizers.all.items():
            optimizer.load_state_dict(saved["optimizers"][name])
        best: dict[str, Tensor] | None = saved["best"]
        if best is not None:
            self.best = Weights(self._twin.config, {name: tensor.numpy() for name, tensor in best.items()})
        numbers = saved["numbers"]
        self.step, self._seen, self._seconds = numbers["step"], numbers["seen"], numbers["seconds"]
        self.best_step, self._best_loss, self._worse = numbers["best_step"], numbers["best_loss"], numbers["worse"]
        self.losses = list(numbers["losses"])


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


def plan(
    config: ModelConfig,
    corpus: Corpus,
    recipe: Recipe,
    minutes: float,
    eval_interval: int | None = None,
    team: Team | None = None,
) -> Recipe:
    """The recipe with as many steps as take so many minutes here, evaluations included.

    Args:
        config: the model's shape.
        corpus: the text.
        recipe: how to train.
        minutes: how long.
        eval_interval: steps between evaluations; as many as make about 20 of those if None.
        team: the processes that train together; this one alone if None.

    Raises:
        TextError: if the corpus is shorter than training needs.
    """
    run = _Run(config, corpus, replace(recipe, steps=_TIMED), None, team or Team())
    times = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        run.advance()
        times.append(time.perf_counter() - started)
    step = statistics.median(times[1:])
    started = time.perf_counter()
    run.evaluate()
    evaluation = time.perf_counter() - started
    left = 60 * minutes - sum(times) - (1 + _LAST_EVALUATION) * evaluation
    if eval_interval is None:
        left -= _EVALUATIONS * evaluation
    else:
        step += evaluation / eval_interval
    whole = max(1, int(run.team.mean(torch.tensor(left / step, device=run.team.device))))
    return replace(recipe, steps=whole, eval_interval=eval_interval or max(1, -(-whole // _EVALUATIONS)))
