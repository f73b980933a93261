"""The table of models that tests and benchmarks share, and hypothesis' way of drawing others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from knock.choices import HEAD_TYPES, POSITIONS
from knock.config import ModelConfig
from knock.weights import Weights, shapes

EXAMPLE = ModelConfig(vocab_size=65)

KINDS = [(head_type, position) for head_type in HEAD_TYPES for position in POSITIONS]
SMALL = {
    f"{head_type}-{position}": ModelConfig(
        vocab_size=11, T=6, n_emb=12, nodes=10, n_blocks=2, n_heads=3, head_type=head_type, position=position
    )
    for head_type, position in KINDS
}


def random_weights(config: ModelConfig, seed: int, scale: float = 0.5) -> Weights:
    """Weights with nothing left at its initial value: every array normal, gates anywhere in [0, 1]."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes(config).items():
        draw = rng.uniform(size=shape) if name.endswith(".gate") else scale * rng.standard_normal(shape)
        arrays[name] = 1 + draw if name.endswith(".gain") else draw
    return Weights(config, arrays)


def float64(weights: Weights) -> Mapping[str, npt.NDArray[np.float64]]:
    return {name: array.astype(np.float64) for name, array in weights.items()}


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    n_heads = draw(st.integers(1, 4))
    head_type, position = draw(st.sampled_from(KINDS))
    return ModelConfig(
        vocab_size=draw(st.integers(1, 20)),
        T=draw(st.integers(1, 9)),
        n_emb=n_heads * draw(st.integers(1, 6)),
        nodes=draw(st.integers(1, 12)),
        n_blocks=draw(st.integers(1, 3)),
        n_heads=n_heads,
        head_type=head_type,
        position=position,
    )


@st.composite
def models(draw: st.DrawFn) -> Weights:
    return random_weights(draw(configs()), draw(st.integers(0, 2**32)), draw(st.sampled_from([0.02, 0.5, 2.0])))


def random_tokens(config: ModelConfig, length: int, seed: int = 0) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, length, np.int32)
