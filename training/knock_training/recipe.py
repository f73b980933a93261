"""How to train, as one value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from knock.errors import ConfigError
from knock.validation import real_number, shown, whole_number

Optimizer = Literal["muon", "adamw"]
Schedule = Literal["cosine", "wsd"]
Precision = Literal["float32", "bfloat16"]

_MOST = 2**53  # of anything that is counted: up to there a float is exact


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        steps: optimiser steps.
        batch_chars: characters a step, about; whole sequences.
        windows: length of a training sequence in windows of T. Relative models learn from sequences longer than
            their window, so that their upper layers see as far back as in generation; absolute models from one window.
        optimizer: what trains the matrices inside blocks, `"muon"` or `"adamw"`; AdamW trains everything else.
        learning_rate: AdamW's largest, reached after warm-up.
        matrix_learning_rate: Muon's largest.
        schedule: what comes after warm-up: `"cosine"` leads to 0; `"wsd"` stays, then falls in a line to 0.
        warmup: steps from 0 to the largest learning rate, at most a tenth of all.
        decay: share of the steps in which `"wsd"` falls.
        weight_decay: of matrices; gains, biases and gates have none.
        betas: AdamW's averaging of gradients and of their squares.
        momentum: Muon's.
        grad_clip: largest norm of the gradient.
        ema: decay of the running average of the weights, which is what is evaluated and kept; 0 for none. Early on
            it averages over fewer steps.
        dropout: share of what embeddings, attention and MLP write that is dropped.
        precision: of the products in a step: `"bfloat16"` takes half the time where the processor has such products.
            Weights, sums and losses are float32 in any case.
        label_smoothing: probability that targets give away, evenly, to all characters.
        eval_interval: steps between validation losses.
        patience: evaluations without a better one, after which training stops; None never stops early.
        seed: of the initial weights, the batches and the dropout.

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
    label_smoothing: float = 0.0
    eval_interval: int = 250
    patience: int | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("steps", "batch_chars", "windows", "eval_interval"):
            whole_number(name, getattr(self, name), 1, _MOST, error=ConfigError)
        if self.patience is not None:
            whole_number("patience", self.patience, 1, _MOST, error=ConfigError)
        whole_number("warmup", self.warmup, 0, _MOST, error=ConfigError)
        whole_number("seed", self.seed, 0, 2**64 - 1, error=ConfigError)
        for name, known in (
            ("optimizer", get_args(Optimizer)),
            ("schedule", get_args(Schedule)),
            ("precision", get_args(Precision)),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {shown(getattr(self, name))}")
        if not 0 <= real_number(self.weight_decay) < math.inf:
            raise ConfigError(f"weight_decay must be 0 or more, and finite, got {shown(self.weight_decay)}")
        for name in ("learning_rate", "matrix_learning_rate", "grad_clip"):
            if not 0 < real_number(getattr(self, name)) < math.inf:
                raise ConfigError(f"{name} must be above 0, and finite, got {shown(getattr(self, name))}")
        for name in ("momentum", "ema", "dropout", "label_smoothing"):
            if not 0 <= real_number(getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be from 0 to below 1, got {shown(getattr(self, name))}")
        if not 0 < real_number(self.decay) <= 1:
            raise ConfigError(f"decay must be above 0, and 1 or less, got {shown(self.decay)}")
        if len(self.betas) != 2 or not all(0 <= real_number(beta) < 1 for beta in self.betas):
            raise ConfigError(f"betas must be two numbers from 0 to below 1, got {shown(self.betas)}")

    def rate_at(self, step: int) -> float:
        """Share of the largest learning rates at a step, counted from 0.

        A linear warm-up; then a cosine to 0 (Loshchilov and Hutter 2017, "SGDR"), or what Hu et al. 2024, "MiniCPM",
        call warmup-stable-decay.
        """
        warmup = min(self.warmup, self.steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        if self.schedule == "wsd":
            return min(1.0, (self.steps - step) / (self.decay * self.steps))
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))

    def batch_chars_at(self, step: int) -> int:
        """Characters of a step, counted from 0."""
        return self.batch_chars
