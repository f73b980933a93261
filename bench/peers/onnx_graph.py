"""One step of the ONNX Runtime peer as an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from bench.peers.folded import Folded
from knock.config import ModelConfig
from knock.weights import FloatArray

OPSET, IR_VERSION = 24, 11  # the first opset with TensorScatter, which writes into a ring in place


class Builder:
    """Nodes and constants of a graph, with unique names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[TensorProto] = []

    def op(self, kind: str, *inputs: str | np.ndarray, out: str = "", **attributes: Any) -> str:
        """Add a node with one output and return its name. Arrays among the inputs become constants."""
        return self.op_many(kind, *inputs, outs=[out or f"{kind}.{len(self.nodes)}"], **attributes)[0]

    def op_many(self, kind: str, *inputs: str | np.ndarray, outs: list[str], **attributes: Any) -> list[str]:
        """Add a node with named outputs and return their names."""
        names = [name if isinstance(name, str) else self._constant(name) for name in inputs]
        self.nodes.append(helper.make_node(kind, names, outs, **attributes))
        return outs

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def step_graph(w: Folded[FloatArray], config: ModelConfig, batch: int) -> ModelProto:
    """Return the graph of one step.

    Inputs: `token` [B]; `noise` [B, V], subtracted from the logits before the largest is taken; `slot` [B], where the
    new keys and values go; `first` and `end` [1], the slice of the doubled reweight logits that matches the slots;
    `mask` [T], added to the logits of each slot; and per block b the rings `keys.b` and `values.b` [B, H, T, D].

    Outputs: `logits` [B, V], `token.next`, and the rings with `.next` after their names.
    """
    B, T, C, H, D, V = batch, config.T, config.n_emb, config.n_heads, config.head_width, config.vocab_size
    g = Builder()

    def layer_norm(x: str, gain: FloatArray, bias: FloatArray) -> str:
        return g.op("LayerNormalization", x, gain, bias, epsilon=1e-5)

    x = g.op("Gather", w.embed, "token")
    for b, block in enumerate(w.blocks):
        if b == 0:
            projection = g.op("Gather", w.table, "token")
        else:
            projection = g.op("MatMul", layer_norm(x, block.ln1_gain, block.ln1_bias), block.w_in)
        by_head = g.op("Reshape", projection, np.array([B, H, 1, 3 * D + T]))
        outs = [f"{part}.{b}" for part in ("q", "k", "v", "r")]
        q, k, v, r = g.op_many("Split", by_head, np.array([D, D, D, T]), outs=outs, axis=3)
        keys, values = (
            g.op("TensorScatter", f"{ring}.{b}", new, "slot", out=f"{ring}.{b}.next", axis=2, mode="circular")
            for ring, new in (("keys", k), ("values", v))
        )
        r = g.op("Slice", g.op("Concat", r, r, axis=3), "first", "end", np.array([3]))  # cheaper than a Gather
        attended = g.op("Attention", q, keys, values, g.op("Add", r, "mask"), scale=1.0)
        x = g.op("Add", x, g.op("Reshape", attended, np.array([B, C])))
        hidden = g.op("MatMul", layer_norm(x, block.ln2_gain, block.ln2_bias), block.w0)
        x = g.op("Add", x, g.op("MatMul", g.op("Gelu", hidden, approximate="tanh"), block.w1))
    logits = g.op("MatMul", layer_norm(x, w.ln_f_gain, w.ln_f_bias), w.wout, out="logits")
    g.op("ArgMax", g.op("Sub", logits, "noise"), axis=1, keepdims=0, out="token.next")

    token = {"token": (TensorProto.INT64, [B])}
    rings = {
        f"{kind}.{b}": (TensorProto.FLOAT, [B, H, T, D]) for b in range(config.n_blocks) for kind in ("keys", "values")
    }
    place = {
        "slot": (TensorProto.INT64, [B]),
        "first": (TensorProto.INT64, [1]),
        "end": (TensorProto.INT64, [1]),
        "mask": (TensorProto.FLOAT, [T]),
    }
    wide = (TensorProto.FLOAT, [B, V])
    inputs = token | rings | place | {"noise": wide}
    outputs = {f"{name}.next": kind for name, kind in (token | rings).items()} | {"logits": wide}
    takes, gives = (
        [helper.make_tensor_value_info(name, *kind) for name, kind in ends.items()] for ends in (inputs, outputs)
    )
    graph = helper.make_graph(g.nodes, "step", takes, gives, g.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
