"""Plan a training run that fits into a given time."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace

import torch

from knock.config import ModelConfig
from knock_training.data import Corpus
from knock_training.evaluate import BLOCK, MAX_CHARACTERS
from knock_training.losses import block_loss
from knock_training.model import Twin
from knock_training.recipe import Recipe
from knock_training.run import WATCHED_BLOCKS, Run
from knock_training.teaching import Teachers
from knock_training.team import Team
from knock_training.threads import Threads

LEAST_STEPS = 100  # with fewer steps, a model hardly learns anything

_TIMED = 8  # steps to time, after a first one that is slower
_TIMING = 0.1  # largest share of the time to spend on timing
_EVALUATING = 0.05  # share of the time for validation during the run; the final evaluation gets the same share
_EVALUATIONS = 20  # largest number of evaluations, unless the user sets the interval
_FEWEST_BLOCKS = 16  # smallest number of blocks in an evaluation
_RESERVE = 1.2  # safety factor for the time of the final evaluation,
_STARTING = 1.0  # and seconds for the engine to start


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training run that fits into a given time.

    Attributes:
        recipe: recipe with the planned number of steps, at least 1, and evaluation interval.
        steps: number of steps that fit into the time; 0 if not even one does.
        step_seconds: time of a step.
        watched: validation blocks per evaluation during the run.
        closing_seconds: time reserved for the evaluation of the finished model.
    """

    recipe: Recipe
    steps: int
    step_seconds: float
    watched: int
    closing_seconds: float

    def minutes_for(self, steps: int) -> float:
        """Return the minutes that a number of steps takes, evaluations included."""
        return steps * self.step_seconds / 60 / (1 - 2 * _EVALUATING)


def plan(
    config: ModelConfig,
    corpus: Corpus,
    recipe: Recipe,
    seconds: float,
    *,
    eval_interval: int | None = None,
    team: Team | None = None,
    teachers: Teachers | None = None,
    threads: Threads | None = None,
) -> Plan:
    """Plan how many steps fit into a given time, by timing steps and evaluations on this machine.

    All evaluations together take at most a tenth of the time, unless `eval_interval` asks for more.

    Args:
        config: shape of the model.
        corpus: text to train on.
        recipe: recipe to adapt.
        seconds: time for everything from now on, including the timing itself.
        eval_interval: steps between evaluations; about 20 evaluations if None.
        team: processes that train together; only this one if None.
        teachers: as for the run.
        threads: chooses the number of CPU threads for each step. Pass the same object to the run.

    Raises:
        TextError: if the corpus is too short to train on.
    """
    team = team or Team()
    started = time.perf_counter()
    timed = Run(config, corpus, replace(recipe, steps=2**53), None, team, teachers=teachers, threads=threads)
    step = _step_seconds(timed, seconds)
    block = _block_seconds(Run(config, corpus, recipe, None, team).average.twin, corpus)
    step, block, seconds = (
        team.mean(torch.tensor(each, dtype=torch.float64, device=team.device))
        for each in (step, block, seconds - (time.perf_counter() - started))
    )
    share = max(0.0, _EVALUATING * seconds)
    closing = min(share, _STARTING + _RESERVE * block * _final_blocks(config, corpus))
    most_steps = max(1.0, (seconds - closing) / step)  # without evaluations
    evaluations = _EVALUATIONS if eval_interval is None else math.ceil(most_steps / eval_interval)
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


def _final_blocks(config: ModelConfig, corpus: Corpus) -> float:
    """Return the cost of the final evaluation in blocks, at most: the engine is faster than PyTorch.

    Past its window, an absolute model computes a whole window per character.
    """
    blocks, T = min(MAX_CHARACTERS, len(corpus.validation)) / BLOCK, config.longest_window
    if config.position == "relative":
        return 2 * blocks
    block, stream = min(T, BLOCK) + max(0, BLOCK - T) * T, BLOCK * T  # positions computed per block of text
    return blocks * (1 + stream / block)


def _step_seconds(run: Run, seconds: float) -> float:
    """Return the median time of a step in a throwaway run, once the number of threads is settled."""
    started = time.perf_counter()
    times: list[float] = []
    while len(times) < _TIMED + 1:
        before = time.perf_counter()
        is_settled = run.is_settled_on_threads
        run.advance()
        now = time.perf_counter()
        if is_settled or run.team.size > 1:
            times.append(now - before)
        # All processes must stop at the same step, because a step needs all of them.
        if run.team.any(now - started > _TIMING * seconds and run.step >= 2):
            times = times or [now - before]
            break
    return statistics.median(times[1:] or times)


def _block_seconds(twin: Twin, corpus: Corpus) -> float:
    """Return the time to evaluate one validation block."""
    blocks = min(_FEWEST_BLOCKS, max(1, len(corpus.validation) // BLOCK))
    text = corpus.validation[: blocks * BLOCK + 1]
    times = []
    for _ in range(2):
        started = time.perf_counter()
        block_loss(twin, text)
        times.append(time.perf_counter() - started)
    return min(times) / blocks
