"""Pack a model's weights for the kernels: aligned, padded to whole vectors, fused, and folded.

Layer normalisation's gain goes into the rows of the matrix that follows, its bias into that matrix's own bias; gates
and 1/sqrt(D) into the columns of the reweight logits and the queries, so that the hybrid softmax is one addition.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from knock.weights import FloatArray, Weights
from knock_kernels.store import PANEL, WIDTH, At, Plan, make_plan

_TABLE_FLOATS = 2**20  # a larger table would not stay in the cache


def pack(weights: Weights) -> tuple[Plan, FloatArray]:
    """The plan of a model, and its packed weights, 64-byte aligned; the first block's table is still to be filled."""
    c = weights.config
    V, T, C, H, D, F = c.vocab_size, c.T, c.n_emb, c.n_heads, c.head_width, c.nodes
    relative = c.position == "relative"

    def plan_with(table: bool) -> Plan:
        return make_plan(
            V, T, C, H, F, c.n_blocks, relative=relative, content=c.has_content, reweight=c.has_reweight, table=table
        )

    plan = plan_with(table=True)
    if V * (1 if relative else T) * plan[At.N_in] > _TABLE_FLOATS:
        plan = plan_with(table=False)
    out = aligned(int(plan[At.weights_size]))

    def put(offset: int, values: npt.NDArray[np.float64]) -> None:
        with np.errstate(over="ignore"):  # what is too large for float32 is found out when it is run
            out[offset : offset + values.size] = values.ravel()

    put(plan[At.embed], _padded(weights["embed"].astype(np.float64), plan[At.C_padded]))
    if not relative:
        put(plan[At.pos], _padded(weights["pos"].astype(np.float64), plan[At.C_padded]))
    for b in range(c.n_blocks):
        array = {name: weights[f"blocks.{b}.{name}"].astype(np.float64) for name in _block_names(weights)}
        start = plan[At.block_weights] + b * plan[At.block_stride]
        gate = array.get("gate", np.full(H, float(c.has_reweight)))
        w_in = np.zeros((C, plan[At.N_in]))
        if c.has_content:
            w_in[:, plan[At.q] :][:, :C] = array["wq"] * np.repeat((1 - gate) / math.sqrt(D), D)
            w_in[:, plan[At.k] :][:, :C] = array["wk"]
        w_in[:, plan[At.v] :][:, : H * plan[At.D_padded]] = _padded_heads(array["wv"], H, plan[At.D_padded])
        if c.has_reweight:
            by_column = array["wr"].reshape(C, H, T) * gate[:, None]
            if relative:
                by_column = by_column[:, :, ::-1]  # from the farthest distance to the nearest
            w_in[:, plan[At.r] :][:, : H * plan[At.T_padded]] = _padded_heads(by_column, H, plan[At.T_padded])
        w0, w1 = _padded(array["w0"], plan[At.F_padded]), _padded(array["w1"], plan[At.C_padded])
        put(start + plan[At.w_in], panels(array["ln1.gain"][:, None] * w_in))
        put(start + plan[At.b_in], array["ln1.bias"] @ w_in)
        put(start + plan[At.w0], panels(array["ln2.gain"][:, None] * w0))
        put(start + plan[At.b0], array["ln2.bias"] @ w0)
        put(start + plan[At.w1], panels(w1))
    w_out = _padded(weights["wout"].astype(np.float64), plan[At.V_padded])
    put(plan[At.w_out], panels(weights["ln_f.gain"].astype(np.float64)[:, None] * w_out))
    put(plan[At.b_out], weights["ln_f.bias"].astype(np.float64) @ w_out)
    return plan, out


def panels(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A matrix of weights in the panels that the kernel `linear` takes it by: (K, N) -> (K * N,)."""
    starts = range(PANEL * WIDTH, matrix.shape[1], PANEL * WIDTH)
    return np.concatenate([panel.ravel() for panel in np.split(matrix, starts, axis=1)])


def aligned(size: int) -> FloatArray:
    """Zeros, float32, that begin on a 64-byte boundary and end in a whole vector."""
    raw = np.zeros(size + 2 * max(WIDTH, 16), np.float32)
    start = -(raw.ctypes.data // 4) % 16
    return raw[start : start + -(-size // WIDTH) * WIDTH + WIDTH]


def _padded(x: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Rows padded with zeros: (K, N) -> (K, width)."""
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def _padded_heads(x: npt.NDArray[np.float64], H: int, width: int) -> npt.NDArray[np.float64]:
    """Heads side by side, each padded with zeros: (C, H*M) -> (C, H*width)."""
    heads = x.reshape(len(x), H, -1)
    padded = np.zeros((len(x), H, width))
    padded[:, :, : heads.shape[2]] = heads
    return padded.reshape(len(x), -1)


def _block_names(weights: Weights) -> list[str]:
    return [name.removeprefix("blocks.0.") for name in weights if name.startswith("blocks.0.")]
