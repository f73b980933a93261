"""Train a model: AdamW, warm-up and cosine, gradient clipping, the best validation loss kept."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from knock.checks import real_number, shown, whole_number
from knock.config import ModelConfig
from knock.errors import ConfigError, TextError, TrainingError
from knock.weights import Weights
from knock_training.data import Corpus, random_batch, validation_length
from knock_training.evaluate import block_loss
from knock_training.model import Twin

_WATCHED_BLOCKS = 256  # validation blocks while training; the evaluation of a finished model takes all


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        steps: optimiser steps.
        batch_chars: characters a step, about; whole sequences.
        windows: length of a training sequence in windows of T. Relative models learn from sequences longer than
            their window, so that their upper layers see as far back as in generation; absolute models from one window.
        learning_rate: the largest, reached after warm-up.
        warmup: steps from 0 to the largest learning rate, at most a tenth of all; a cosine then leads to 0.
        weight_decay: of matrices; gains, biases and gates have none.
        betas: AdamW's averaging of gradients and of their squares.
        grad_clip: largest norm of the gradient.
        eval_interval: steps between validation losses.
        seed: of the initial weights and of the batches.

    Raises:
        ConfigError: if a field is out of range.
    """

    steps: int = 3000
    batch_chars: int = 4096
    windows: int = 4
    learning_rate: float = 1e-2
    warmup: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    grad_clip: float = 1.0
    eval_interval: int = 250
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("steps", "batch_chars", "windows", "eval_interval"):
            whole_number(name, getattr(self, name), 1, error=ConfigError)
        whole_number("warmup", self.warmup, 0, error=ConfigError)
        whole_number("seed", self.seed, 0, 2**64 - 1, error=ConfigError)
        if not 0 <= real_number(self.weight_decay) < math.inf:
            raise ConfigError(f"weight_decay must be 0 or more, got {shown(self.weight_decay)}")
        for name in ("learning_rate", "grad_clip"):
            if not 0 < real_number(getattr(self, name)) < math.inf:
                raise ConfigError(f"{name} must be above 0, got {shown(getattr(self, name))}")
        if len(self.betas) != 2 or not all(0 <= real_number(beta) < 1 for beta in self.betas):
            raise ConfigError(f"betas must be two numbers from 0 to below 1, got {shown(self.betas)}")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to 0 (Loshchilov and Hutter 2017, "SGDR"); `step` counts from 0."""
        warmup = min(self.warmup, self.steps // 10)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))


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
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train a new model on a corpus. The same arguments give the same weights on one CPU thread.

    Args:
        config: the model's shape; its vocabulary is the corpus's.
        corpus: the text.
        recipe: how to train; the defaults if None.
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
    sequences = max(1, recipe.batch_chars // length)
    twin = Twin(Weights.random(config, recipe.seed))
    optimizer = make_optimizer(twin, recipe)
    generator = torch.Generator().manual_seed(recipe.seed)

    best, best_loss, best_step = None, math.inf, 0
    ended: Literal["done", "interrupted", "diverged"] = "done"
    seconds, losses, step = 0.0, [], 0
    while step < recipe.steps:
        if should_stop():
            ended = "interrupted"
            break
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        losses.append(optimizer_step(twin, optimizer, random_batch(corpus.train, sequences, length, generator), recipe))
        step += 1
        seconds += time.perf_counter() - started
        if not math.isfinite(losses[-1]):
            ended = "diverged"
            break
        weights, validation_loss = None, None
        if step % recipe.eval_interval == 0 or step == recipe.steps:
            validation_loss = block_loss(twin, corpus.validation, at_most=_WATCHED_BLOCKS).nats
            if not math.isfinite(validation_loss):
                ended = "diverged"
                break
            weights = twin.weights()
            if validation_loss < best_loss:
                best, best_loss, best_step = weights, validation_loss, step
        report(
            Progress(
                step=step,
                steps=recipe.steps,
                loss=sum(losses) / len(losses),
                validation_loss=validation_loss,
                chars_per_second=step * sequences * length / seconds,
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
        best, best_step = twin.weights(), step
    record = {
        "corpus": {
            "name": corpus.name,
            "sha256": corpus.sha256,
            "characters": len(corpus),
            "validation_characters": len(corpus.validation),
        },
        "recipe": asdict(recipe)
        | {"optimizer": "AdamW", "sequence_length": length, "sequences": sequences, "threads": torch.get_num_threads()},
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


def make_optimizer(twin: Twin, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) with weight decay on the matrices alone."""
    matrices = [p for p in twin.parameters() if p.ndim >= 2]
    vectors = [p for p in twin.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def optimizer_step(twin: Twin, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], recipe: Recipe) -> float:
    """One optimiser step; the loss before it, in nats/char."""
    inputs, targets = batch
    loss = F.cross_entropy(twin(inputs).flatten(0, 1), targets.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), recipe.grad_clip)
    optimizer.step()
    twin.clamp_gates()
    return loss.item()
