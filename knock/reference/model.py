"""The forward pass: all positions at once, or one step at a time with a cache.

Weights are a mapping from name to array. Results have the dtype of the arrays: float64, or less to study the effect of
lower precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Tokens = npt.NDArray[np.integer[Any]]
Arrays = Mapping[str, Array]


class Config(Protocol):
    """The fields of a model's config that the forward pass uses."""

    @property
    def windows(self) -> tuple[int, ...]: ...
    @property
    def n_blocks(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def position(self) -> str: ...


class Cache(NamedTuple):
    """Tokens, keys and values of the last positions of a sequence, oldest first.

    A block keeps as many positions as its window has, n <= T of the block.

    Attributes:
        tokens: token ids, as many as the longest window has.
        keys: keys of each block, [n, C]; [0, C] for reweight-only heads.
        values: values of each block, [n, C].
    """

    tokens: Tokens
    keys: tuple[Array, ...]
    values: tuple[Array, ...]


def layer_norm(x: Array, gain: Array, bias: Array) -> Array:
    """Return (x - mean) / sqrt(variance + 1e-5) * gain + bias over C: [..., C] -> [..., C] (Ba et al. 2016)."""
    centred: Array = x - x.mean(-1, keepdims=True)
    variance: Array = (centred * centred).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * gain + bias


def gelu(x: Array) -> Array:
    """Return 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): [...] -> [...] (Hendrycks and Gimpel 2016)."""
    tanh: Array = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    return 0.5 * x * (1 + tanh)


def linear(x: Array, w: Array) -> Array:
    """Return x @ w: [..., K], [K, M] -> [..., M]."""
    return x @ w


def mlp(x: Array, w0: Array, w1: Array) -> Array:
    """Return gelu(x @ w0) @ w1: [..., C], [C, F], [F, C] -> [..., C]."""
    return linear(gelu(linear(x, w0)), w1)


def content_logits(q: Array, keys: Array) -> Array:
    """Return q . k / sqrt(D) for each query and its J keys: [..., N, D], [..., N, J, D] -> [..., N, J]."""
    return np.squeeze(keys @ q[..., None], -1) / math.sqrt(q.shape[-1])


def hybrid_softmax(reweight: Array | None, content: Array | None, gate: Array | None, visible: Mask) -> Array:
    """Return softmax(gate * reweight + (1 - gate) * content) over the visible columns, and exactly 0 elsewhere.

    Heads with only one kind of logits use those alone. Masking is by position, never by value.

    [..., H, N, J], [..., H, N, J], [H], bool [N, J] -> [..., H, N, J]
    """
    if reweight is None or content is None:
        logits = reweight if content is None else content
        assert logits is not None  # every head has at least one kind
    else:
        assert gate is not None  # heads with both kinds have a gate
        g = gate[:, None, None]
        logits = g * reweight + (1 - g) * content
    largest = np.where(visible, logits, -np.inf).max(-1, keepdims=True)
    weights = np.where(visible, np.exp(np.minimum(logits - largest, 0)), 0)
    total: Array = weights.sum(-1, keepdims=True)
    return weights / total


def attention_weights(n: Array, block: Arrays, T: int, config: Config) -> Array:
    """Return the attention weights of one block over its window of T positions: [..., N, C] -> [..., H, N, J].

    In a relative model, J = T and column j is j positions back. In an absolute one, J = N <= T and column j is slot j.
    Either way, position t sees the columns j <= t. Columns past the reach of `wr`, [C, H*R] with R <= T, have content
    logits alone.
    """
    H = config.n_heads
    N, J = n.shape[-2], T if config.position == "relative" else n.shape[-2]
    reweight = content = None
    if "wr" in block:
        reweight = _over_columns(_split_heads(linear(n, block["wr"]), H), J)
    if "wq" in block:
        q, k = (_split_heads(linear(n, block[name]), H) for name in ("wq", "wk"))
        content = content_logits(q, _window(k, T, config))
    visible = np.arange(J) <= np.arange(N)[:, None]
    return hybrid_softmax(reweight, content, block.get("gate"), visible)


def attention(n: Array, block: Arrays, T: int, config: Config) -> Array:
    """Return the attention output of a block with window T: [..., N, C] -> [..., N, C]; if absolute, N <= T."""
    values = _window(_split_heads(linear(n, block["wv"]), config.n_heads), T, config)
    weights = attention_weights(n, block, T, config)
    return _join_heads((weights[..., None, :] @ values)[..., 0, :])


def forward(tokens: Tokens, weights: Arrays, config: Config) -> Array:
    """Return the logits at every position of a sequence of any length: [N] -> [N, V].

    An absolute model has slots for T tokens, in all blocks. Beyond that, its window slides by one position per token,
    which moves every token to another slot. So each position t >= T needs its own forward pass over tokens t-T+1 to t.
    """
    T = max(config.windows)
    if config.position == "relative" or len(tokens) <= T:
        return _forward_window(tokens, weights, config)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, T)[1:]
    slid = [_forward_window(window, weights, config)[-1] for window in windows]
    return np.concatenate((_forward_window(tokens[:T], weights, config), slid))


def empty_cache(weights: Arrays, config: Config) -> Cache:
    """Return the cache of an empty sequence."""
    nothing = np.empty((0, weights["embed"].shape[1]), weights["embed"].dtype)
    return Cache(np.empty(0, np.int32), (nothing,) * config.n_blocks, (nothing,) * config.n_blocks)


