"""Optimisers, the running average of the weights, and a single training step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knock_training.model import Twin
from knock_training.muon import Muon
from knock_training.recipe import Precision, Recipe


class Optimizers:
    """Muon for the matrices inside blocks if the recipe asks for it; AdamW for all other parameters.

    Muon (Jordan et al. 2024) orthogonalises the update of a matrix. It is meant for matrices that map hidden states to
    hidden states. AdamW is the optimiser of Loshchilov and Hutter 2019.

    Args:
        twin: model to train.
        recipe: optimiser settings and learning rates.
    """

    def __init__(self, twin: Twin, recipe: Recipe) -> None:
        self.recipe = recipe
        with_muon = recipe.optimizer == "muon"
        hidden = [p for p in twin.blocks.parameters() if p.ndim >= 2 and with_muon]
        rest = [p for p in twin.parameters() if not any(p is h for h in hidden)]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._device = rest[0].device
        self.all: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(
                groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True, capturable=self._device.type == "cuda"
            )
        }
        if with_muon:
            self.all["muon"] = Muon(
                hidden, lr=recipe.matrix_learning_rate, weight_decay=recipe.weight_decay, momentum=recipe.momentum
            )
        self._settle()

    def _settle(self) -> None:
        """Adapt the settings to the device: on a GPU, where a step may be a CUDA graph, it reads the rates there."""
        is_on_gpu = self._device.type == "cuda"
        for optimizer in self.all.values():
            for group in optimizer.param_groups:
                rate = float(group["lr"])
                group["lr"] = torch.tensor(rate, device=self._device) if is_on_gpu else rate
                if "capturable" in group:
                    group["capturable"] = is_on_gpu

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restore the states of the optimisers, by name. They may have been saved on another device."""
        for name, optimizer in self.all.items():
            optimizer.load_state_dict(saved[name])
        self._settle()

    def set_rates(self, step: int) -> None:
        """Set the learning rates to those of a step, counted from 0."""
        largest = {"adamw": self.recipe.learning_rate, "muon": self.recipe.matrix_learning_rate}
        for name, optimizer in self.all.items():
            rate = largest[name] * self.recipe.rate_at(step)
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def step(self) -> None:
        """Update the parameters."""
        for optimizer in self.all.values():
            optimizer.step()


class Average:
    """Exponential moving average of a twin's weights, which has a lower loss than the latest weights.

    Args:
        twin: model whose weights are averaged.
        decay: share of the average that is kept at each step; 0 copies the latest weights.

    Attributes:
        twin: A twin with the averaged weights, without dropout.
    """

    def __init__(self, twin: Twin, decay: float) -> None:
        self._source: list[Tensor] = list(twin.parameters())
        self._decay = decay
        self.twin = Twin(twin.weights(), boundary=twin.boundary).to(self._source[0].device)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after a step, counted from 0, to the average."""
        kept = min(self._decay, (step + 1) / (step + 10))  # forgets the random initial weights quickly
        averages: list[Tensor] = list(self.twin.parameters())
        torch._foreach_lerp_(averages, self._source, 1 - kept)


def native_precision(device: torch.device) -> Precision:
    """Return `"bfloat16"` if the device has instructions that multiply it faster than float32, else `"float32"`."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # from PyTorch 2.10 on
    is_faster = device.type == "cpu" and any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return "bfloat16" if is_faster else "float32"


def training_step(
    twin: nn.Module,
    optimizers: Optimizers,
    batch: tuple[Tensor, Tensor],
    recipe: Recipe,
    step: int,
    expected: Tensor | None = None,
) -> Tensor:
    """Take one optimiser step and return the loss of the text before it, in nats/char.

    Args:
        twin: model to train, possibly wrapped for distributed training.
        optimizers: optimisers of its parameters.
        batch: inputs and targets, each [sequences, length].
        recipe: precision, label smoothing, distillation and gradient clipping.
        step: index of the step, from 0.
        expected: the teachers' distribution of each target, [sequences, length, V]; None without teachers.
    """
    optimizers.set_rates(step)
    return update(twin, optimizers, batch, recipe, expected)


def update(
    twin: nn.Module,
    optimizers: Optimizers,
    batch: tuple[Tensor, Tensor],
    recipe: Recipe,
    expected: Tensor | None,
) -> Tensor:
    """Do what `training_step` does, with the current learning rates."""
    inputs, targets = batch
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = twin(inputs).flatten(0, 1)
    logits = logits.float()
    loss = total = F.cross_entropy(logits, targets.flatten(), label_smoothing=recipe.label_smoothing)
    if expected is not None:
        total = torch.lerp(loss, F.cross_entropy(logits, expected.flatten(0, 1).float()), recipe.distillation)
    twin.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), recipe.grad_clip)
    optimizers.step()
    clamp_gates(twin.modules())
    return loss.detach()


@torch.no_grad()
def clamp_gates(modules: Iterable[nn.Module]) -> None:
    """Clamp the gates to [0, 1]."""
    for module in modules:
        gate = getattr(module, "gate", None)
        if gate is not None:
            gate.clamp_(0, 1)
