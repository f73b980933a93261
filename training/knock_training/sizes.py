"""Shapes and recipes that do well, by the size of the corpus: what `TRIALS.md` found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SMALL_FROM = 4_000_000  # characters; with fewer, the larger model takes ten times as long for little


@dataclass(frozen=True)
class Size:
    """A size of model.

    Attributes:
        shape: fields of the config.
        recipe: fields of the recipe that are not the defaults.
    """

    shape: Mapping[str, Any]
    recipe: Mapping[str, Any]


SIZES = {
    "nano": Size(
        {"head_type": "reweight", "T": 32, "n_emb": 64, "nodes": 112, "n_blocks": 4, "n_heads": 2},
        {"steps": 3000, "learning_rate": 0.01},
    ),
    "small": Size(
        {"T": 64, "n_emb": 128, "nodes": 512, "n_blocks": 4, "n_heads": 4},
        {"steps": 6000, "dropout": 0.1, "matrix_learning_rate": 0.02},
    ),
}


def size_for(characters: int) -> str:
    """The size that suits a corpus of so many characters."""
    return "small" if characters >= _SMALL_FROM else "nano"
