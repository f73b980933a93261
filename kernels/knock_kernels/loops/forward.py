"""The forward pass of up to SPAN rows: the next positions of several sequences, or several positions of one."""

from __future__ import annotations

from knock_kernels.lang.cpu import WIDTH
from knock_kernels.lang.layout import ROWS, Part
from knock_kernels.lang.simd import at, copy_vectors
from knock_kernels.lang.units import f32p, i64, i64p, inlined, unit, void
from knock_kernels.ops.attention import attention, remember
from knock_kernels.ops.linear import linear
from knock_kernels.ops.mlp import mlp
from knock_kernels.ops.norm import layer_norm

_V, _T, _C, _F, _L = (int(part) for part in (Part.V, Part.T, Part.C, Part.F, Part.L))
_RELATIVE, _C_PADDED, _F_PADDED, _V_PADDED = (
    int(p) for p in (Part.relative, Part.C_padded, Part.F_padded, Part.V_padded)
)
_N_IN, _EMBED, _POS, _TABLE, _ZEROS = (int(part) for part in (Part.N_in, Part.embed, Part.pos, Part.table, Part.zeros))
_BLOCKS, _STRIDE, _CACHE_STRIDE = int(Part.block_weights), int(Part.block_stride), int(Part.cache_stride)
_W_IN, _B_IN, _W0, _B0, _W1 = (int(part) for part in (Part.w_in, Part.b_in, Part.w0, Part.b0, Part.w1))
_W_OUT, _B_OUT = int(Part.w_out), int(Part.b_out)
_K, _R = int(Part.k), int(Part.r)
_X, _N, _PROJECTED, _HIDDEN, _LOGITS = (int(p) for p in (Part.x, Part.n, Part.projected, Part.hidden, Part.logits))


_INPUTS = (f32p, f32p, i64p)  # weights, scratch, plan


@unit(void(i64p, i64p, i64p, i64, i64, *_INPUTS))
def forward(tokens, positions, caches, rows, wanted, weights, scratch, plan):
    """Compute the residual stream of the last `wanted` rows after the last block, in scratch.

    Rows that share a cache must be consecutive positions of its sequence, in order.

    Args:
        tokens: [rows], int64.
        positions: [rows], int64: number of tokens before each in its sequence; less than T in an absolute model.
        caches: [rows], int64: offset of each row's cache in `scratch`.
        rows: number of rows, 1 to SPAN.
        wanted: number of rows to compute, the last ones; the others only store their keys and values.
        weights: as laid out by `plan`.
        scratch: as laid out by `plan`, followed by caches.
        plan: sizes and offsets.
    """
    T, C, F, L, Cp, Fp = plan[_T], plan[_C], plan[_F], plan[_L], plan[_C_PADDED], plan[_F_PADDED]
    x, n, projected = at(scratch, plan[_X]), at(scratch, plan[_N]), at(scratch, plan[_PROJECTED])
    for r in range(rows):
        for c in range(Cp):
            x[r * Cp + c] = weights[plan[_EMBED] + tokens[r] * Cp + c]
        if not plan[_RELATIVE]:
            for c in range(Cp):
                x[r * Cp + c] += weights[plan[_POS] + positions[r] * Cp + c]
    for b in range(L):
        block = at(weights, plan[_BLOCKS] + b * plan[_STRIDE])
        first = rows - wanted if b == L - 1 else 0
        if b > 0 or plan[_TABLE] < 0:
            project(block, first, rows, scratch, weights, plan)
        r = 0
        while r < rows:
            row, cache, count = at(projected, r * plan[_N_IN]), at(scratch, caches[r] + b * plan[_CACHE_STRIDE]), 1
            slot = positions[r] % T
            most = T - slot if r < first else T - positions[r]  # rows that can be stored, or attended, together
            end = min(rows if r >= first else first, r + min(ROWS, most))
            while r + count < end and caches[r + count] == caches[r]:
                count += 1
            if b == 0 and plan[_TABLE] >= 0:
                row = look_up(at(tokens, r), at(positions, r), count, weights, row, plan)
            if r < first:
                remember(row, cache, slot, count, plan)
            else:
                attention(row, cache, positions[r], count, at(weights, plan[_ZEROS]), scratch, at(x, r * Cp), plan)
            r += count
        for r in range(first, rows):
            layer_norm(at(x, r * Cp), at(n, r * Cp), C)
        mlp(at(n, first * Cp), at(block, plan[_W0]), at(block, plan[_B0]), at(block, plan[_W1]),
            at(scratch, plan[_HIDDEN]), at(x, first * Cp), rows - first, C, F, Cp, Fp)  # fmt: skip


