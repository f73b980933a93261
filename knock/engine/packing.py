"""Pack a model's weights and a request's controls for the kernels.

Weights are aligned, padded to whole vectors, fused and folded.

Layer normalisation's gain goes into the rows of the matrix that follows, its bias into that matrix's own bias; gates
and 1/sqrt(D) into the columns of the reweight logits and the queries, so that the hybrid softmax is one addition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.config import ModelConfig
from knock.sampling import Sampling
from knock.vocab import TokenArray
from knock.weights import FloatArray, Weights
from knock_kernels.cache.store import (
    PANEL,
    ROWS,
    Block,
    Controls,
    Linear,
    Model,
    RecordArray,
    allocate,
    padded,
)

_TABLE_FLOATS = 2**20  # a larger table would not stay in the cache

Matrix = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Packed:
    """A packed model.

    Attributes:
        model: the `Model` record, [1].
        blocks: the `Block` records, [L].
        turned_size: size of `State.turned`.
        memory: the arrays behind the records.
    """

    model: RecordArray
    blocks: RecordArray
    turned_size: int
    memory: list[Any]


@np.errstate(over="ignore")  # what is too large for float32 is found out when it is run
def pack(weights: Weights) -> Packed:
    """Pack a model. The first block's table is still to be filled.

    What is folded is folded in float64, and in place: fresh memory for each step would take longer than the steps.
    """
    c = weights.config
    V, T, C, H, D = c.vocab_size, c.longest_window, c.n_emb, c.n_heads, c.head_width
    model = Model.array()
    model["is_relative"] = c.position == "relative"
    for name, size in {"T": T, "H": H, "L": c.n_blocks}.items():
        model[name] = size
    for name, size in {"V": V, "C": C, "D": D, "F": c.nodes}.items():
        model[name], model[f"{name}_padded"] = size, padded(size)
    shapes = {
        "embed": (V, padded(C)),
        "pos": (0 if c.position == "relative" else T, padded(C)),
        "blocks": (c.n_blocks,),
        "output": (1,),
        "zeros": (max(padded(T), padded(D)),),
    }
    arrays = allocate(Model, model, shapes)
    arrays["embed"][:, :C] = weights["embed"]
    if c.position == "absolute":
        arrays["pos"][:, :C] = weights["pos"]
    w_out, gain, bias = (weights[name].astype(np.float64) for name in ("wout", "ln_f.gain", "ln_f.bias"))
    memory: list[Any] = [arrays, _pack_linear(arrays["output"], w_out, gain, bias)]
    blocks = arrays["blocks"]
    memory += [_pack_block(weights, b, blocks[b : b + 1]) for b in range(c.n_blocks)]
    sizes = blocks["values"] + H * blocks["T"] * padded(D)
    blocks["cache"], model["cache_size"] = np.cumsum(sizes) - sizes, sizes.sum()
    entries = V * (1 if c.position == "relative" else T)
    if entries * int(blocks["N"][0]) <= _TABLE_FLOATS:
        memory.append(allocate(Model, model, {"table": (entries, int(blocks["N"][0]))}))
    return Packed(model, blocks, _lay_out_turned(blocks, max(ROWS, H)), memory)


def _lay_out_turned(blocks: RecordArray, places: int) -> int:
    """Set the offsets in `State.turned`, and return its size.

    Blocks whose reweight logits reach over the whole window share one place. In the others, columns beyond the reach
    are 0 from the start and must stay so.
    """
    sizes = places * blocks["turned_stride"]
    shared = blocks["R"] == blocks["T"]
    start = int(sizes[shared].max(initial=0))
    own = np.where(shared, 0, sizes)
    blocks["turned"] = np.where(shared, 0, start + np.cumsum(own) - own)
    return start + int(own.sum())


def _pack_block(weights: Weights, b: int, block: RecordArray) -> list[Any]:
    """Fill in the record of a block; return the arrays behind it.

    Args:
        weights: the model.
        b: number of the block.
        block: its record, [1].
    """
    c = weights.config
    C, H, D, T, R = c.n_emb, c.n_heads, c.head_width, c.windows[b], c.reweight_windows[b]
    array = {name: weights[f"blocks.{b}.{name}"] for name in _block_names(weights, b)}
    gain1, bias1, gain2, bias2 = (
        array[name].astype(np.float64) for name in ("ln1.gain", "ln1.bias", "ln2.gain", "ln2.bias")
    )
    N, content = 0, padded(C) if "wq" in array else 0
    for name, width in {"q": content, "k": content, "v": H * padded(D), "r": H * padded(R)}.items():
        block[name] = N if width else -1
        N += width
    for name, size in {"N": N, "T": T, "R": R, "T_padded": padded(T), "R_padded": padded(R)}.items():
        block[name] = size
    block["values"] = C * padded(T) if content else 0
    block["turned_stride"] = padded(T + 2 * padded(T)) if R and c.position == "relative" else 0

    q, k, v, r = (int(block[name][0]) for name in ("q", "k", "v", "r"))
    w_in = np.zeros((C, N))
    gate = array["gate"].astype(np.float64) if "gate" in array else np.full(H, float(R > 0))
    if content:
        w_in[:, q : q + C] = array["wq"] * np.repeat((1 - gate) / math.sqrt(D), D)
        w_in[:, k : k + C] = array["wk"]
    _heads(w_in, v, H, padded(D))[:, :, :D] = array["wv"].reshape(C, H, D)
    if R:
        by_column = array["wr"].reshape(C, H, R)[:, :, :: -1 if c.position == "relative" else 1]  # the farthest first
        np.multiply(by_column, gate[:, None], out=_heads(w_in, r, H, padded(R))[:, :, :R])
    layers = allocate(Block, block, {"inputs": (1,), "w0": (1,), "w1": (1,)})
    return [
        layers,
        _pack_linear(layers["inputs"], w_in, gain1, bias1),
        _pack_linear(layers["w0"], array["w0"].astype(np.float64), gain2, bias2),
        _pack_linear(layers["w1"], array["w1"]),
    ]


def _pack_linear(layer: RecordArray, w: Matrix, gain: Matrix | None = None, bias: Matrix | None = None) -> Any:
    """Fill in the record of a matrix product; return the arrays behind it.

    Args:
        layer: the record, [1].
        w: [K, N]; changed.
        gain: [K], of the layer normalisation before it; None if there is none, and the product is added to the output.
        bias: [K].
    """
    K, N = w.shape
    layer["K"], layer["N"], layer["is_added"] = K, padded(N), gain is None
    arrays = allocate(Linear, layer, {"weights": (K * padded(N),), "bias": (padded(N),)})
    if gain is not None and bias is not None:
        arrays["bias"][:N] = bias @ w
        w *= gain[:, None]
    panels(w, arrays["weights"])
    return arrays


def panels(matrix: Matrix, out: FloatArray) -> None:
    """Write a matrix of weights in the panels that the kernel `linear` reads, padded to whole vectors.

    Args:
        matrix: [K, N].
        out: zeros, [K * width] with a width of at least N.
    """
    K, N = matrix.shape
    width = out.size // max(1, K)
    for start in range(0, width, PANEL):
        across = min(PANEL, width - start)
        part = matrix[:, start : min(N, start + across)]
        out[K * start :][: K * across].reshape(K, across)[:, : part.shape[1]] = part


def reachable(prompt: TokenArray, config: ModelConfig) -> TokenArray:
    """Return the end of a prompt that the next token can depend on.

    A relative model drops whole windows, so that each token keeps its slot in every ring, and sums over the ring keep
    their order and therefore their bits.
    """
    extra = max(0, len(prompt) - config.receptive_field)
    if config.position == "relative":
        step = math.lcm(*config.windows)
        extra = extra // step * step
    return prompt[extra:]


def controls_of(sampling: Sampling) -> RecordArray:
    """Return the controls as the sampler reads them, a `Controls` record, [1]."""
    values = {
        "temperature": sampling.temperature,
        "top_n_sigma": sampling.top_n_sigma,
        "top_k": sampling.top_k,
        "typical_p": sampling.typical_p,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "target_entropy": -1.0 if sampling.target_entropy is None else sampling.target_entropy,
        # For a target of 0, both rules give min_temp. The kernel's ratio would be 0 / 0 where the entropy is 0, too.
        "ratio_rule": sampling.entropy_rule == "ratio" and sampling.target_entropy != 0,
        "min_temp": sampling.min_temp,
        "max_temp": sampling.max_temp,
        "mirostat": -1.0 if sampling.mirostat is None else sampling.mirostat,
        "mirostat_eta": sampling.mirostat_eta,
        "mu": 2 * (sampling.mirostat or 0.0),
        "no_repeat_ngram": sampling.no_repeat_ngram,
        "dry_multiplier": sampling.dry_multiplier,
        "dry_base": sampling.dry_base,
        "dry_allowed_length": sampling.dry_allowed_length,
        "repetition_range": sampling.repetition_range,
    }
    return np.array([tuple(float(values[name]) for name in Controls.fields)], Controls.dtype)


def _heads(w_in: npt.NDArray[np.float64], start: int, H: int, width: int) -> npt.NDArray[np.float64]:
    """Return the columns of one kind, head by head, as a view: [C, N] -> [C, H, width]."""
    return w_in[:, start : start + H * width].reshape(len(w_in), H, width)


def _block_names(weights: Weights, b: int) -> list[str]:
    prefix = f"blocks.{b}."
    return [name.removeprefix(prefix) for name in weights if name.startswith(prefix)]
