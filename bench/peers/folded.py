"""The weights of the peers: fused and folded, independent of any framework.

V is the vocabulary size, T the window, C the embedding width, H the number of heads, D = C / H, F the MLP width.
M = 3D + T is the width of a head's projection: query, key, value and reweight logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from knock import reference
from knock.weights import FloatArray, Weights

A = TypeVar("A")
B = TypeVar("B")


class Block(NamedTuple, Generic[A]):
    """The arrays of one block.

    Attributes:
        ln1_gain: [C].
        ln1_bias: [C].
        w_in: [C, H*M], head by head q, k, v, r. The gates and 1/sqrt(D) are folded in, so that the attention
            logits are q . k + r; reweight logits run from the farthest distance, T-1, to the nearest.
        ln2_gain: [C].
        ln2_bias: [C].
        w0: [C, F].
        w1: [F, C].
    """

    ln1_gain: A
    ln1_bias: A
    w_in: A
    ln2_gain: A
    ln2_bias: A
    w0: A
    w1: A


class Folded(NamedTuple, Generic[A]):
    """The arrays of a model.

    Attributes:
        embed: [V, C].
        table: [V, H*M], the first block's projection of each token; in a relative model it depends on nothing else.
        blocks: the arrays of each block.
        ln_f_gain: [C].
        ln_f_bias: [C].
        wout: [C, V].
    """

    embed: A
    table: A
    blocks: tuple[Block[A], ...]
    ln_f_gain: A
    ln_f_bias: A
    wout: A

    def map(self, convert: Callable[[A], B]) -> Folded[B]:
        """Return the same with every array converted."""
        blocks = tuple(Block(*map(convert, block)) for block in self.blocks)
        ends = (self.ln_f_gain, self.ln_f_bias, self.wout)
        return Folded(convert(self.embed), convert(self.table), blocks, *map(convert, ends))


def fold(weights: Weights) -> Folded[FloatArray]:
    """Fold the weights in float64, then round them to float32.

    Raises:
        ValueError: if the model is not a relative hybrid of blocks that are all alike, the only kind that peers
            support.
    """
    config = weights.config
    if (config.head_type, config.position) != ("hybrid", "relative") or not config.is_uniform:
        raise ValueError(f"peers run relative hybrid models whose blocks are all alike, got {config}")
    C, H, D = config.n_emb, config.n_heads, config.head_width
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def block(b: int) -> Block[np.ndarray]:
        array = {name.removeprefix(f"blocks.{b}."): w[name] for name in w if name.startswith(f"blocks.{b}.")}
        q, k, v, r = (array[name].reshape(C, H, -1) for name in ("wq", "wk", "wv", "wr"))
        gate = array["gate"][:, None]
        w_in = np.concatenate((q * (1 - gate) / math.sqrt(D), k, v, gate * r[:, :, ::-1]), axis=2).reshape(C, -1)
        return Block(
            array["ln1.gain"], array["ln1.bias"], w_in, array["ln2.gain"], array["ln2.bias"], array["w0"], array["w1"]
        )

    blocks = tuple(block(b) for b in range(config.n_blocks))
    first = blocks[0]
    table = reference.layer_norm(w["embed"], first.ln1_gain, first.ln1_bias) @ first.w_in
    folded = Folded(w["embed"], table, blocks, w["ln_f.gain"], w["ln_f.bias"], w["wout"])
    return folded.map(lambda array: np.ascontiguousarray(array, np.float32))
