"""Describe the shape of a model in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knock.config import ModelConfig

_SIZES = ("T", "n_emb", "nodes", "n_blocks", "n_heads")


def head_types(config: ModelConfig) -> str:
    """Return the head type, or those of the blocks with commas between them, as options are given."""
    return _shown(config.head_type)


def sizes(config: ModelConfig) -> str:
    """Return the sizes as `name=value`, with commas between the values of blocks, as options are given."""
    names = _SIZES if config.reweight_T is None else ("T", "reweight_T", *_SIZES[1:])
    return " ".join(f"{name}={_shown(getattr(config, name))}" for name in names)


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
