"""Quantise a model: integer codes of its weights, and the factors that turn integer sums back into numbers.

Every product of the model is then an exact sum of integers, rounded once to float32. Exact sums have no order, so any
CPU, batch or library gives the same bits. The codes are small enough for sums to fit in 32 bits:

- Weights have 12 bits in precision int16 and 7 in int8, with one step for each column.
- The rows of a layer normalisation have norm sqrt(C), which bounds their elements and sums. In int16, their step is
  fixed. In int8, each row has its own, set by its largest element.
- Queries, keys and values are bounded by the norms of the columns that make them (Cauchy-Schwarz). Their steps are
  fixed for each head and folded into the factors of the projection, whose outputs are numbers to be rounded to codes
  of 16 bits, in both precisions.
- Attention weights are codes from 0 to `WEIGHT_CODES`, divided by their sum.
- The hidden layer of the MLP has one step for each row, set by its largest element.

Sums of float64 numbers are taken by halves, an order that no library changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.choices import Precision
from knock.config import ModelConfig
from knock.engine.folding import Folded, Matrix, by_halves, fold_block, fold_output
from knock.weights import FloatArray, Weights

_LARGEST_SUM = 2**31 - 1
_LARGEST_CODE = 2**15 - 1
_MARGIN = 0.99  # for the rounding of codes
WEIGHT_CODES = 2**13 - 1  # of attention
STRETCH = 64  # attention weights whose products with values fit in 32 bits together

Codes = npt.NDArray[np.signedinteger[Any]]

# The largest codes of weights and of rows with a step of their own, and the dtype of weights. With int8, CPUs without
# VNNI add two products in 16 bits, of codes of rows that have become 1 to 255 by an offset: 2 * 255 * 63 < 2**15.
_LARGEST: dict[Precision, tuple[int, int, type[np.signedinteger[Any]]]] = {
    "int16": (2**11 - 1, 2**12 - 1, np.int16),
    "int8": (2**6 - 1, 2**7 - 1, np.int8),
}


@dataclass(frozen=True)
class Scheme:
    """The codes of a model's products: their sums fit in 32 bits.

    Attributes:
        dtype: of the codes of weights.
        weight_codes: the largest code of a weight.
        norm_scale: codes for each unit of a layer normalisation; None if each row has a step of its own.
        norm_codes: the largest code of a normalised row; None if the step is fixed.
        hidden_codes: the largest code of the MLP's hidden layer.
    """

    dtype: type[np.signedinteger[Any]]
    weight_codes: int
    norm_scale: np.float32 | None
    norm_codes: int | None
    hidden_codes: int

    @property
    def norm_step(self) -> float:
        """The step of a normalised row's codes, or 1 if it is the row's own."""
        return 1.0 if self.norm_scale is None else 1 / float(self.norm_scale)

    def squared_norm(self, C: int) -> float:
        """Return the largest squared norm of a rounded row of a layer normalisation."""
        # With a step of its own, an element errs by 1 / (2 norm_codes) of the largest, which is sqrt(C) at most.
        return float(C) if self.norm_codes is None else C * (1 + math.sqrt(C) / (2 * self.norm_codes)) ** 2


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
        scheme: the codes of weights and rows.
    """

    config: ModelConfig
    embed: FloatArray
    pos: FloatArray | None
    blocks: tuple[QuantizedBlock, ...]
    output: QuantizedLayer
    scheme: Scheme


def quantize(weights: Weights, precision: Precision) -> QuantizedModel:
    """Quantise a model.

    Args:
        weights: the model.
        precision: `"int16"` or `"int8"`.
    """
    c = weights.config
    scheme = _scheme(precision, c)
    return QuantizedModel(
        config=c,
        embed=weights["embed"],
        pos=weights["pos"] if c.position == "absolute" else None,
        blocks=tuple(_block(weights, b, scheme) for b in range(c.n_blocks)),
        output=_layer(fold_output(weights), scheme, scheme.norm_step),
        scheme=scheme,
    )


def _scheme(precision: Precision, c: ModelConfig) -> Scheme:
    weights, rows, dtype = _LARGEST[precision]

    def largest(K: int) -> int:
        """Return the largest code of rows of K elements."""
        return max(1, min(rows, _LARGEST_SUM // (weights * K)))

    if precision == "int8":
        return Scheme(dtype, weights, None, largest(c.n_emb), largest(c.nodes))
    # The elements of a row are at most sqrt(C), their sum C.
    of_elements, of_sums = _LARGEST_CODE / math.sqrt(c.n_emb), _LARGEST_SUM / (weights * c.n_emb)
    return Scheme(dtype, weights, np.float32(_MARGIN * min(of_elements, of_sums)), None, largest(c.nodes))


def _block(weights: Weights, b: int, scheme: Scheme) -> QuantizedBlock:
    block, T = fold_block(weights, b), weights.config.windows[b]
    steps = {name: np.ones(weights.config.n_heads) for name in block.inputs}
    elements, _ = _bounds(block.inputs["v"], scheme)
    largest = min(_LARGEST_CODE, _LARGEST_SUM // (WEIGHT_CODES * min(T, STRETCH)))
    steps["v"] = _MARGIN * largest / elements
    logit_factor = None
    if "q" in block.inputs:
        bounds = [_bounds(block.inputs[name], scheme) for name in ("q", "k")]
        q, k = (_LARGEST_CODE / elements for elements, _ in bounds)
        excess = np.maximum(1, q * k * bounds[0][1] * bounds[1][1] / _LARGEST_SUM)
        steps["q"], steps["k"] = (_MARGIN * each / np.sqrt(excess) for each in (q, k))
        logit_factor = (1 / (steps["q"] * steps["k"])).astype(np.float32)
    return QuantizedBlock(
        inputs={
            name: _layer(part, scheme, scheme.norm_step, steps[name][:, None]) for name, part in block.inputs.items()
        },
        logit_factor=logit_factor,
        value_factor=(1 / steps["v"]).astype(np.float32),
        w0=_layer(block.w0, scheme, scheme.norm_step),
        w1=_layer(block.w1, scheme, 1.0),
    )


def _layer(layer: Folded, scheme: Scheme, factor: float, step: float | Matrix = 1.0) -> QuantizedLayer:
    """Quantise a product.

    Args:
        layer: the product.
        scheme: the codes of its weights.
        factor: of the codes of the rows, if it is the same for all.
        step: codes for each unit of the output.
    """
    bias = None if layer.bias is None else (layer.bias * step).astype(np.float32)
    between = _step(layer.w, scheme)
    codes = np.rint(layer.w / between).astype(scheme.dtype)
    return QuantizedLayer(codes, (between * factor * step).astype(np.float32), bias)


def _step(w: Matrix, scheme: Scheme) -> Matrix:
    """Return the difference between adjacent codes of each column: [K, ...] -> [...]."""
    step: Matrix = np.abs(w).max(axis=0) / scheme.weight_codes
    step[step == 0] = 1
    return step


def _bounds(layer: Folded, scheme: Scheme) -> tuple[Matrix, Matrix]:
    """Return the largest possible element, and norm, of each head of a product of normalised rows: [H], [H]."""
    largest = np.abs(layer.w) + _step(layer.w, scheme) / 2  # of the rounded weights
    bias = 0 if layer.bias is None else np.abs(layer.bias)
    columns = np.sqrt(scheme.squared_norm(len(largest)) * by_halves(largest * largest)) + bias
    norms = np.sqrt(by_halves((columns * columns).T))
    tiny = float(np.finfo(np.float32).tiny)
    return np.maximum(columns.max(axis=1), tiny), np.maximum(norms, tiny)
