"""The training recipe: optimisers, schedule and regularisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from knock.errors import ConfigError
from knock.validation import real_number, shown, whole_number

Optimizer = Literal["muon", "adamw"]
Schedule = Literal["cosine", "wsd"]
Precision = Literal["float32", "bfloat16"]

_LARGEST = 1e30  # steps are computed in float32, which overflows beyond 3e38
_MAX_COUNT = 2**53  # floats represent integers exactly up to here


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run.

    Attributes:
        steps: number of optimiser steps.
        batch_chars: approximate number of characters per step. A step takes whole sequences.
        windows: length of a training sequence in windows, the longest of any block. Relative models train on sequences
            longer than their window, so that upper layers see as much context as in generation. Absolute models always
            use one window.
        optimizer: optimiser of the matrices inside blocks, `"muon"` or `"adamw"`. AdamW trains everything else.
        learning_rate: peak learning rate of AdamW, reached after warm-up.
        matrix_learning_rate: peak learning rate of Muon.
        schedule: learning rate after warm-up: `"cosine"` decays to 0 along a cosine; `"wsd"` stays constant, then
            decays linearly to 0.
        warmup: steps of linear warm-up, capped at a tenth of `steps`.
        decay: share of the steps during which `"wsd"` decays.
        weight_decay: weight decay of matrices. Gains, biases and gates are not decayed.
        betas: AdamW's decay rates for the averages of gradients and squared gradients.
        momentum: momentum of Muon.
        grad_clip: maximum norm of the gradient.
        ema: decay of the exponential moving average of the weights, which is evaluated and saved; 0 disables it. In
            the first steps the decay is smaller.
        dropout: dropout probability for the outputs of embedding, attention and MLP.
        precision: precision of matrix products in a step. `"bfloat16"` takes about two thirds of the time on
            processors that support it natively. Weights, sums and losses are always float32.
        distillation: share of the loss that compares the model with what teachers expect, if there are any; the rest
            compares it with the characters of the text.
        label_smoothing: probability mass of a target that is spread evenly over all characters.
        eval_interval: steps between evaluations of the validation loss.
        patience: number of evaluations without improvement after which training stops; None never stops early.
        seed: seed of initial weights, batches and dropout.

    Raises:
        ConfigError: if a field is out of range.
    """

    steps: int = 3000
    batch_chars: int = 4096
    windows: int = 4
    optimizer: Optimizer = "muon"
    learning_rate: float = 3e-3
    matrix_learning_rate: float = 0.04
    schedule: Schedule = "cosine"
    warmup: int = 100
    decay: float = 0.3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95
    grad_clip: float = 1.0
    ema: float = 0.998
    dropout: float = 0.0
    precision: Precision = "float32"
    distillation: float = 0.5
    label_smoothing: float = 0.0
    eval_interval: int = 250
    patience: int | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("steps", "batch_chars", "windows", "eval_interval"):
            whole_number(name, getattr(self, name), 1, _MAX_COUNT, error=ConfigError)
        if self.patience is not None:
            whole_number("patience", self.patience, 1, _MAX_COUNT, error=ConfigError)
        whole_number("warmup", self.warmup, 0, _MAX_COUNT, error=ConfigError)
        whole_number("seed", self.seed, 0, 2**64 - 1, error=ConfigError)
        for name, known in (
            ("optimizer", get_args(Optimizer)),
            ("schedule", get_args(Schedule)),
            ("precision", get_args(Precision)),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {shown(getattr(self, name))}")
        if not 0 <= real_number(self.weight_decay) <= _LARGEST:
            raise ConfigError(f"weight_decay must be from 0 to {_LARGEST:g}, got {shown(self.weight_decay)}")
        for name in ("learning_rate", "matrix_learning_rate", "grad_clip"):
            if not 0 < real_number(getattr(self, name)) <= _LARGEST:
                raise ConfigError(
                    f"{name} must be greater than 0 and at most {_LARGEST:g}, got {shown(getattr(self, name))}"
                )
        for name in ("momentum", "ema", "dropout", "label_smoothing"):
            if not 0 <= real_number(getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be at least 0 and less than 1, got {shown(getattr(self, name))}")
        if not 0 <= real_number(self.distillation) <= 1:
            raise ConfigError(f"distillation must be from 0 to 1, got {shown(self.distillation)}")
        if not 0 < real_number(self.decay) <= 1:
            raise ConfigError(f"decay must be greater than 0 and at most 1, got {shown(self.decay)}")
        if len(self.betas) != 2 or not all(0 <= real_number(beta) < 1 for beta in self.betas):
            raise ConfigError(f"betas must be two numbers, each at least 0 and less than 1, got {shown(self.betas)}")

    def rate_at(self, step: int) -> float:
        """Return the learning rates at a step, counted from 0, as a share of their peaks.

        A linear warm-up is followed by a cosine decay to 0 (Loshchilov and Hutter 2017, "SGDR") or by the
        warmup-stable-decay schedule of Hu et al. 2024, "MiniCPM".
        """
        warmup = min(self.warmup, self.steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        if self.schedule == "wsd":
            return min(1.0, (self.steps - step) / (self.decay * self.steps))
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))

    def batch_chars_at(self, step: int) -> int:
        """Return the number of characters in the batch of a step, counted from 0."""
        return self.batch_chars
