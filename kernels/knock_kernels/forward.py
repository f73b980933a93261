"""The forward pass of up to ROWS rows at once: several sequences' next positions, or one sequence's next few."""

from __future__ import annotations

from knock_kernels.attention import attention
from knock_kernels.cpu import WIDTH
from knock_kernels.jit import inlined, kernel
from knock_kernels.layout import At
from knock_kernels.linear import linear
from knock_kernels.mlp import mlp
from knock_kernels.norm import layer_norm
from knock_kernels.simd import at

_V, _C, _F, _L = (int(part) for part in (At.V, At.C, At.F, At.L))
_RELATIVE, _C_PADDED, _F_PADDED, _V_PADDED = (int(p) for p in (At.relative, At.C_padded, At.F_padded, At.V_padded))
_N_IN, _EMBED, _POS, _TABLE, _ZEROS = (int(part) for part in (At.N_in, At.embed, At.pos, At.table, At.zeros))
_BLOCKS, _STRIDE, _CACHE_STRIDE = int(At.block_weights), int(At.block_stride), int(At.cache_stride)
_W_IN, _B_IN, _W0, _B0, _W1 = (int(part) for part in (At.w_in, At.b_in, At.w0, At.b0, At.w1))
_W_OUT, _B_OUT = int(At.w_out), int(At.b_out)
_X, _N, _PROJECTED, _HIDDEN, _LOGITS = (int(p) for p in (At.x, At.n, At.projected, At.hidden, At.logits))


@kernel
def forward(tokens, positions, caches, rows, weights, scratch, plan):
    """The residual stream after the last block, in scratch, for each row.

    Rows that share a cache must be consecutive positions of its sequence, in order.

    Args:
        tokens: [rows], int64.
        positions: [rows], int64: tokens before each in its sequence; below T in an absolute model.
        caches: [rows], int64: where each row's cache starts, as an offset from `scratch`.
        rows: 1 to ROWS.
        weights: packed, as `plan` lays them out.
        scratch: packed.
        plan: sizes and offsets.
    """
    C, F, Cp, Fp, N_in = plan[_C], plan[_F], plan[_C_PADDED], plan[_F_PADDED], plan[_N_IN]
    x, n, projected = at(scratch, plan[_X]), at(scratch, plan[_N]), at(scratch, plan[_PROJECTED])
    zeros = at(weights, plan[_ZEROS])
    for r in range(rows):
        for c in range(Cp):
            x[r * Cp + c] = weights[plan[_EMBED] + tokens[r] * Cp + c]
        if not plan[_RELATIVE]:
            for c in range(Cp):
                x[r * Cp + c] += weights[plan[_POS] + positions[r] * Cp + c]
    for b in range(plan[_L]):
        block = at(weights, plan[_BLOCKS] + b * plan[_STRIDE])
        if b > 0 or plan[_TABLE] < 0:
            for r in range(rows):
                layer_norm(at(x, r * Cp), at(n, r * Cp), C)
            linear(n, Cp, at(block, plan[_W_IN]), N_in, at(block, plan[_B_IN]), 0, projected, N_in, rows, C,
                   N_in // WIDTH)  # fmt: skip
        for r in range(rows):
            row = at(projected, r * N_in)
            if b == 0 and plan[_TABLE] >= 0:
                row = at(weights, plan[_TABLE] + tokens[r] * N_in)
            attention(row, at(scratch, caches[r] + b * plan[_CACHE_STRIDE]), positions[r], zeros, scratch,
                      at(x, r * Cp), plan)  # fmt: skip
        for r in range(rows):
            layer_norm(at(x, r * Cp), at(n, r * Cp), C)
        mlp(n, at(block, plan[_W0]), at(block, plan[_B0]), at(block, plan[_W1]), at(scratch, plan[_HIDDEN]), x, rows,
            C, F, Cp, Fp)  # fmt: skip


@inlined
def head(rows, weights, scratch, plan):
    """Logits of each row, in scratch, from the residual stream there."""
    C, Cp, Vp = plan[_C], plan[_C_PADDED], plan[_V_PADDED]
    x, n = at(scratch, plan[_X]), at(scratch, plan[_N])
    for r in range(rows):
        layer_norm(at(x, r * Cp), at(n, r * Cp), C)
    linear(n, Cp, at(weights, plan[_W_OUT]), Vp, at(weights, plan[_B_OUT]), 0, at(scratch, plan[_LOGITS]), Vp, rows, C,
           Vp // WIDTH)  # fmt: skip


@inlined
def tabulate(weights, scratch, plan):
    """The first block's projection of every token, into the table: in a relative model it depends on nothing else."""
    C, Cp, N_in = plan[_C], plan[_C_PADDED], plan[_N_IN]
    n, block = at(scratch, plan[_N]), at(weights, plan[_BLOCKS])
    for token in range(plan[_V]):
        layer_norm(at(weights, plan[_EMBED] + token * Cp), n, C)
        linear(n, Cp, at(block, plan[_W_IN]), N_in, at(block, plan[_B_IN]), 0,
               at(weights, plan[_TABLE] + token * N_in), N_in, 1, C, N_in // WIDTH)  # fmt: skip
