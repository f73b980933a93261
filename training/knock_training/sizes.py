"""Named model sizes with a shape and a recipe, as found in `TRIALS.md`, and the size that suits a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knock_training.recipe import Recipe

SMALLEST = "nano"
_MULTIPLE = 8  # of which windows chosen for items are
FINE_TUNING = 0.1  # of the learning rates of a size, for a run that starts from a model
_SMALL_FROM = 4_000_000  # characters; on a shorter corpus, small takes ten times as long and gains little


@dataclass(frozen=True)
class Size:
    """A named model size.

    Attributes:
        shape: fields of the config.
        recipe: fields of the recipe that differ from the defaults.
    """

    shape: Mapping[str, Any]
    recipe: Mapping[str, Any]


SIZES = {
    "nano": Size(
        {"head_type": "reweight", "T": (2, 32, 64), "n_emb": 64, "nodes": 184, "n_blocks": 3, "n_heads": 2},
        {"steps": 4500, "learning_rate": 0.01},
    ),
    "small": Size(
        {
            "head_type": ("reweight", "hybrid", "hybrid", "hybrid", "content"),
            "T": (2, 64, 64, 64, 512),
            "n_emb": 128,
            "nodes": 512,
            "n_blocks": 5,
            "n_heads": 4,
        },
        {"steps": 6000, "dropout": 0.1, "matrix_learning_rate": 0.02, "windows": 2},
    ),
}


def size_for(characters: int) -> str:
    """Return the name of the size that suits a corpus with this number of characters."""
    return "small" if characters >= _SMALL_FROM else "nano"


def shape_for(size: str, longest: int | None = None) -> dict[str, Any]:
    """Return the shape of a size. A window is no longer than the longest item, which it would never fill.

    Args:
        size: name of the size.
        longest: number of characters of the longest item; None for plain text.
    """
    shape = dict(SIZES[size].shape)
    if longest is not None:
        with_boundary = longest + 1
        most = -(-with_boundary // _MULTIPLE) * _MULTIPLE
        T = shape["T"]
        shape["T"] = tuple(min(each, most) for each in T) if isinstance(T, tuple) else min(T, most)
    return shape


def fine_tuning(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe for a run that starts from a model: learning rates that do not destroy what it has learned.

    Args:
        recipe: fields of the recipe of a size.
    """
    rates = {name: recipe.get(name, getattr(Recipe, name)) for name in ("learning_rate", "matrix_learning_rate")}
    return {**recipe, **{name: FINE_TUNING * rate for name, rate in rates.items()}}