def step(token: int, cache: Cache, weights: Arrays, config: Config) -> tuple[Array, Cache]:
    """Return the logits after one more token, and the updated cache: [], cache -> [V], cache."""
    tokens = np.append(cache.tokens, token)
    T = max(config.windows)
    if len(tokens) > T:
        tokens = tokens[-T:]
        if config.position == "absolute":  # all slots have shifted, so keys and values are stale
            return _forward_window(tokens, weights, config)[-1], cache._replace(tokens=tokens)
    x = weights["embed"][token]
    if config.position == "absolute":
        x = x + weights["pos"][len(tokens) - 1]
    keys, values = [], []
    for b, T in enumerate(config.windows):
        block = _block(weights, b)
        n = layer_norm(x, block["ln1.gain"], block["ln1.bias"])
        out, k, v = _attention_step(n, cache.keys[b], cache.values[b], block, T, config)
        keys.append(k)
        values.append(v)
        x = x + out
        x = x + mlp(layer_norm(x, block["ln2.gain"], block["ln2.bias"]), block["w0"], block["w1"])
    return _head(x, weights), Cache(tokens, tuple(keys), tuple(values))


def prefill(tokens: Tokens, cache: Cache, weights: Arrays, config: Config) -> tuple[Array, Cache]:
    """Return the logits after the last of N >= 1 tokens, and the updated cache: [N], cache -> [V], cache."""
    logits = np.empty(0)
    for token in tokens:
        logits, cache = step(int(token), cache, weights, config)
    return logits, cache


def _forward_window(tokens: Tokens, weights: Arrays, config: Config) -> Array:
    """Return the logits at every position of a sequence that needs no sliding window: [N] -> [N, V]."""
    x = weights["embed"][tokens]
    if config.position == "absolute":
        x = x + weights["pos"][: len(tokens)]
    for b, T in enumerate(config.windows):
        block = _block(weights, b)
        x = x + attention(layer_norm(x, block["ln1.gain"], block["ln1.bias"]), block, T, config)
        x = x + mlp(layer_norm(x, block["ln2.gain"], block["ln2.bias"]), block["w0"], block["w1"])
    return _head(x, weights)


def _attention_step(
    n: Array, keys: Array, values: Array, block: Arrays, T: int, config: Config
) -> tuple[Array, Array, Array]:
    """Return the attention output of one block at one position, and keys and values with that position appended.

    [C], [n, C], [n, C] -> [C], [n', C], [n', C] with n' = min(n + 1, T)
    """
    H = config.n_heads
    values = np.concatenate((values, linear(n, block["wv"])[None]))[-T:]
    J = len(values)
    order = slice(None, None, -1 if config.position == "relative" else 1)  # newest first, or by slot
    reweight = content = None
    if "wr" in block:
        reweight = _over_columns(linear(n, block["wr"]).reshape(H, 1, -1), J)
    if "wq" in block:
        keys = np.concatenate((keys, linear(n, block["wk"])[None]))[-T:]
        q = linear(n, block["wq"]).reshape(H, 1, -1)
        content = content_logits(q, _split_heads(keys[order], H)[:, None])
    weights = hybrid_softmax(reweight, content, block.get("gate"), np.ones((1, J), bool))
    return (weights @ _split_heads(values[order], H)).reshape(-1), keys, values


def _head(x: Array, weights: Arrays) -> Array:
    """Return the logits of the residual stream: [..., C] -> [..., V]."""
    return linear(layer_norm(x, weights["ln_f.gain"], weights["ln_f.bias"]), weights["wout"])


def _block(weights: Arrays, b: int) -> Arrays:
    """Return the arrays of block b, without the prefix of their names."""
    prefix = f"blocks.{b}."
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def _split_heads(x: Array, H: int) -> Array:
    """Split the last axis into heads: [..., N, H*M] -> [..., H, N, M]."""
    return np.moveaxis(x.reshape(*x.shape[:-1], H, -1), -2, -3)


def _join_heads(x: Array) -> Array:
    """Concatenate the heads: [..., H, N, D] -> [..., N, H*D]."""
    x = np.moveaxis(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)


def _over_columns(reweight: Array, J: int) -> Array:
    """Return the reweight logits of J columns, 0 past their reach R: [..., R] -> [..., J]."""
    beyond = np.zeros((*reweight.shape[:-1], max(0, J - reweight.shape[-1])), reweight.dtype)
    return np.concatenate((reweight[..., :J], beyond), axis=-1)


def _window(x: Array, T: int, config: Config) -> Array:
    """Return the keys or values in the window of every position: [..., N, D] -> [..., N or 1, J, D]."""
    return _by_distance(x, T) if config.position == "relative" else x[..., None, :, :]


def _by_distance(x: Array, T: int) -> Array:
    """Return the last T entries at every position, newest first, zero-padded: [..., N, D] -> [..., N, T, D]."""
    padded = np.concatenate((np.zeros((*x.shape[:-2], T - 1, x.shape[-1]), x.dtype), x), axis=-2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, T, axis=-2)  # [..., N, D, T], oldest first
    return np.swapaxes(windows, -1, -2)[..., ::-1, :]
