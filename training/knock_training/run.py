"""A training run: model, optimisers, progress and everything needed to resume it."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from knock.config import ModelConfig
from knock.errors import ConfigError, TextError, WeightsError
from knock.weights import Weights
from knock_training.data import Corpus, random_places
from knock_training.graphs import StepGraph
from knock_training.losses import block_loss, unigram_loss
from knock_training.model import Twin
from knock_training.optimizing import Average, Optimizers, training_step
from knock_training.progress import Curve, Progress
from knock_training.recipe import Recipe
from knock_training.teaching import Teachers
from knock_training.team import Team
from knock_training.threads import Threads

WATCHED_BLOCKS = 256  # validation blocks per evaluation during training; the final evaluation uses all

_MARGIN = 0.1  # nats above the unigram loss, from which a loss counts as worse; larger than the noise
_SETTLED = 50  # steps after warm-up from which a run can be declared diverged
# A run has diverged after this number of hopeless evaluations in a row that also cover this share of its steps.
_HOPELESS, _HOPELESS_SHARE = 3, 0.1
_BEFORE_LAST, _FALLING = 0.9, 1e-3  # a loss is still falling if it fell by this share after these steps
_REPLANS = 5  # corrections of the plan between two evaluations


Ended = Literal["done", "early", "interrupted", "diverged"]


def sequence_length(config: ModelConfig, corpus: Corpus, recipe: Recipe) -> int:
    """Return the length of a training sequence: that of the recipe, unless the corpus is shorter.

    Raises:
        TextError: if a text is shorter than a window, or what is held out is too short to evaluate.
    """
    if not corpus.vocab.has_boundary:  # of items, any number is enough
        _check_length(config.longest_window, corpus)
    windows = recipe.windows if config.position == "relative" else 1
    return min(windows * config.longest_window, len(corpus.train) - 1)


def _check_length(T: int, corpus: Corpus) -> None:
    """Check that a text has a window to train on, and a character to predict in what is held out.

    Raises:
        TextError: if it does not.
    """
    split = corpus.text.split
    if len(corpus.train) > T and len(corpus.validation) >= 2:
        return
    if split.how == "file" and len(corpus.train) > T:
        raise TextError(f"validation text {split.file!r} has 1 character, but needs at least 2; use a longer one")

    def enough(characters: int) -> bool:
        validation = split.held_out_length(characters)
        return characters - validation > T and (validation >= 2 or split.is_apart)

    given = len(corpus.train) if split.is_apart else len(corpus)
    raise TextError(
        f"corpus {corpus.name!r} has {given} characters, but a window of {T} needs at least "
        f"{next(filter(enough, itertools.count(T)))}; use a longer text or a smaller window"
    )


def environment(team: Team, threads: Threads | None) -> dict[str, Any]:
    """Return what the bits of the weights depend on besides the run's identity, as numbers and strings.

    Args:
        team: processes that train together.
        threads: what chooses the number of CPU threads, if it is chosen during the run: `"threads"` is None then, and
            where the number does not matter.
    """
    kind = team.device.type
    processor = kind
    if kind == "cpu":
        processor = torch.backends.cpu.get_cpu_capability()
    elif kind == "cuda":
        processor = torch.cuda.get_device_name(team.device)
    return {
        "threads": torch.get_num_threads() if kind == "cpu" and threads is None else None,
        "processes": team.size,
        "device": kind,
        "processor": processor,
        "torch": str(torch.__version__),
    }


class Run:
    """A training run.

    Args:
        config: shape of the model.
        corpus: text to train on.
        recipe: training settings.
        start: initial weights; random if None.
        team: processes that train together.
        teachers: what they expect of the training text; None without any.
        threads: chooses the number of CPU threads for each step; None keeps PyTorch's setting.
        seconds: time limit for all steps and their evaluations. The number of steps is adjusted to the measured speed.
            None keeps the recipe's number of steps.
        watched: validation blocks per evaluation.

    Attributes:
        team: processes that train together.
        recipe: training settings, with the number of steps as currently planned.
        average: running average of the weights, which is evaluated and saved.
        step: steps done.
        losses: training losses of the steps since the last evaluation.
        curve: losses of the whole run.
        best: weights with the lowest validation loss; None before the first evaluation.
        best_step: step at which `best` was evaluated.
        best_loss: validation loss of `best`; infinite before the first evaluation.
        origin: what the training record says about the model that the run starts from; None if it starts from scratch.
        unigram_loss: validation loss of the unigram distribution, in nats/char.
        is_lost: whether both losses of the last evaluation are above those of the unigram distribution.
    """

    def __init__(
        self,
        config: ModelConfig,
        corpus: Corpus,
        recipe: Recipe,
        start: Weights | None,
        team: Team,
        *,
        teachers: Teachers | None = None,
        threads: Threads | None = None,
        seconds: float | None = None,
        watched: int = WATCHED_BLOCKS,
    ) -> None:
        if config.vocab_size != corpus.vocab.vocab_size:
            raise ConfigError(
                f"config has vocab_size {config.vocab_size}, but the corpus has {corpus.vocab.vocab_size} characters; "
                f"set vocab_size={corpus.vocab.vocab_size}"
            )
        self._length = sequence_length(config, corpus, recipe)
        self._corpus = corpus
        self._config = config
        self.team, self.recipe = team, recipe
        self._teachers, self._threads, self._watched = teachers, threads, watched
        self._written = None if teachers is None else teachers.written
        self._tokens = corpus.train if self._written is None else torch.cat([corpus.train, self._written.tokens])
        weights = start or Weights.random(config, recipe.seed)
        self._twin = Twin(weights, recipe.dropout, boundary=corpus.vocab.boundary).to(team.device)
        self._wrapped = team.wrapped(self._twin)
        self._optimizers = Optimizers(self._twin, recipe)
        is_alone_on_gpu = self.team.size == 1 and self.team.device.type == "cuda"
        self._graph = StepGraph(self._twin, self._optimizers, recipe) if is_alone_on_gpu else None
        self.average = Average(self._twin, recipe.ema)
        self.step = self.best_step = self._seen = 0
        self.best: Weights | None = None
        self.best_loss = math.inf
        self.origin: dict[str, Any] | None = None
        self._worse = self._hopeless = 0  # evaluations since the best; consecutive ones that suggest divergence
        self._seconds = 0.0
        self.losses: list[float] = []
        self.curve = Curve()
        self._train_unigram_loss, self.unigram_loss = unigram_loss(corpus.train, corpus.validation, config.vocab_size)
        self._uniform_loss = math.log(config.vocab_size)
        self.is_lost = False
        now = time.perf_counter()
        self._deadline = None if seconds is None else now + seconds
        self._evaluation_seconds = 0.0  # of the last evaluation
        self._planned = (0, now)  # step and time of the last correction; evaluations since then are added to the time

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-serialisable dict that identifies the run: a state file must match it to be resumed."""
        return {
            **self._corpus.identity,
            "config": self._config.to_dict(),
            "recipe": {
                name: list(value) if isinstance(value, tuple) else value for name, value in vars(self.recipe).items()
            },
        } | self._taught

    @property
    def _taught(self) -> dict[str, Any]:
        """What identity and training record say about the teachers."""
        if self._teachers is None:
            return {}
        taught: dict[str, Any] = {"teachers": self._teachers.record}
        if self._written is not None:
            taught["written"] = {"characters": len(self._written.tokens), "share": self._written.share}
        return taught

    def advance(self) -> bool:
        """Take one step and return whether its loss is finite."""
        started = time.perf_counter()
        recipe, team = self.recipe, self.team
        # Randomness depends on the seed and the step alone, so a resumed run needs no generator state.
        rng = np.random.default_rng((recipe.seed, self.step))
        sequences = max(1, recipe.batch_chars_at(self.step) // self._length)
        sequences = -(-sequences // team.size) * team.size
        places = self._places(sequences, rng)
        drawn = self._tokens[places].long()
        torch.manual_seed(int(rng.integers(2**63)) + team.rank)  # dropout
        batch = team.share(drawn[:, :-1]), team.share(drawn[:, 1:])
        expected = None if self._teachers is None else team.share(self._teachers.targets[places[:, :-1]])
        with self._threads.step() if self._threads else contextlib.nullcontext():
            loss = team.mean(self._take_step(batch, expected))
        self.average.update(self.step)
        self.losses.append(loss)
        self.step += 1
        self._seen += sequences * self._length
        self._seconds += time.perf_counter() - started
        return math.isfinite(loss)

    def _places(self, sequences: int, rng: np.random.Generator) -> Tensor:
        """Return the places of random sequences and the token after each: of the corpus, then of the written text."""
        count, length, written = len(self._corpus.train), self._length, self._written
        own = sequences if written is None else round((1 - written.share) * sequences)
        places = random_places(count, own, length, rng, self._corpus.boundaries)
        if written is None:
            return places
        return torch.cat([places, count + random_places(len(written.tokens), sequences - own, length, rng)])

    def _take_step(self, batch: tuple[Tensor, Tensor], expected: Tensor | None) -> Tensor:
        if self._graph is not None:
            return self._graph(batch, self.step, expected)
        return training_step(self._wrapped, self._optimizers, batch, self.recipe, self.step, expected)

    @property
    def is_settled_on_threads(self) -> bool:
        """Whether no trial of numbers of CPU threads is in progress."""
        return self._threads is None or self._threads.is_settled

    def replan(self) -> None:
        """Adjust the number of steps to the time left and the recent speed.

        This happens a few times between two evaluations, at the same steps in all processes.
        """
        if self._deadline is None or self.step % max(1, self.recipe.eval_interval // _REPLANS):
            return
        now = time.perf_counter()
        step, since = self._planned
        each = (now - since) / (self.step - step) + self._evaluation_seconds / self.recipe.eval_interval
        left = (self._deadline - now - self._evaluation_seconds) / each
        more = int(self.team.mean(torch.tensor(max(0.0, left), dtype=torch.float64, device=self.team.device)))
        self.recipe = self._optimizers.recipe = replace(self.recipe, steps=self.step + more)
        self._planned = self.step, now

    def weights(self) -> Weights | None:
        """Return the averaged weights, or None if they are not finite."""
        try:
            return self.average.twin.weights()
        except WeightsError:
            return None

    def evaluate_start(self, origin: Mapping[str, Any]) -> float:
        """Evaluate the initial weights, so that the best weights are never worse; return their validation loss.

        Args:
            origin: what the training record says about the model that they are of.
        """
        _, loss = self.evaluate()
        self.origin = {**origin, "validation_loss": loss if math.isfinite(loss) else None}
        return loss

    def evaluate(self) -> tuple[Weights | None, float]:
        """Evaluate the averaged weights and keep them if they are the best so far.

        Returns:
            The averaged weights, or None if they or their loss are not finite; and their validation loss.
        """
        started = time.perf_counter()
        weights = self.weights()
        if weights is None:
            return None, math.nan
        loss = torch.zeros(1, dtype=torch.float64, device=self.team.device)
        if self.team.leads:
            loss += block_loss(self.average.twin, self._corpus.validation, at_most=self._watched)
        validation_loss = self.team.mean(loss) * self.team.size
        self._worse += 1
        if validation_loss < self.best_loss:
            self.best, self.best_loss, self.best_step, self._worse = weights, validation_loss, self.step, 0
        self._judge(validation_loss)
        self._evaluation_seconds = time.perf_counter() - started
        self._planned = self._planned[0], self._planned[1] + self._evaluation_seconds
        return weights if math.isfinite(validation_loss) else None, validation_loss

    def _judge(self, validation_loss: float) -> None:
        """Compare the losses with those of the unigram distribution.

        Both must be worse: an overfitted model has a large validation loss, too, but a small training loss.
        """
        training_loss = sum(self.losses) / max(1, len(self.losses))
        self.is_lost = (
            validation_loss > self.unigram_loss + _MARGIN and training_loss > self._train_unigram_loss + _MARGIN
        )
        is_falling = self._worse == 0 and validation_loss < self._uniform_loss + _MARGIN
        self._hopeless = self._hopeless + 1 if self.is_lost and not is_falling else 0

    @property
    def is_settled(self) -> bool:
        """Whether the run is long enough past warm-up to be judged by its losses."""
        return self.step >= min(self.recipe.warmup, self.recipe.steps // 10) + _SETTLED

    @property
    def has_diverged(self) -> bool:
        """Whether the losses are finite but have stayed above those of the unigram distribution for too long."""
        in_share = math.ceil(_HOPELESS_SHARE * self.recipe.steps / self.recipe.eval_interval)
        needed = 1 if self.step == self.recipe.steps else max(_HOPELESS, in_share)
        return self.is_settled and self._hopeless >= needed

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the weights of the last evaluation are the best so far and the run is not diverging."""
        is_bad = self.is_lost and (self.is_settled or self.best_loss > self._uniform_loss + _MARGIN)
        return self.best_step == self.step and not is_bad

    @property
    def best_is_lost(self) -> bool:
        """Whether even the best weights predict worse than the unigram distribution."""
        return self.best_loss > self.unigram_loss + _MARGIN

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for `patience` evaluations."""
        return self.recipe.patience is not None and self._worse >= self.recipe.patience

    @property
    def improvement(self) -> float:
        """How much the validation loss fell in the last tenth of the steps, in nats/char; 0 if it no longer falls.

        It falls if the last evaluation is the best and the loss fell by more than a thousandth. At the end of a cosine
        the rates are close to 0: a run that is three times too short falls by two thousandths there.
        """
        evaluated = [(step, loss) for step, _, loss in self.curve.points if loss is not None]
        before = [point for point in evaluated[:-1] if point[0] <= _BEFORE_LAST * self.step]
        if not before or self.best_step != self.step:
            return 0.0
        step, loss = before[-1]
        tenth = (1 - _BEFORE_LAST) * self.step / (self.step - step)  # evaluations may be farther apart
        fall = tenth * (loss - self.best_loss)
        return fall if fall > _FALLING * self.best_loss else 0.0

    def progress(self, weights: Weights | None, validation_loss: float | None) -> Progress:
        """Add the losses after a step to the curve, and return the progress of the run."""
        loss = sum(self.losses) / len(self.losses)
        self.curve.add((self.step, loss, validation_loss), self.recipe.steps)
        return Progress(
            step=self.step,
            steps=self.recipe.steps,
            loss=loss,
            validation_loss=validation_loss,
            best_loss=self.best_loss,
            learning_rate=self.recipe.learning_rate * self.recipe.rate_at(self.step - 1),
            chars_per_second=self._seen / self._seconds,
            seconds=self._seconds,
            seconds_left=self._seconds_left,
            weights=weights,
            unigram_loss=self.unigram_loss,
            is_lost=self.is_lost and self.is_settled,
            curve=self.curve.points,
        )

    @property
    def _seconds_left(self) -> float:
        if self._deadline is not None:
            return max(0.0, self._deadline - time.perf_counter())
        return (self.recipe.steps - self.step) * self._seconds / self.step

    def record(self, ended: Ended | None) -> dict[str, Any]:
        """Return the training record that is stored in the model file."""
        schema = self._corpus.schema
        return (
            ({} if schema is None else {"schema": schema})
            | {
                "corpus": self._corpus.record,
                "validation": self._corpus.text.split.to_record(),
                "recipe": asdict(self.recipe)
                | {"sequence_length": self._length, "threads": torch.get_num_threads(), "processes": self.team.size},
                "ended": ended or "not yet",
                "steps_done": self.step,
                "best_step": self.best_step,
                "best_validation_loss": self.best_loss if self.best is not None else None,
                "unigram_loss": self.unigram_loss,
                "seconds": round(self._seconds, 1),
                "torch": torch.__version__,
                "device": environment(self.team, None)["processor"] if self.team.device.type == "cuda" else "cpu",
            }
            | ({} if self.origin is None else {"from": self.origin})
            | self._taught
        )

    def saved(self) -> dict[str, Any]:
        """Return the state that `restore` needs to resume the run."""
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
                "best_loss": self.best_loss,
                "worse": self._worse,
                "hopeless": self._hopeless,
                "watched": self._watched,
                "seconds_left": None if self._deadline is None else self._deadline - time.perf_counter(),
                "losses": self.losses,
            },
            "curve": self.curve.points,
            "origin": self.origin,
            "environment": environment(self.team, self._threads),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Resume from a saved state."""
        self._twin.load_state_dict(saved["twin"])
        self.average.twin.load_state_dict(saved["average"])
        self._optimizers.load(saved["optimizers"])
        best: dict[str, Tensor] | None = saved["best"]
        if best is not None:
            self.best = Weights(self._twin.config, {name: tensor.numpy() for name, tensor in best.items()})
        numbers = saved["numbers"]
        self.step, self._seen, self._seconds = numbers["step"], numbers["seen"], numbers["seconds"]
        self.best_step, self.best_loss, self._worse = numbers["best_step"], numbers["best_loss"], numbers["worse"]
        self.losses = list(numbers["losses"])
        self.curve = Curve(list(saved["curve"]))
        self.origin = saved["origin"]
        self._hopeless, self._watched = numbers["hopeless"], numbers["watched"]
        now = time.perf_counter()
        self._deadline = None if numbers["seconds_left"] is None else now + numbers["seconds_left"]
        self._planned = self.step, now
