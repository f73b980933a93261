"""Fold what is constant into the weights: gains and biases of layer normalisations, gates, 1/sqrt(D).

A layer normalisation's gain goes into the rows of the matrix that follows, its bias into that matrix's own bias; gates
and 1/sqrt(D) go into the columns of the reweight logits and the queries, so that the hybrid softmax is one addition.
Everything is computed in float64, in an order that no library changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from knock.weights import Weights

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Folded:
    """A matrix product, normalised row @ w + bias.

    Attributes:
        w: [K, N], or [K, H, width] if heads have columns of their own.
        bias: [N], or [H, width]; None if the product is added to its output.
    """

    w: Matrix
    bias: Matrix | None


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """A block.

    Attributes:
        inputs: the parts of the fused projection, [C, H, width] each: `"q"` and `"k"` if the block has content logits,
            `"v"`, and `"r"` if it has reweight logits, which run from the farthest distance to the nearest in a
            relative model.
        w0: into the MLP's hidden layer.
        w1: out of it.
    """

    inputs: dict[str, Folded]
    w0: Folded
    w1: Folded


def fold_block(weights: Weights, b: int) -> FoldedBlock:
    """Fold block b of a model."""
    c, prefix = weights.config, f"blocks.{b}."
    C, H, D, R = c.n_emb, c.n_heads, c.head_width, c.reweight_windows[b]
    array = {name.removeprefix(prefix): weights[name].astype(np.float64) for name in weights if name.startswith(prefix)}
    gate = array.get("gate", np.full(H, float(R > 0)))[:, None]
    parts = {}
    if "wq" in array:
        parts["q"] = array["wq"].reshape(C, H, D) * ((1 - gate) / math.sqrt(D))
        parts["k"] = array["wk"].reshape(C, H, D)
    parts["v"] = array["wv"].reshape(C, H, D)
    if R:
        parts["r"] = array["wr"].reshape(C, H, R)[:, :, :: -1 if c.position == "relative" else 1] * gate
    return FoldedBlock(
        {name: _fold(w, array["ln1.gain"], array["ln1.bias"]) for name, w in parts.items()},
        _fold(array["w0"], array["ln2.gain"], array["ln2.bias"]),
        Folded(array["w1"], None),
    )


def fold_output(weights: Weights) -> Folded:
    """Fold the output layer of a model."""
    return _fold(*(weights[name].astype(np.float64) for name in ("wout", "ln_f.gain", "ln_f.bias")))


def _fold(w: Matrix, gain: Matrix, bias: Matrix) -> Folded:
    rows = (slice(None), *[None] * (w.ndim - 1))
    return Folded(w * gain[rows], by_halves(w * bias[rows]))


def by_halves(values: Matrix) -> Matrix:
    """Return the sum over the first axis, the second half added to the first until one is left: [K, ...] -> [...]."""
    n = 1 << (len(values) - 1).bit_length()
    if len(values) < n:
        values = np.concatenate([values, np.zeros((n - len(values), *values.shape[1:]))])
    while n > 1:
        n //= 2
        values = values[:n] + values[n:]
    total: Matrix = values[0]
    return total
