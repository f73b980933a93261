"""The table of models that tests and benchmarks share, and hypothesis' way of drawing others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from knock.choices import HEAD_TYPES, POSITIONS, Backend
from knock.config import ModelConfig
from knock.gpt import ReweightGPT
from knock.language_model import LanguageModel
from knock.vocab import Vocab
from knock.weights import Weights, shapes

EXAMPLE = ModelConfig(vocab_size=65)

KINDS = [(head_type, position) for head_type in HEAD_TYPES for position in POSITIONS]
SMALL = {
    f"{head_type}-{position}": ModelConfig(
        vocab_size=11, T=6, n_emb=12, nodes=10, n_blocks=2, n_heads=3, head_type=head_type, position=position
    )
    for head_type, position in KINDS
}

# Blocks that differ: in window, in head type, in the reach of their reweight logits.
MIXED = {
    "windows": replace(SMALL["hybrid-relative"], T=(2, 6)),
    "head types": replace(SMALL["hybrid-relative"], head_type=("reweight", "content")),
    "absolute": replace(SMALL["hybrid-absolute"], head_type=("content", "hybrid")),
    "reach": replace(SMALL["hybrid-relative"], reweight_T=2),
    "all": replace(
        SMALL["hybrid-relative"], n_blocks=4, T=(2, 3, 7, 5), reweight_T=(2, 2, 0, 4),
        head_type=("reweight", "hybrid", "content", "hybrid"),
    ),
}  # fmt: skip
EVERY = SMALL | MIXED
ONE_BLOCK = replace(SMALL["hybrid-relative"], n_blocks=1, T=2)
# The other models are narrower than two vectors, so that some partial sums have one term only.
BROAD = ModelConfig(vocab_size=70, T=(5, 9), n_emb=68, nodes=70, n_blocks=2, n_heads=2)
CASES = EVERY | {"one block": ONE_BLOCK, "broad": BROAD}
RUNS: list[tuple[str, Backend]] = list(itertools.product(EVERY, ("numpy", "compiled")))


def random_weights(config: ModelConfig, seed: int, scale: float = 0.5) -> Weights:
    """Weights with nothing left at its initial value: every array normal, gates anywhere in [0, 1]."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes(config).items():
        draw = rng.uniform(size=shape) if name.endswith(".gate") else scale * rng.standard_normal(shape)
        arrays[name] = 1 + draw if name.endswith(".gain") else draw
    return Weights(config, arrays)


def extreme_weights(config: ModelConfig, _seed: int = 0) -> Weights:
    """Weights whose integer codes all have the largest magnitude, as do those of the rows that they multiply.

    A row is s or -s with s = (1, ..., 1, -1, ..., -1), from the first layer to the last, and every column of weights
    has one sign where s has, so that no product cancels another.
    """
    s = np.where(np.arange(config.n_emb) < config.n_emb / 2, 1.0, -1.0)
    arrays = {}
    for name, shape in shapes(config).items():
        inner = np.ones(shape[0]) if name.endswith(".w1") else s
        outer = s if shape[-1] == config.n_emb else np.ones(shape[-1])
        signs = np.resize([1.0, 1.0, -1.0], shape[0])  # of tokens and positions
        if name.endswith((".gain", ".bias", ".gate")):
            arrays[name] = np.full(shape, {"gain": 1.0, "bias": 0.0, "gate": 0.5}[name.rpartition(".")[2]])
        else:
            arrays[name] = np.outer(signs if name in ("embed", "pos") else inner, outer)
    return Weights(config, arrays)


def float64(weights: Weights) -> Mapping[str, npt.NDArray[np.float64]]:
    return {name: array.astype(np.float64) for name, array in weights.items()}


def mixture(draw: st.DrawFn, position: str, longest: int) -> dict[str, Any]:
    """Fields of a config whose blocks differ in whatever they can."""
    # From a seed: hypothesis would draw equal values most of the time.
    rng = np.random.default_rng(draw(st.integers(0, 10**4)))
    L = int(rng.integers(2, 5))
    kinds = [HEAD_TYPES[i] for i in rng.integers(len(HEAD_TYPES), size=L)]
    shape: dict[str, Any] = {"n_blocks": L, "head_type": kinds}
    if position == "relative":
        shape["T"] = rng.integers(1, longest + 1, L).tolist()
        if rng.integers(2):
            shape["T"][0] = 2  # then the first block is a table
        reach = [
            T if kind == "reweight" else int(rng.integers(1, T + 1)) for T, kind in zip(shape["T"], kinds, strict=True)
        ]
        shape["reweight_T"] = reach if rng.integers(4) else None
    return shape


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """A config of any kind; in two of three, blocks differ in whatever they can."""
    n_heads = draw(st.integers(1, 4))
    head_type, position = draw(st.sampled_from(KINDS))
    shape: dict[str, Any] = {"n_blocks": draw(st.integers(1, 3)), "T": draw(st.integers(1, 9)), "head_type": head_type}
    if draw(st.integers(0, 2)):
        position = POSITIONS[draw(st.integers(0, 3)) == 3]
        shape |= mixture(draw, position, 9)
    return ModelConfig(
        vocab_size=draw(st.integers(1, 20)),
        n_emb=n_heads * draw(st.integers(1, 6)),
        nodes=draw(st.integers(1, 12)),
        n_heads=n_heads,
        position=position,
        **shape,
    )


@st.composite
def models(draw: st.DrawFn) -> Weights:
    return random_weights(draw(configs()), draw(st.integers(0, 2**32)), draw(st.sampled_from([0.02, 0.5, 2.0])))


def random_tokens(config: ModelConfig, length: int, seed: int = 0) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, length, np.int32)


def save_items(folder: Path, characters: str) -> Path:
    """Save a small model of items with random weights; return its path."""
    path, vocab = folder / "items.safetensors", Vocab(characters, boundary=True)
    gpt = ReweightGPT(vocab.vocab_size, T=8, n_emb=16, nodes=16, n_blocks=2, n_heads=2, seed=3)
    LanguageModel(gpt, vocab).save(path)
    return path
