"""The PyTorch twin of the model: same mathematics and parameter names, differentiable.

Symbols: V vocabulary size, T window of a block, R reach of its reweight logits, C embedding width, H heads,
D = C / H head width, F MLP width, B sequences, N positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knock.config import BlockConfig, ModelConfig
from knock.weights import Weights, block_shapes


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis with eps 1e-5, [..., C] -> [..., C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, scale and shift."""
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, eps=1e-5)


class Block(nn.Module):
    """Attention and MLP, each added to the residual stream, [B, N, C] -> [B, N, C]."""

    wq: Tensor
    wk: Tensor
    wv: Tensor
    wr: Tensor
    gate: Tensor
    w0: Tensor
    w1: Tensor

    def __init__(self, config: ModelConfig, block: BlockConfig, dropout: float) -> None:
        super().__init__()
        self.config = config
        self.block = block
        self.dropout = dropout
        self.ln1 = LayerNorm(config.n_emb)
        self.ln2 = LayerNorm(config.n_emb)
        for name, shape in block_shapes(config, block).items():
            if not name.startswith("ln"):
                self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def forward(self, x: Tensor, items: Tensor | None = None) -> Tensor:
        """Add the output of attention, then that of the MLP, to the residual stream.

        Args:
            x: the residual stream.
            items: first position of the item of each position, [B, N] int64; None if the sequences are not packed.
        """
        x = x + self._dropped(self.attention(self.ln1(x), items))
        return x + self._dropped(F.gelu(self.ln2(x) @ self.w0, approximate="tanh") @ self.w1)

    def attention(self, n: Tensor, items: Tensor | None = None) -> Tensor:
        """Hybrid attention over the window, [B, N, C] -> [B, N, C]. No position sees another item.

        In a relative model, queries are processed in parts of `rows` positions. A part sees its own keys and those of
        the parts before it that its windows reach: with T rows, T keys before its own T. The logits are
        [B, parts, H, rows, columns], so memory grows linearly with N. An absolute model is a single part that sees
        only itself.
        """
        H, D = self.config.n_heads, self.config.head_width
        B, N, C = n.shape
        relative = self.config.position == "relative"
        T = min(self.block.T, N) if relative else self.block.T  # no query sees farther than its sequence
        rows = _rows_of(T) if relative else N
        before = -(-T // rows) if relative else 0  # parts
        if N % rows:  # pad at the end, where no real query sees it
            n = F.pad(n, (0, 0, 0, -N % rows))
            items = None if items is None else F.pad(items, (0, -N % rows), value=N)
        parts = n.shape[1] // rows
        heads = (B, parts, rows, H, -1)

        q, k, v, r = (None if part is None else part.view(heads).transpose(2, 3) for part in self.project(n, T))
        assert v is not None
        v = _visible_keys(v, before)  # [B, parts, H, columns, D]
        if r is not None and items is not None and not relative:
            r = _by_slot(r, items)
        if relative:
            r = n.new_zeros(1, parts, 1, rows, 0) if r is None else r
            mixed: Tensor = _Skew.apply(r, T, before)  # type: ignore[no-untyped-call]
        else:
            mixed = _causal(rows, n) if r is None else r[..., :rows] + _causal(rows, r)
        if items is not None:
            mixed = mixed.masked_fill(_elsewhere(items.view(B, parts, 1, rows, 1), before), -math.inf)
        if q is not None and k is not None:
            k = _visible_keys(k, before)
            mixed = mixed.expand(B, parts, H, rows, -1).reshape(-1, rows, k.shape[3])
            logits = torch.baddbmm(mixed, q.reshape(-1, rows, D), k.reshape(-1, k.shape[3], D).mT)
        else:
            logits = mixed.reshape(-1, rows, mixed.shape[-1])
        out = torch.bmm(torch.softmax(logits, -1), v.reshape(-1, v.shape[3], D))
        return out.view(B, parts, H, rows, D).transpose(2, 3).reshape(B, parts * rows, C)[:, :N]

    def _dropped(self, x: Tensor) -> Tensor:
        return dropped(x, self.dropout) if self.dropout and self.training else x

    def project(self, n: Tensor, T: int) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
        """Compute queries, keys, values and reweight logits in one product; None for parts the head type lacks.

        The gates and the scale 1 / sqrt(D) are applied to the weight matrices, which are much smaller than the logits.
        In a relative model, the columns of `wr` are also limited to T and reversed within each head, as `_Skew`
        expects.
        """
        config, block = self.config, self.block
        C, H = config.n_emb, config.n_heads
        matrices = {"v": self.wv}
        if block.has_content:
            share = 1 - self.gate if block.has_reweight else self.wq.new_ones(H)
            scaled = self.wq.view(C, H, -1) * (share * (1 / math.sqrt(config.head_width))).view(H, 1)
            matrices |= {"q": scaled.view(C, -1), "k": self.wk}
        if block.has_reweight:
            wr = self.wr.view(C, H, -1)[..., :T]
            wr = wr * self.gate.view(H, 1) if block.has_content else wr
            matrices["r"] = (wr.flip(-1) if config.position == "relative" else wr).reshape(C, -1)
        product = n @ torch.cat(tuple(matrices.values()), dim=1)
        widths = [matrix.shape[1] for matrix in matrices.values()]
        parts = dict(zip(matrices, torch.split(product, widths, dim=-1), strict=True))
        return parts.get("q"), parts.get("k"), parts["v"], parts.get("r")


class Twin(nn.Module):
    """The whole model. `state_dict()` has the names and shapes of `knock.weights.shapes`.

    Args:
        weights: initial weights; use `Weights.random` for a new model.
        dropout: dropout probability for the outputs of embedding, attention and MLP.
        boundary: the token before and after each item, in a model of items; attention does not cross it.
    """

    def __init__(self, weights: Weights, dropout: float = 0.0, *, boundary: int | None = None) -> None:
        super().__init__()
        config = weights.config
        self.config = config
        self.dropout = dropout
        self.boundary = boundary
        self.embed = nn.Parameter(torch.empty(config.vocab_size, config.n_emb))
        if config.position == "absolute":
            self.pos = nn.Parameter(torch.empty(config.longest_window, config.n_emb))
        self.blocks = nn.ModuleList(Block(config, block, dropout) for block in config.blocks)
        self.ln_f = LayerNorm(config.n_emb)
        self.wout = nn.Parameter(torch.empty(config.n_emb, config.vocab_size))
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of every position, [B, N] -> [B, N, V]. In an absolute model, N is at most its window.

        With a boundary, a sequence is items one after the other; each begins with its boundary, as if it were alone.
        """
        x = self.embed[tokens]
        items = None if self.boundary is None else _item_starts(tokens == self.boundary)
        if self.config.position == "absolute":
            positions = torch.arange(tokens.shape[1], device=tokens.device)
            x = x + (self.pos[positions] if items is None else self.pos[positions - items])
        x = dropped(x, self.dropout) if self.dropout and self.training else x
        for block in self.blocks:
            x = block(x, items)
        logits: Tensor = self.ln_f(x) @ self.wout
        return logits

    def weights(self) -> Weights:
        """Return a snapshot of the parameters as `Weights`, to save or run."""
        return Weights(self.config, {name: value.cpu().numpy() for name, value in self.state_dict().items()})


def dropped(x: Tensor, probability: float) -> Tensor:
    """Return elements with a probability set to 0 and the others scaled, so that the expected values stay the same.

    The same as `torch.nn.functional.dropout`, which draws 32 random bits or more for each element on a CPU and takes a
    tenth of a step. 16 bits are enough: the probability is rounded to a multiple of 2**-16 below 1.
    """
    kept = max(1, round((1 - probability) * 2**16))
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    is_kept = bits.view(torch.int16)[: x.numel()].view(x.shape) <= kept - 2**15 - 1
    return x * (is_kept.to(x.dtype) * (2**16 / kept))


def _rows_of(T: int) -> int:
    """Return the number of queries with a window of T that are processed together.

    With more, more of the logits are masked; with fewer, matrices are too small to be multiplied fast.
    """
    return max(8, min(T, max(64, T // 4)))


def _item_starts(is_boundary: Tensor) -> Tensor:
    """Return the position at which the item of each position starts, bool [B, N] -> int64 [B, N].

    Position 0 starts an item, too, the end of one that is cut off there.
    """
    positions = torch.arange(is_boundary.shape[1], device=is_boundary.device)
    return torch.where(is_boundary, positions, 0).cummax(1).values


def _elsewhere(items: Tensor, before: int) -> Tensor:
    """Return which keys are of another item than the query, bool [B, parts, 1, rows, columns].

    Args:
        items: start of the item of each position, [B, parts, 1, rows, 1].
        before: number of parts before its own whose keys a query sees.
    """
    return items != _visible_keys(items, before).mT


def _by_slot(r: Tensor, items: Tensor) -> Tensor:
    """Move the reweight logits of an absolute model to the keys of packed items, whose slots count from each start.

    [B, 1, H, N, T], [B, N] -> [B, 1, H, N, N]
    """
    N = items.shape[1]
    slots = torch.arange(N, device=items.device) - items[:, None, None, :, None]  # of each key, for each query
    return r.gather(-1, slots.clamp_min(0).expand(-1, -1, r.shape[2], -1, -1))


def _visible_keys(x: Tensor, before: int) -> Tensor:
    """Return what belongs to the keys that each part of the queries sees: its own, after those of the parts before it.

    [B, parts, H, rows, D] -> [B, parts, H, columns, D]
    """
    if not before:
        return x
    keys: Tensor = _Neighbours.apply(x, before)  # type: ignore[no-untyped-call]
    return keys


class _Neighbours(torch.autograd.Function):
    """Put the parts before each part in front of it, [B, parts, H, rows, D] -> [B, parts, H, (before + 1) rows, D].

    Zeros precede the first part. This is a custom function because its gradient is a single sum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, before: int) -> Tensor:
        B, parts, H, rows, D = x.shape
        ctx.rows = rows
        keys = x.new_empty(B, parts, H, (before + 1) * rows, D)
        for back in range(before + 1):
            columns = slice((before - back) * rows, (before - back + 1) * rows)
            keys[:, :back, :, columns] = 0
            keys[:, back:, :, columns] = x[:, : parts - back]
        return keys

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        *earlier, own = gradients[0].split(ctx.rows, dim=3)
        total = own.clone()
        for back, part in enumerate(reversed(earlier), 1):
            total[:, : total.shape[1] - back] += part[:, back:]
        return total, None