@inlined
def project(block, first, rows, scratch, weights, plan):
    """Normalise and project the residual stream: [q | k | v | r] from row `first` on, only k and v before it."""
    C, Cp, N_in = plan[_C], plan[_C_PADDED], plan[_N_IN]
    x, n, projected = at(scratch, plan[_X]), at(scratch, plan[_N]), at(scratch, plan[_PROJECTED])
    for r in range(rows):
        layer_norm(at(x, r * Cp), at(n, r * Cp), C)
    w, bias, vectors = at(block, plan[_W_IN]), at(block, plan[_B_IN]), N_in // WIDTH
    linear(at(n, first * Cp), Cp, w, bias, 0, at(projected, first * N_in), N_in, rows - first, C, vectors, 0, vectors)
    if first > 0:
        start, end = max(plan[_K], 0), plan[_R] if plan[_R] >= 0 else N_in
        linear(n, Cp, w, bias, 0, projected, N_in, first, C, vectors, start // WIDTH, end // WIDTH)


@inlined
def look_up(tokens, positions, count, weights, out, plan):
    """Return rows of the first block's table: a pointer to a single row, or several rows copied to `out`."""
    T, N_in, table = plan[_T], plan[_N_IN], at(weights, plan[_TABLE])
    for r in range(count):
        entry = tokens[r] if plan[_RELATIVE] else tokens[r] * T + positions[r]
        if count == 1:
            return at(table, entry * N_in)
        copy_vectors(at(table, entry * N_in), at(out, r * N_in), N_in // WIDTH)
    return out


@inlined
def head(first, rows, weights, scratch, plan):
    """Compute the logits of up to ROWS rows of the residual stream, starting at row `first`, into rows 0, 1, ..."""
    C, Cp, Vp = plan[_C], plan[_C_PADDED], plan[_V_PADDED]
    x, n = at(scratch, plan[_X]), at(scratch, plan[_N])
    for r in range(rows):
        layer_norm(at(x, (first + r) * Cp), at(n, r * Cp), C)
    linear(n, Cp, at(weights, plan[_W_OUT]), at(weights, plan[_B_OUT]), 0, at(scratch, plan[_LOGITS]), Vp, rows, C,
           Vp // WIDTH, 0, Vp // WIDTH)  # fmt: skip


@unit(void(*_INPUTS))
def tabulate(weights, scratch, plan):
    """Fill the table: the first block's projection of every token, or of every (token, slot) in an absolute model."""
    T, C, Cp, N_in = plan[_T], plan[_C], plan[_C_PADDED], plan[_N_IN]
    x, n, block = at(scratch, plan[_X]), at(scratch, plan[_N]), at(weights, plan[_BLOCKS])
    for entry in range(plan[_V] * (1 if plan[_RELATIVE] else T)):
        token, slot = (entry, 0) if plan[_RELATIVE] else (entry // T, entry % T)
        for c in range(Cp):
            x[c] = weights[plan[_EMBED] + token * Cp + c]
            if not plan[_RELATIVE]:
                x[c] += weights[plan[_POS] + slot * Cp + c]
        layer_norm(x, n, C)
        linear(n, Cp, at(block, plan[_W_IN]), at(block, plan[_B_IN]), 0, at(weights, plan[_TABLE] + entry * N_in), N_in,
               1, C, N_in // WIDTH, 0, N_in // WIDTH)  # fmt: skip
