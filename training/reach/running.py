"""Train and evaluate one model of the trial."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from knock.config import ModelConfig
from knock_training.data import Corpus
from knock_training.evaluate import BLOCK
from knock_training.losses import all_logits
from knock_training.model import Twin
from knock_training.recipe import Recipe
from knock_training.team import Team
from knock_training.trainer import train
from training.reach.arms import ARMS, RECIPE, Trial
from training.reach.corpora import corpora
from training.reach.matches import Matches, find_matches, with_copies

FAR, CACHED = 512, 1024  # characters: the window in which positions count as matched, and that of the copy cache

Floats = npt.NDArray[np.float64]


@torch.no_grad()
def surprise(twin: Twin, tokens: Tensor) -> Floats:
    """Return the surprise of each token but the first of each row, in nats, [B, N] -> [B, N - 1] float64."""
    parts = [
        F.cross_entropy(logits.mT, tokens[:, start + 1 : start + 1 + logits.shape[1]].long(), reduction="none")
        for logits, start in all_logits(twin, tokens[:, :-1].long())
    ]
    return torch.cat(parts, 1).double().cpu().numpy()


def measure(twin: Twin, validation: Tensor) -> dict[str, float]:
    """Return the losses of a model in nats/char: in blocks and as a stream, with and without a copy cache.

    Those of positions that have a match in the far window, and of the others, are apart.
    """
    device = next(twin.parameters()).device
    blocks = (len(validation) - 1) // BLOCK
    inputs = validation[: blocks * BLOCK + 1]
    rows = torch.stack([inputs[b * BLOCK : (b + 1) * BLOCK + 1] for b in range(blocks)])
    result = {}
    for kind, losses, tokens, block in (
        ("block_256", surprise(twin, rows.to(device)).ravel(), rows.numpy().ravel(), BLOCK + 1),
        ("stream", surprise(twin, inputs[None].to(device)).ravel(), inputs.numpy(), None),
    ):
        is_predicted = np.arange(len(tokens)) % (block or len(tokens)) > 0
        near, cached = _matches(tokens.tobytes(), FAR, block), _matches(tokens.tobytes(), CACHED, block)
        is_matched = near.length[is_predicted] > 0
        with_cache = with_copies(losses, tokens[is_predicted], Matches(*(each[is_predicted] for each in cached)))
        for name, of in (("", losses), ("_copies", with_cache)):
            result[kind + name] = of.mean()
            result[f"{kind}{name}_matched"] = of[is_matched].mean()
            result[f"{kind}{name}_others"] = of[~is_matched].mean()
        result[f"{kind}_share"] = is_matched.mean()
    return {name: round(float(value), 5) for name, value in result.items()}


@cache
def _matches(tokens: bytes, window: int, block: int | None) -> Matches:
    return find_matches(np.frombuffer(tokens, np.uint8), window, block)


def run(trial: Trial, shakespeare: str | None, molecules: str | None, device: str = "cpu") -> dict[str, Any]:
    """Train and evaluate a model on one thread, or on another device; return the result to store."""
    torch.set_num_threads(1)
    corpus = Corpus.from_text(corpora(shakespeare, molecules)[trial.corpus](), trial.corpus)
    arm = ARMS[trial.arm]
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **arm.shape)
    settings = {**RECIPE, "steps": trial.steps, "matrix_learning_rate": trial.rate, "windows": arm.windows}
    with Team.here(device) as team:
        result = train(config, corpus, Recipe(**settings, seed=trial.seed), team=team)
        losses = measure(Twin(result.weights).to(team.device), corpus.validation)
    return {
        "trial": asdict(trial),
        **losses,
        "parameters": result.weights.n_parameters,
        "seconds": result.record["seconds"],
    }