class _Skew(torch.autograd.Function):
    """Move reweight logits, ordered by decreasing distance, to the columns of their keys; -inf where there is no key.

    [B, parts, H, rows, R] -> [B, parts, H, rows, columns], with 0 in columns that are farther than R and in the window.

    Row i of a part sees key column c at distance d = columns - rows + i - c, so distance d belongs at column
    c = i + columns - rows - d. Writing the rows with a stride of columns + 1 and reading them with a stride of columns
    shifts each row by one more than the row above: the skew of Huang et al. 2018, "Music Transformer". The gaps are
    -inf and act as the mask.

    This is a custom function because the mask has no gradient: the gradient is the inverse skew, which is a view.
    """

    @staticmethod
    def forward(ctx: Any, r: Tensor, T: int, before: int) -> Tensor:
        rows, R = r.shape[-2:]
        columns = (before + 1) * rows
        end = columns - rows + 1  # of the window, in a row that is not yet shifted
        ctx.end, ctx.R = end, R
        wide = r.new_full((*r.shape[:-1], columns + 1), -math.inf)
        wide[..., end - T : end - R] = 0
        wide[..., end - R : end] = r
        # No keys precede the first part: a query at position p sees p + 1 of them.
        first = wide[:, :before, ..., end - T : end]
        seen = torch.arange(first.shape[1] * rows, device=r.device).view(-1, 1, rows, 1) + 1
        first.masked_fill_(torch.arange(T, 0, -1, device=r.device) > seen, -math.inf)
        return wide.flatten(-2)[..., : rows * columns].view(*r.shape[:-1], columns)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous()
        R: int = ctx.R
        size, stride = (*gradient.shape[:-1], R), (*gradient.stride()[:-2], gradient.shape[-1] + 1, 1)
        return gradient.as_strided(size, stride, gradient.storage_offset() + ctx.end - R), None, None


def _causal(rows: int, like: Tensor) -> Tensor:
    """Return the mask of an absolute model, [1, 1, 1, rows, rows]: 0 where a query sees a key, -inf elsewhere."""
    later = torch.ones(rows, rows, dtype=torch.bool, device=like.device).triu(1)
    return like.new_zeros(1, 1, 1, rows, rows).masked_fill(later, -math.inf)
