"""Train a model by a recipe, and keep the weights with the best validation loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knock.config import ModelConfig
from knock.errors import TrainingError
from knock.weights import Weights
from knock_training.data import Corpus
from knock_training.recipe import Recipe
from knock_training.run import WATCHED_BLOCKS, Ended, Progress, Run
from knock_training.state import check_same, read_state, write_state
from knock_training.team import Team
from knock_training.threads import Threads


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training run leaves.

    Attributes:
        weights: those with the best validation loss; those of the end, if there was none yet.
        is_evaluated: whether there was one.
        is_lost: whether they predict worse than the characters' frequencies alone.
        ended: `"done"`; `"early"` when the validation loss had not fallen for as long as the recipe's patience;
            `"interrupted"`; or `"diverged"` when the loss was no longer a finite number, or stayed above that of the
            characters' frequencies alone.
        record: corpus and recipe as a dict fit for JSON, kept in the model file.
    """

    weights: Weights
    is_evaluated: bool
    is_lost: bool
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
    threads: Threads | None = None,
    seconds: float | None = None,
    watched: int = WATCHED_BLOCKS,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    keep: Callable[[Weights, dict[str, Any]], None] = lambda weights, record: None,
) -> TrainingResult:
    """Train a model on a corpus. The same arguments give the same weights on one CPU thread, without `seconds`.

    Args:
        config: the model's shape; its vocabulary is the corpus's.
        corpus: the text.
        recipe: how to train; the defaults if None.
        start: the first weights; random ones if None.
        state: a file for the state of the run, written after each evaluation, from which it can be resumed.
        resume: whether to resume the run from there.
        team: the processes that train together; this one alone if None. Only the first reports and writes.
        threads: chooses the CPU threads of each step; None leaves them as PyTorch has them.
        seconds: time for all steps and their evaluations, which `knock_training.planning.plan` has planned for: the
            number of steps is corrected as they are timed. None leaves it as the recipe has it.
        watched: validation blocks of an evaluation.
        report: called after every step.
        should_stop: asked before every step; once it says yes, the best weights so far are returned.
        keep: given the weights, with the record so far, whenever there are better ones that are not those of a run that
            diverges.

    Raises:
        ConfigError: if the config has another vocabulary size than the corpus.
        TextError: if the corpus is shorter than training needs.
        TrainingError: if the run diverged before there was anything to keep; if there is no state to resume, or it is
            that of another run.
    """
    run = Run(
        config, corpus, recipe or Recipe(), start, team or Team(), threads=threads, seconds=seconds, watched=watched
    )
    if resume:
        assert state is not None
        what, saved = read_state(state)
        check_same(what, run.what, str(state))
        run.restore(saved)
    ended = _follow(run, state, report, should_stop, keep)
    if ended == "diverged" and state is not None and run.team.leads:
        state.unlink(missing_ok=True)  # to resume from there would lead to the same end
    is_evaluated = run.best is not None
    best = run.best
    if ended == "diverged" and run.best_is_lost:
        best = None
    elif best is None:
        best, run.best_step = run.weights(), run.step
    if best is None:
        raise _diverged(run)
    return TrainingResult(
        weights=best,
        is_evaluated=is_evaluated,
        is_lost=is_evaluated and run.best_is_lost,
        ended=ended,
        record=run.record(ended),
    )


def _follow(
    run: Run,
    state: Path | None,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    keep: Callable[[Weights, dict[str, Any]], None],
) -> Ended:
    """Take steps until there is a reason to end."""

    def save() -> None:
        if state is not None and run.team.leads:
            write_state(state, run.what, run.saved())

    while run.step < run.recipe.steps:
        if run.team.any(should_stop()):
            save()
            return "interrupted"
        if not run.advance():
            return "diverged"
        run.replan()
        weights, validation_loss = None, None
        if run.step % run.recipe.eval_interval == 0 or run.step == run.recipe.steps:
            weights, validation_loss = run.evaluate()
            if weights is None:
                return "diverged"
            if run.is_worth_keeping and run.team.leads:
                keep(weights, run.record(None))
        if run.team.leads:
            report(run.progress(weights, validation_loss))
        if weights is not None:
            if run.has_diverged:
                return "diverged"
            run.losses = []
            save()
            if run.is_out_of_patience:
                return "early"
    return "done"


def _diverged(run: Run) -> TrainingError:
    rates = f"try learning rates below {run.recipe.learning_rate:g} and {run.recipe.matrix_learning_rate:g}"
    if run.best is None or not math.isfinite(run.best_loss):
        return TrainingError(f"the loss was not a finite number at step {run.step}; {rates}")
    return TrainingError(
        f"the run diverged: after {run.step:,} steps the validation loss is {run.best_loss:.2f} nats/char at best, and "
        f"the characters' frequencies alone give {run.unigram_loss:.2f}; {rates}"
    )
