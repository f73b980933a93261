"""Plan a run by the time that there is for it."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace

import torch

from knock.config import ModelConfig
from knock_training.data import Corpus
from knock_training.evaluate import BLOCK, MOST, block_loss
from knock_training.model import Twin
from knock_training.recipe import Recipe
from knock_training.run import WATCHED_BLOCKS, Run
from knock_training.team import Team
from knock_training.threads import Threads

LEAST_STEPS = 100  # with fewer, a model has hardly seen its text

_TIMED = 8  # steps after the first, which is slower
_TIMING = 0.1  # share of the time, at most, that timing takes
_EVALUATING = 0.05  # share of the time for the validation losses of the run, and as much for the evaluation at the end
_EVALUATIONS = 20  # at most, unless the user chooses the interval
_FEWEST_BLOCKS = 16  # of an evaluation
_RESERVE = 1.2  # times what the evaluation at the end is expected to take


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that fits into a time.

    Attributes:
        recipe: how to train, with as many steps as there is time for; fewer than 1 if there is no time.
        steps: those steps, 0 if there is no time for one.
        step_seconds: what a step takes.
        watched: validation blocks of an evaluation.
        closing_seconds: time for the evaluation of the finished model.
    """

    recipe: Recipe
    steps: int
    step_seconds: float
    watched: int
    closing_seconds: float

    def minutes_for(self, steps: int) -> float:
        """The time that so many steps take, with their share of evaluations."""
        return steps * self.step_seconds / 60 / (1 - 2 * _EVALUATING)


def plan(
    config: ModelConfig,
    corpus: Corpus,
    recipe: Recipe,
    seconds: float,
    *,
    eval_interval: int | None = None,
    team: Team | None = None,
    threads: Threads | None = None,
) -> Plan:
    """The steps that there is time for, measured on this machine. Evaluations take a tenth of the time at most.

    Args:
        config: the model's shape.
        corpus: the text.
        recipe: how to train.
        seconds: the time for everything from now on.
        eval_interval: steps between evaluations; about 20 evaluations if None.
        team: the processes that train together; this one alone if None.
        threads: chooses the CPU threads of each step; it goes on from here in the run.

    Raises:
        TextError: if the corpus is shorter than training needs.
    """
    team = team or Team()
    started = time.perf_counter()
    step = _step_seconds(Run(config, corpus, replace(recipe, steps=2**53), None, team, threads=threads), seconds)
    block = _block_seconds(Run(config, corpus, recipe, None, team).average.twin, corpus)
    step, block, seconds = (
        team.mean(torch.tensor(each, dtype=torch.float64, device=team.device))
        for each in (step, block, seconds - (time.perf_counter() - started))
    )
    share = max(0.0, _EVALUATING * seconds)
    closing = min(share, _RESERVE * block * _blocks_at_the_end(config, corpus))
    without_any = max(1.0, (seconds - closing) / step)
    evaluations = _EVALUATIONS if eval_interval is None else math.ceil(without_any / eval_interval)
    watched = min(WATCHED_BLOCKS, max(_FEWEST_BLOCKS, int(share / (evaluations * block))))
    if eval_interval is None:
        evaluations = min(evaluations, max(1, int(share / (watched * block))))
        steps = (seconds - closing - evaluations * watched * block) / step
    else:
        steps = (seconds - closing) / (step + watched * block / eval_interval)
    steps = max(0, int(steps))
    return Plan(
        recipe=replace(
            recipe, steps=max(1, steps), eval_interval=eval_interval or max(1, math.ceil(steps / evaluations))
        ),
        steps=steps,
        step_seconds=step,
        watched=watched,
        closing_seconds=closing,
    )


def _blocks_at_the_end(config: ModelConfig, corpus: Corpus) -> float:
    """How many blocks the evaluation at the end takes as long as; an absolute model slides its window over a stream."""
    blocks = min(MOST, len(corpus.validation)) / BLOCK
    return blocks * (2 if config.position == "relative" else 1 + config.T)


def _step_seconds(run: Run, seconds: float) -> float:
    """What a step takes, by some steps of a run that is thrown away, once the number of threads is decided."""
    started = time.perf_counter()
    times: list[float] = []
    while len(times) < _TIMED + 1:
        before = time.perf_counter()
        is_settled = run.is_settled_on_threads
        run.advance()
        now = time.perf_counter()
        if is_settled or run.team.size > 1:
            times.append(now - before)
        # In the same step for all processes, which have to take it together.
        if run.team.any(now - started > _TIMING * seconds and run.step >= 2):
            times = times or [now - before]
            break
    return statistics.median(times[1:] or times)


def _block_seconds(twin: Twin, corpus: Corpus) -> float:
    """What the loss of a validation block takes."""
    blocks = min(_FEWEST_BLOCKS, max(1, len(corpus.validation) // BLOCK))
    text = corpus.validation[: blocks * BLOCK + 1]
    times = []
    for _ in range(2):
        started = time.perf_counter()
        block_loss(twin, text)
        times.append(time.perf_counter() - started)
    return min(times) / blocks
