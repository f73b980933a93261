"""Quantise a model: integer codes of its weights, and the factors that turn integer sums back into numbers.

Every product of the model is then an exact sum of integers, rounded once to float32. Exact sums have no order, so any
CPU, batch or library gives the same bits. The codes are small enough for sums to fit in 32 bits:

- Weights have 12 bits, with one step for each column.
- The rows of a layer normalisation have norm sqrt(C), which bounds their elements and sums. Their step is fixed.
- Queries, keys and values are bounded by the norms of the columns that make them (Cauchy-Schwarz). Their steps are
  fixed for each head and folded into the factors of the projection, whose outputs are numbers to be rounded to codes.
- Attention weights are codes from 0 to `WEIGHT_CODES`, divided by their sum.
- The hidden layer of the MLP has one step for each row, set by its largest element.

Sums of float64 numbers are taken by halves, an order that no library changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from knock.config import ModelConfig
from knock.engine.folding import Folded, Matrix, by_halves, fold_block, fold_output
from knock.weights import FloatArray, Weights

_LARGEST_SUM = 2**31 - 1
_LARGEST_CODE = 2**15 - 1
_MARGIN = 0.99  # for the rounding of codes
_WEIGHT_BITS = 11  # without the sign
_HIDDEN_BITS = 12
WEIGHT_CODES = 2**13 - 1  # of attention
STRETCH = 64  # attention weights whose products with values fit in 32 bits together

Codes = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """A matrix product: float32(sum of codes) * factor + bias.

    Attributes:
        codes: of the weights, [K, N], or [K, H, width] if heads have columns of their own.
        factor: [N], or [H, width].
        bias: like `factor`; None if the product is added to its output.
    """

    codes: Codes
    factor: FloatArray
    bias: FloatArray | None


@dataclass(frozen=True, eq=False)
class QuantizedBlock:
    """A block.

    Attributes:
        inputs: the parts of the fused projection, as in `FoldedBlock`. Queries, keys and values are computed as numbers
            that are to be rounded to codes.
        logit_factor: of content logits, [H]; None if there are none.
        value_factor: of weighted values, [H].
        w0: into the MLP's hidden layer.
        w1: out of it.
    """

    inputs: dict[str, QuantizedLayer]
    logit_factor: FloatArray | None
    value_factor: FloatArray
    w0: QuantizedLayer
    w1: QuantizedLayer


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A model.

    Attributes:
        config: its shape.
        embed: [V, C].
        pos: [T, C]; None in a relative model.
        blocks: the blocks.
        output: the output layer.
        norm_scale: codes for each unit of a layer normalisation.
        hidden_codes: the largest code of the MLP's hidden layer.
    """

    config: ModelConfig
    embed: FloatArray
    pos: FloatArray | None
    blocks: tuple[QuantizedBlock, ...]
    output: QuantizedLayer
    norm_scale: np.float32
    hidden_codes: int


def quantize(weights: Weights) -> QuantizedModel:
    """Quantise a model."""
    c = weights.config
    scale = _norm_scale(c.n_emb)
    return QuantizedModel(
        config=c,
        embed=weights["embed"],
        pos=weights["pos"] if c.position == "absolute" else None,
        blocks=tuple(_block(weights, b, scale) for b in range(c.n_blocks)),
        output=_layer(fold_output(weights), 1 / scale),
        norm_scale=np.float32(scale),
        hidden_codes=max(1, min(2**_HIDDEN_BITS - 1, _LARGEST_SUM // ((2**_WEIGHT_BITS - 1) * c.nodes))),
    )


def _norm_scale(C: int) -> float:
    """Return the codes for each unit of a layer normalisation: its elements are at most sqrt(C), their sum C."""
    of_elements, of_sums = _LARGEST_CODE / math.sqrt(C), _LARGEST_SUM / ((2**_WEIGHT_BITS - 1) * C)
    return float(np.float32(_MARGIN * min(of_elements, of_sums)))


def _block(weights: Weights, b: int, scale: float) -> QuantizedBlock:
    block, T = fold_block(weights, b), weights.config.windows[b]
    steps = {name: np.ones(weights.config.n_heads) for name in block.inputs}
    elements, _ = _bounds(block.inputs["v"])
    largest = min(_LARGEST_CODE, _LARGEST_SUM // (WEIGHT_CODES * min(T, STRETCH)))
    steps["v"] = _MARGIN * largest / elements
    logit_factor = None
    if "q" in block.inputs:
        bounds = [_bounds(block.inputs[name]) for name in ("q", "k")]
        q, k = (_LARGEST_CODE / elements for elements, _ in bounds)
        excess = np.maximum(1, q * k * bounds[0][1] * bounds[1][1] / _LARGEST_SUM)
        steps["q"], steps["k"] = (_MARGIN * each / np.sqrt(excess) for each in (q, k))
        logit_factor = (1 / (steps["q"] * steps["k"])).astype(np.float32)
    return QuantizedBlock(
        inputs={name: _layer(part, 1 / scale, steps[name][:, None]) for name, part in block.inputs.items()},
        logit_factor=logit_factor,
        value_factor=(1 / steps["v"]).astype(np.float32),
        w0=_layer(block.w0, 1 / scale),
        w1=_layer(block.w1, 1.0),
    )


def _layer(layer: Folded, factor: float, step: float | Matrix = 1.0) -> QuantizedLayer:
    """Quantise a product.

    Args:
        layer: the product.
        factor: of the codes of the rows, if it is the same for all.
        step: codes for each unit of the output.
    """
    bias = None if layer.bias is None else (layer.bias * step).astype(np.float32)
    return QuantizedLayer(_codes(layer.w), (_step(layer.w) * factor * step).astype(np.float32), bias)


def _codes(w: Matrix) -> Codes:
    return np.rint(w / _step(w)).astype(np.int16)


def _step(w: Matrix) -> Matrix:
    """Return the difference between adjacent codes of each column: [K, ...] -> [...]."""
    step: Matrix = np.abs(w).max(axis=0) / (2**_WEIGHT_BITS - 1)
    step[step == 0] = 1
    return step


def _bounds(layer: Folded) -> tuple[Matrix, Matrix]:
    """Return the largest possible element, and norm, of each head of a product of rows with norm sqrt(C): [H], [H]."""
    largest = np.abs(layer.w) + _step(layer.w) / 2  # of the rounded weights
    bias = 0 if layer.bias is None else np.abs(layer.bias)
    columns = np.sqrt(len(largest) * by_halves(largest * largest)) + bias
    norms = np.sqrt(by_halves((columns * columns).T))
    tiny = float(np.finfo(np.float32).tiny)
    return np.maximum(columns.max(axis=1), tiny), np.maximum(norms, tiny)
