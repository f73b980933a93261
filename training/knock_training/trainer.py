"""Train a model and keep the weights with the lowest validation loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from knock.config import ModelConfig
from knock.errors import TrainingError
from knock.weights import Weights
from knock_training.data import Corpus
from knock_training.progress import Progress
from knock_training.recipe import Recipe
from knock_training.run import WATCHED_BLOCKS, Ended, Run
from knock_training.state import check_same, read_state, write_state
from knock_training.teaching import Teachers
from knock_training.team import Team
from knock_training.threads import Threads

Activity = Literal["training", "evaluating"]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """The result of a training run.

    Attributes:
        weights: weights with the lowest validation loss, or the last ones if there was no evaluation.
        is_evaluated: whether there was an evaluation.
        is_lost: whether the weights predict worse than the unigram distribution.
        ended: why the run ended: `"done"`; `"early"` if the recipe's patience ran out; `"interrupted"`; or `"diverged"`
            if the loss became infinite or NaN, or stayed above the unigram loss.
        improvement: how much the validation loss of a finished run still fell in the last tenth of the steps, in
            nats/char; 0 if a longer run would not be better.
        record: corpus, recipe and outcome as a JSON-serialisable dict, stored in the model file.
        unsaved: why the state of an interrupted run could not be written, so that it cannot be resumed from where it
            stopped; None if it was, or is not needed.
    """

    weights: Weights
    is_evaluated: bool
    is_lost: bool
    ended: Ended
    record: dict[str, Any]
    improvement: float = 0.0
    unsaved: TrainingError | None = None


class Stopped(KeyboardInterrupt):
    """Ctrl-C that `should_stop` did not take as a request to stop.

    Attributes:
        result: the result so far.
    """

    def __init__(self, result: TrainingResult) -> None:
        super().__init__(result)
        self.result = result


def train(
    config: ModelConfig,
    corpus: Corpus,
    recipe: Recipe | None = None,
    *,
    start: Weights | None = None,
    origin: Mapping[str, Any] | None = None,
    state: Path | None = None,
    resume: bool = False,
    team: Team | None = None,
    teachers: Teachers | None = None,
    threads: Threads | None = None,
    seconds: float | None = None,
    watched: int = WATCHED_BLOCKS,
    report: Callable[[Progress], None] = lambda progress: None,
    begun: Callable[[float], None] = lambda validation_loss: None,
    doing: Callable[[Activity], None] = lambda activity: None,
    should_stop: Callable[[], bool] = lambda: False,
    keep: Callable[[Weights, dict[str, Any]], None] = lambda weights, record: None,
) -> TrainingResult:
    """Train a model on a corpus.

    On one CPU thread and without `seconds`, the same arguments give the same weights.

    Args:
        config: shape of the model. Its vocabulary size must be that of the corpus.
        corpus: text to train on.
        recipe: training settings; the defaults if None.
        start: initial weights; random if None. They are evaluated before the first step, and returned if no later ones
            are better.
        origin: what the training record says about `start`, as a JSON-serialisable dict.
        state: state file from which the run can be resumed, written after each evaluation.
        resume: whether to resume the run from `state`.
        team: processes that train together; only this one if None. Only rank 0 reports and writes.
        teachers: what other models expect of the training text, to learn from besides the text; None for the text
            alone.
        threads: chooses the number of CPU threads for each step; None keeps PyTorch's setting.
        seconds: time limit for all steps and their evaluations. The number of steps, first planned by
            `knock_training.planning.plan`, is adjusted to the measured speed. None keeps the recipe's number of steps.
        watched: validation blocks per evaluation.
        report: called after every step.
        begun: called with the validation loss of `start`.
        doing: called with what the run does next, when that changes.
        should_stop: called before every step. If it returns True, training stops and the best weights are returned.
        keep: called with the weights and the record so far whenever the validation loss improves, unless the run is
            diverging.

    Raises:
        ConfigError: if the vocabulary sizes of config and corpus differ.
        TextError: if the corpus is too short to train on.
        TrainingError: if the run diverged before it produced usable weights, or `state` is missing, damaged, belongs to
            another run or cannot be written after an evaluation.
        Stopped: on Ctrl-C, if there was a step.
    """
    if resume and state is None:
        raise TrainingError("resume=True needs a state to resume from, got state=None; pass the path of the state file")
    run = Run(
        config, corpus, recipe or Recipe(), start, team or Team(), teachers=teachers, threads=threads, seconds=seconds,
        watched=watched,
    )  # fmt: skip
    if resume and state is not None:
        what, saved = read_state(state)
        check_same(what, run.identity, str(state))
        run.restore(saved)
    elif start is not None:
        doing("evaluating")
        begun(run.evaluate_start(origin or {}))
    try:
        ended, unsaved = _run_steps(run, state, report, doing, should_stop, keep)
    except KeyboardInterrupt:
        best = run.best if run.best is not None or not run.step else run.weights()
        if best is None:
            raise
        raise Stopped(_result(run, best, "interrupted")) from None
    if ended == "diverged" and state is not None and run.team.leads:
        state.unlink(missing_ok=True)  # a resumed run would diverge too
    best = run.best
    if ended == "diverged" and run.best_is_lost:
        best = None
    elif best is None:
        best = run.weights()
    if best is None:
        raise _diverged(run)
    return _result(run, best, ended, unsaved)


def _result(run: Run, weights: Weights, ended: Ended, unsaved: TrainingError | None = None) -> TrainingResult:
    """Return the result of a run: the best weights, or the last ones if there was no evaluation."""
    is_evaluated = run.best is not None
    if not is_evaluated:
        run.best_step = run.step
    return TrainingResult(
        weights=weights,
        is_evaluated=is_evaluated,
        is_lost=is_evaluated and run.best_is_lost,
        ended=ended,
        record=run.record(ended),
        improvement=run.improvement if ended == "done" else 0.0,
        unsaved=unsaved,
    )


def _run_steps(
    run: Run,
    state: Path | None,
    report: Callable[[Progress], None],
    doing: Callable[[Activity], None],
    should_stop: Callable[[], bool],
    keep: Callable[[Weights, dict[str, Any]], None],
) -> tuple[Ended, TrainingError | None]:
    """Take steps until the run ends; return why it ended, and why an interrupted run could not be saved."""

    def save() -> None:
        if state is not None and run.team.leads:
            write_state(state, run.identity, run.saved())

    doing("training")
    while run.step < run.recipe.steps:
        if run.team.any(should_stop()):
            try:
                save()
            except TrainingError as error:  # the model may still be small enough to be written
                return "interrupted", error
            return "interrupted", None
        if not run.advance():
            return "diverged", None
        run.replan()
        weights, validation_loss = None, None
        if run.step % run.recipe.eval_interval == 0 or run.step == run.recipe.steps:
            doing("evaluating")
            weights, validation_loss = run.evaluate()
            if weights is None:
                return "diverged", None
            if run.is_worth_keeping and run.team.leads:
                keep(weights, run.record(None))
            doing("training")
        if run.team.leads:
            report(run.progress(weights, validation_loss))
        if weights is not None:
            if run.has_diverged:
                return "diverged", None
            run.losses = []
            save()
            if run.is_out_of_patience:
                return "early", None
    return "done", None


def _diverged(run: Run) -> TrainingError:
    rates = f"try learning rates below {run.recipe.learning_rate:g} and {run.recipe.matrix_learning_rate:g}"
    if run.best is None or not math.isfinite(run.best_loss):
        return TrainingError(f"the loss is not a finite number at step {run.step}; {rates}")
    return TrainingError(
        f"the run diverged: after {run.step:,} steps the best validation loss is {run.best_loss:.2f} nats/char, but "
        f"character frequencies alone give {run.unigram_loss:.2f}; {rates}"
    )
