"""Pack a model's weights and a request's controls for the kernels.

Weights are aligned, padded to whole vectors, fused and folded.

Layer normalisation's gain goes into the rows of the matrix that follows, its bias into that matrix's own bias; gates
and 1/sqrt(D) into the columns of the reweight logits and the queries, so that the hybrid softmax is one addition.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from knock.config import ModelConfig
from knock.sampling import Sampling
from knock.vocab import TokenArray
from knock.weights import FloatArray, Weights
from knock_kernels.cache.store import PANEL, WIDTH, Control, Part, Plan, make_plan

_TABLE_FLOATS = 2**20  # a larger table would not stay in the cache


@np.errstate(over="ignore")  # what is too large for float32 is found out when it is run
def pack(weights: Weights) -> tuple[Plan, FloatArray]:
    """The plan of a model, and its packed weights, 64-byte aligned; the first block's table is still to be filled.

    What is folded is folded in float64, and in place: fresh memory for each step would take longer than the steps.
    """
    c = weights.config
    V, T, C, H, D, F = c.vocab_size, c.T, c.n_emb, c.n_heads, c.head_width, c.nodes
    relative = c.position == "relative"

    def plan_with(table: bool) -> Plan:
        return make_plan(
            V, T, C, H, F, c.n_blocks, relative=relative, content=c.has_content, reweight=c.has_reweight, table=table
        )

    plan = plan_with(table=True)
    if V * (1 if relative else T) * plan[Part.N_in] > _TABLE_FLOATS:
        plan = plan_with(table=False)
    out = aligned(int(plan[Part.weights_size]))

    def put(offset: int, matrix: npt.NDArray[np.floating], width: int) -> None:
        panels(matrix, out[offset : offset + len(matrix) * width])

    def put_rows(offset: int, rows: npt.NDArray[np.floating], width: int) -> None:
        out[offset : offset + len(rows) * width].reshape(len(rows), width)[:, : rows.shape[1]] = rows

    put_rows(plan[Part.embed], weights["embed"], plan[Part.C_padded])
    if not relative:
        put_rows(plan[Part.pos], weights["pos"], plan[Part.C_padded])
    for b in range(c.n_blocks):
        array = {name: weights[f"blocks.{b}.{name}"] for name in _block_names(weights)}
        gain1, bias1, gain2, bias2 = (
            array[name].astype(np.float64) for name in ("ln1.gain", "ln1.bias", "ln2.gain", "ln2.bias")
        )
        start = plan[Part.block_weights] + b * plan[Part.block_stride]
        gate = array["gate"].astype(np.float64) if "gate" in array else np.full(H, float(c.has_reweight))
        w_in = np.zeros((C, plan[Part.N_in]))
        if c.has_content:
            w_in[:, plan[Part.q] :][:, :C] = array["wq"] * np.repeat((1 - gate) / math.sqrt(D), D)
            w_in[:, plan[Part.k] :][:, :C] = array["wk"]
        _heads(w_in, plan[Part.v], H, plan[Part.D_padded])[:, :, :D] = array["wv"].reshape(C, H, D)
        if c.has_reweight:
            by_column = array["wr"].reshape(C, H, T)[:, :, :: -1 if relative else 1]  # the farthest distance first
            np.multiply(by_column, gate[:, None], out=_heads(w_in, plan[Part.r], H, plan[Part.T_padded])[:, :, :T])
        put_rows(start + plan[Part.b_in], (bias1 @ w_in)[None], plan[Part.N_in])
        w_in *= gain1[:, None]
        put(start + plan[Part.w_in], w_in, plan[Part.N_in])
        w0 = array["w0"].astype(np.float64)
        put_rows(start + plan[Part.b0], (bias2 @ w0)[None], plan[Part.F_padded])
        w0 *= gain2[:, None]
        put(start + plan[Part.w0], w0, plan[Part.F_padded])
        put(start + plan[Part.w1], array["w1"], plan[Part.C_padded])
    w_out = weights["wout"].astype(np.float64)
    put_rows(plan[Part.b_out], (weights["ln_f.bias"].astype(np.float64) @ w_out)[None], plan[Part.V_padded])
    w_out *= weights["ln_f.gain"].astype(np.float64)[:, None]
    put(plan[Part.w_out], w_out, plan[Part.V_padded])
    return plan, out


def panels(matrix: npt.NDArray[np.floating], out: FloatArray) -> None:
    """Write a matrix of weights in the panels that the kernel `linear` takes it by, padded to whole vectors.

    Args:
        matrix: (K, N).
        out: zeros, (K * width,) with a width of at least N.
    """
    K, N = matrix.shape
    width = out.size // max(1, K)
    for start in range(0, width, PANEL * WIDTH):
        across = min(PANEL * WIDTH, width - start)
        part = matrix[:, start : min(N, start + across)]
        out[K * start :][: K * across].reshape(K, across)[:, : part.shape[1]] = part


def aligned(size: int) -> FloatArray:
    """Zeros, float32, that begin on a 64-byte boundary and end in a whole vector."""
    raw = np.zeros(size + 2 * max(WIDTH, 16), np.float32)
    start = -(raw.ctypes.data // 4) % 16
    return raw[start : start + -(-size // WIDTH) * WIDTH + WIDTH]


def reachable(prompt: TokenArray, config: ModelConfig) -> TokenArray:
    """Return the end of a prompt that the next token can depend on.

    A relative model drops whole windows, so that each token keeps its slot in the ring, and sums over the ring keep
    their order and therefore their bits.
    """
    extra = max(0, len(prompt) - config.receptive_field)
    return prompt[extra // config.T * config.T if config.position == "relative" else extra :]


def control_row(sampling: Sampling) -> list[float]:
    """Return the controls in the order in which the sampler reads them, [Control]."""
    row = {
        Control.temperature: sampling.temperature,
        Control.top_n_sigma: sampling.top_n_sigma,
        Control.top_k: sampling.top_k,
        Control.typical_p: sampling.typical_p,
        Control.top_p: sampling.top_p,
        Control.min_p: sampling.min_p,
        Control.target_entropy: -1.0 if sampling.target_entropy is None else sampling.target_entropy,
        # For a target of 0, both rules give min_temp. The kernel's ratio would be 0 / 0 where the entropy is 0, too.
        Control.ratio_rule: sampling.entropy_rule == "ratio" and sampling.target_entropy != 0,
        Control.min_temp: sampling.min_temp,
        Control.max_temp: sampling.max_temp,
        Control.mirostat: -1.0 if sampling.mirostat is None else sampling.mirostat,
        Control.mirostat_eta: sampling.mirostat_eta,
        Control.mu: 2 * (sampling.mirostat or 0.0),
        Control.no_repeat_ngram: sampling.no_repeat_ngram,
        Control.dry_multiplier: sampling.dry_multiplier,
        Control.dry_base: sampling.dry_base,
        Control.dry_allowed_length: sampling.dry_allowed_length,
        Control.repetition_range: sampling.repetition_range,
    }
    return [float(row[control]) for control in Control]


def _heads(w_in: npt.NDArray[np.float64], start: int, H: int, width: int) -> npt.NDArray[np.float64]:
    """The columns of one kind, head by head, as a view: (C, N_in) -> (C, H, width)."""
    return w_in[:, start : start + H * width].reshape(len(w_in), H, width)


def _block_names(weights: Weights) -> list[str]:
    return [name.removeprefix("blocks.0.") for name in weights if name.startswith("blocks.0.")]
