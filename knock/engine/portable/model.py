"""The forward pass on codes, as in `knock_kernels.loops.forward`: of a token, or of many positions at once.

Products of codes are float64 matrix products: their sums are integers below 2**53 and exact, whatever the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from knock.choices import Precision
from knock.engine.portable.arithmetic import Floats, exp, gelu, total
from knock.engine.quantizing import WEIGHT_CODES, QuantizedLayer, quantize
from knock.vocab import TokenArray
from knock.weights import Weights

_EPS, _ONE, _HIDDEN, _TINY = (np.float32(x) for x in (1e-5, 1, -3e38, 2.0**-100))

Codes = npt.NDArray[np.float64]  # whole numbers


class _Rows(NamedTuple):
    """Codes of rows.

    Attributes:
        codes: [N, K].
        steps: [N], the numbers that a code of each row counts; None if they are in the factors of the products.
    """

    codes: Codes
    steps: Floats | None


def _quantize(x: Floats, largest: int) -> _Rows:
    """Return codes up to `largest`, with a step for each row: [N, K]."""
    extremes, most = np.abs(x).max(axis=-1), np.float32(largest)
    codes = np.rint(x * (most / np.maximum(extremes, _TINY))[:, None])
    return _Rows(codes.astype(np.float64), extremes / most)


class _Layer:
    """A quantised matrix product."""

    def __init__(self, layer: QuantizedLayer) -> None:
        K = len(layer.codes)
        self.codes: Codes = layer.codes.reshape(K, -1).astype(np.float64)
        self.factor = layer.factor.ravel()
        self.bias = None if layer.bias is None else layer.bias.ravel()

    def __call__(self, rows: _Rows) -> Floats:
        """Return the products of rows of codes: [N, K] -> [N, M]."""
        out = (rows.codes @ self.codes).astype(np.float32) * self.factor
        if rows.steps is not None:
            out = out * rows.steps[:, None]
        return out if self.bias is None else self.bias + out


@dataclass
class Cache:
    """Codes of the last keys and values of a sequence, position p in slot p mod T.

    Attributes:
        keys: of each block, [H, T, D]; [0] if it has no content logits.
        values: of each block, [H, T, D].
        position: number of tokens read.
    """

    keys: list[Codes]
    values: list[Codes]
    position: int = 0


class PortableModel:
    """A quantised model in NumPy.

    Args:
        weights: the model.
        precision: `"int16"` or `"int8"`.
    """

    def __init__(self, weights: Weights, precision: Precision) -> None:
        model = quantize(weights, precision)
        self.config = c = weights.config
        self._model = model
        self._inputs = [{name: _Layer(part) for name, part in block.inputs.items()} for block in model.blocks]
        self._w0 = [_Layer(block.w0) for block in model.blocks]
        self._w1 = [_Layer(block.w1) for block in model.blocks]
        self._output = _Layer(model.output)
        self._scheme = model.scheme
        # Reweight logits lie beside those of farther keys, which are 0.
        self._farther = [
            np.zeros((c.n_heads, T - R), np.float32) for T, R in zip(c.windows, c.reweight_windows, strict=True)
        ]

    def empty_cache(self) -> Cache:
        """Return the cache of an empty sequence."""
        c = self.config
        sizes = [(c.n_heads, T, c.head_width) for T in c.windows]
        keys = [np.zeros(size if "k" in parts else 0) for size, parts in zip(sizes, self._inputs, strict=True)]
        return Cache(keys, [np.zeros(size) for size in sizes])

    def step(self, token: int, cache: Cache) -> Floats:
        """Return the logits after one more token, and add it to the cache: [] -> [V]."""
        c, position = self.config, cache.position
        cache.position += 1
        x = self._embed(np.array([token]), np.array([position]))
        for b, T in enumerate(c.windows):
            slot, seen = position % T, min(position + 1, T)
            projected = self._project(b, x)
            cache.values[b][:, slot] = projected["v"][0]
            z = self._by_slot(b, projected, slot)
            if "k" in projected:
                cache.keys[b][:, slot] = projected["k"][0]
                sums = projected["q"][0][:, None] @ cache.keys[b].swapaxes(1, 2)  # [H, 1, T]
                z = sums[:, 0].astype(np.float32) * self._model.blocks[b].logit_factor[:, None] + z  # type: ignore[index]
            x = x + self._attend(b, z[None, :, :seen], cache.values[b][None, :, :seen])
            x = self._mlp(b, x)
        logits: Floats = self._output(self._normalize(x))[0]
        return logits

    def forward(self, tokens: TokenArray) -> Floats:
        """Return the logits at every position of a sequence from its start: [N] -> [N, V]; N <= T if absolute."""
        c, N = self.config, len(tokens)
        x = self._embed(tokens, np.arange(N))
        for b, T in enumerate(c.windows):
            projected = self._project(b, x)
            J = T if c.position == "relative" else N
            # Column j is j characters back, or slot j.
            places = np.arange(N)[:, None] - np.arange(J) if c.position == "relative" else np.arange(J)[None]
            visible = (places >= 0) & (places <= np.arange(N)[:, None])
            places = np.broadcast_to(np.where(visible, places, 0), (N, J))
            z = self._by_distance(b, projected, J)
            if "k" in projected:
                keys = projected["k"][places]  # [N, J, H, D]
                sums = np.einsum("nhd,njhd->nhj", projected["q"], keys)
                z = sums.astype(np.float32) * self._model.blocks[b].logit_factor[:, None] + z  # type: ignore[index]
            values = projected["v"][places].swapaxes(1, 2)  # [N, H, J, D]
            x = x + self._attend(b, np.where(visible[:, None], z, _HIDDEN), values)
            x = self._mlp(b, x)
        return self._output(self._normalize(x))

    def _embed(self, tokens: TokenArray, positions: npt.NDArray[np.integer[Any]]) -> Floats:
        x: Floats = self._model.embed[tokens]
        return x if self._model.pos is None else x + self._model.pos[positions]

    def _normalize(self, x: Floats) -> _Rows:
        """Return the codes of normalised rows: [N, C] -> [N, C]."""
        C = np.float32(x.shape[-1])
        deviation = x - (total(x) / C)[:, None]
        scale = _ONE / np.sqrt(total(deviation * deviation) / C + _EPS)
        if self._scheme.norm_codes is not None:
            return _quantize(deviation * scale[:, None], self._scheme.norm_codes)
        scale = scale * self._scheme.norm_scale
        return _Rows(np.rint(deviation * scale[:, None]).astype(np.float64), None)

    def _project(self, b: int, x: Floats) -> dict[str, Any]:
        """Return the reweight logits, and the codes of queries, keys and values: [N, C] -> [N, H, width]."""
        rows = self._normalize(x)
        parts = {name: layer(rows).reshape(len(x), self.config.n_heads, -1) for name, layer in self._inputs[b].items()}
        return {name: part if name == "r" else np.rint(part).astype(np.float64) for name, part in parts.items()}

    def _by_slot(self, b: int, projected: dict[str, Any], slot: int) -> Any:
        """Return the reweight logits of one position by slot of the ring: -> [H, T]."""
        if "r" not in projected:
            return self._farther[b]
        if self.config.position == "absolute":
            return projected["r"][0]
        farthest_first = np.concatenate([self._farther[b], projected["r"][0]], axis=1)
        return np.roll(farthest_first, slot + 1, axis=1)

    def _by_distance(self, b: int, projected: dict[str, Any], J: int) -> Any:
        """Return the reweight logits of many positions by column: -> [N, H, J]."""
        N, H = next(iter(projected.values())).shape[:2]
        if "r" not in projected:
            return np.zeros((N, H, J), np.float32)
        if self.config.position == "absolute":
            return projected["r"][:, :, :J]
        farther = np.broadcast_to(self._farther[b], (N, *self._farther[b].shape))
        return np.concatenate([projected["r"][:, :, ::-1], farther], axis=2)

    def _attend(self, b: int, z: Floats, values: Codes) -> Any:
        """Return the weighted values: logits [N, H, J], values [N, H, J, D] -> [N, C]."""
        weights = np.rint(exp(z - z.max(axis=-1, keepdims=True)) * np.float32(WEIGHT_CODES)).astype(np.float64)
        factor = self._model.blocks[b].value_factor / weights.sum(axis=-1).astype(np.float32)
        sums = (weights[:, :, None] @ values)[:, :, 0]  # [N, H, D]
        return (sums.astype(np.float32) * factor[:, :, None]).reshape(len(z), -1)

    def _mlp(self, b: int, x: Floats) -> Any:
        """Return x + MLP(x): [N, C] -> [N, C]."""
        hidden = gelu(self._w0[b](self._normalize(x)))
        return x + self._w1[b](_quantize(hidden, self._scheme.hidden_codes))
