"""The PyTorch twin of the model: same mathematics and parameter names, differentiable.

Symbols: V vocabulary size, T window, C embedding width, H heads, D = C / H head width, F MLP width, B sequences,
N positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knock.config import ModelConfig
from knock.weights import Weights, shapes


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

    def __init__(self, config: ModelConfig, dropout: float) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.ln1 = LayerNorm(config.n_emb)
        self.ln2 = LayerNorm(config.n_emb)
        for name, shape in shapes(config).items():
            if name.startswith("blocks.0.") and ".ln" not in name:
                self.register_parameter(name.removeprefix("blocks.0."), nn.Parameter(torch.empty(shape)))

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

        In a relative model, queries are processed in blocks of T. Each block sees its own T keys and the T keys before
        it, so the logits are [B, blocks, H, T, 2T] and memory grows linearly with N. An absolute model is a single
        block that sees only itself.
        """
        config = self.config
        H, T, D = config.n_heads, config.T, config.head_width
        B, N, C = n.shape
        relative = config.position == "relative"
        if relative and N % T:  # pad at the end, where no real query sees it
            n = F.pad(n, (0, 0, 0, -N % T))
            items = None if items is None else F.pad(items, (0, -N % T), value=N)
        rows = T if relative else N
        blocks = n.shape[1] // rows
        heads = (B, blocks, rows, H, -1)

        q, k, v, r = (None if part is None else part.view(heads).transpose(2, 3) for part in self.project(n))
        assert v is not None
        v = _visible_keys(v, relative)  # [B, blocks, H, columns, D]
        if r is not None and items is not None and not relative:
            r = _by_slot(r, items)
        mixed = _align(r, rows, relative) if r is not None else _mask(blocks, rows, relative, n)
        if items is not None:
            mixed = mixed.masked_fill(_elsewhere(items.view(B, blocks, 1, rows, 1), relative), -math.inf)
        if q is not None and k is not None:
            k = _visible_keys(k, relative)
            mixed = mixed.expand(B, blocks, H, rows, -1).reshape(-1, rows, k.shape[3])
            logits = torch.baddbmm(mixed, q.reshape(-1, rows, D), k.reshape(-1, k.shape[3], D).mT)
        else:
            logits = mixed.reshape(-1, rows, mixed.shape[-1])
        out = torch.bmm(torch.softmax(logits, -1), v.reshape(-1, v.shape[3], D))
        return out.view(B, blocks, H, rows, D).transpose(2, 3).reshape(B, blocks * rows, C)[:, :N]

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def project(self, n: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
        """Compute queries, keys, values and reweight logits in one product; None for parts the head type lacks.

        The gates and the scale 1 / sqrt(D) are applied to the weight matrices, which are much smaller than the logits.
        In a relative model, the columns of `wr` are also reversed within each head, as `_align` expects.
        """
        config = self.config
        C, H, T = config.n_emb, config.n_heads, config.T
        matrices = {"v": self.wv}
        if config.has_content:
            share = 1 - self.gate if config.has_reweight else self.wq.new_ones(H)
            scaled = self.wq.view(C, H, -1) * (share * (1 / math.sqrt(config.head_width))).view(H, 1)
            matrices |= {"q": scaled.view(C, -1), "k": self.wk}
        if config.has_reweight:
            wr = self.wr.view(C, H, T)
            wr = wr * self.gate.view(H, 1) if config.has_content else wr
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
            self.pos = nn.Parameter(torch.empty(config.T, config.n_emb))
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.n_blocks))
        self.ln_f = LayerNorm(config.n_emb)
        self.wout = nn.Parameter(torch.empty(config.n_emb, config.vocab_size))
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of every position, [B, N] -> [B, N, V]. In an absolute model, N is at most T.

        With a boundary, a sequence is items one after the other; each begins with its boundary, as if it were alone.
        """
        x = self.embed[tokens]
        items = None if self.boundary is None else _item_starts(tokens == self.boundary)
        if self.config.position == "absolute":
            positions = torch.arange(tokens.shape[1], device=tokens.device)
            x = x + (self.pos[positions] if items is None else self.pos[positions - items])
        x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        for block in self.blocks:
            x = block(x, items)
        logits: Tensor = self.ln_f(x) @ self.wout
        return logits

    def weights(self) -> Weights:
        """Return a snapshot of the parameters as `Weights`, to save or run."""
        return Weights(self.config, {name: value.cpu().numpy() for name, value in self.state_dict().items()})


def _item_starts(is_boundary: Tensor) -> Tensor:
    """Return the position at which the item of each position starts, bool [B, N] -> int64 [B, N].

    Position 0 starts an item, too, the end of one that is cut off there.
    """
    positions = torch.arange(is_boundary.shape[1], device=is_boundary.device)
    return torch.where(is_boundary, positions, 0).cummax(1).values


def _elsewhere(items: Tensor, relative: bool) -> Tensor:
    """Return which keys are of another item than the query, bool [B, blocks, 1, rows, columns].

    Args:
        items: start of the item of each position, [B, blocks, 1, rows, 1].
        relative: whether a block also sees the keys of the block before it.
    """
    if relative:
        before = F.pad(items[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        keys = torch.cat([before, items], dim=3)
    else:
        keys = items
    return items != keys.mT


def _by_slot(r: Tensor, items: Tensor) -> Tensor:
    """Move the reweight logits of an absolute model to the keys of packed items, whose slots count from each start.

    [B, 1, H, N, T], [B, N] -> [B, 1, H, N, N]
    """
    N = items.shape[1]
    slots = torch.arange(N, device=items.device) - items[:, None, None, :, None]  # of each key, for each query
    return r.gather(-1, slots.clamp_min(0).expand(-1, -1, r.shape[2], -1, -1))


def _visible_keys(x: Tensor, relative: bool) -> Tensor:
    """Return the keys or values that each block of queries sees: in a relative model, its own and the previous block's.

    [B, blocks, H, rows, D] -> [B, blocks, H, columns, D]
    """
    if not relative:
        return x
    pairs: Tensor = _Pairs.apply(x)  # type: ignore[no-untyped-call]
    return pairs


class _Pairs(torch.autograd.Function):
    """Concatenate each block with the one before it, [B, blocks, H, T, D] -> [B, blocks, H, 2T, D].

    Zeros precede the first block. This is a custom function because its gradient is a single sum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        B, blocks, H, T, D = x.shape
        pairs = x.new_empty(B, blocks, H, 2 * T, D)
        pairs[:, 0, :, :T] = 0
        pairs[:, 1:, :, :T] = x[:, :-1]
        pairs[:, :, :, T:] = x
        return pairs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        before, own = gradients[0].chunk(2, dim=3)
        total = own.clone()
        total[:, :-1] += before[:, 1:]
        return total


def _align(r: Tensor, rows: int, relative: bool) -> Tensor:
    """Move reweight logits to the columns of their keys; -inf where a query sees no key.

    [B, blocks, H, rows, T] -> [B, blocks, H, rows, columns]
    """
    if relative:
        placed: Tensor = _Skew.apply(r)  # type: ignore[no-untyped-call]
        return placed
    return r[..., :rows] + _mask(1, rows, relative, r)


class _Skew(torch.autograd.Function):
    """Move reweight logits, ordered by decreasing distance, to the columns of their keys.

    [B, blocks, H, T, T] -> [B, blocks, H, T, 2T]

    Row i of a block sees key column c at distance T + i - c, so column m of the reversed logits (distance T - 1 - m)
    belongs at c = i + 1 + m. Writing the rows with stride 2T + 1 and reading them with stride 2T shifts each row by one
    more than the row above: the skew of Huang et al. 2018, "Music Transformer". The gaps are -inf and act as the mask.

    This is a custom function because the mask has no gradient: the gradient is the inverse skew, which is a view.
    """

    @staticmethod
    def forward(ctx: Any, r: Tensor) -> Tensor:
        T = r.shape[-1]
        wide = r.new_full((*r.shape[:-1], 2 * T + 1), -math.inf)
        wide[..., 1 : T + 1] = r
        # No keys precede the first block: only the last i + 1 columns of row i exist.
        wide[:, 0, ..., 1 : T + 1].masked_fill_(_later(T, r.device).flip(-1), -math.inf)
        return wide.flatten(-2)[..., : 2 * T * T].view(*r.shape[:-1], 2 * T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        T = gradient.shape[-2]
        size, stride = (*gradient.shape[:-1], T), (*gradient.stride()[:-2], 2 * T + 1, 1)
        return gradient.as_strided(size, stride, gradient.storage_offset() + 1)


def _mask(blocks: int, rows: int, relative: bool, like: Tensor) -> Tensor:
    """Return the attention mask, [1, blocks, 1, rows, columns]: 0 where a query sees a key, -inf elsewhere."""
    if relative:
        return _align(like.new_zeros(1, blocks, 1, rows, rows), rows, relative)
    return like.new_zeros(1, 1, 1, rows, rows).masked_fill(_later(rows, like.device), -math.inf)


def _later(rows: int, device: torch.device) -> Tensor:
    """Return a bool mask, [rows, rows], of the columns that come after the row."""
    return torch.ones(rows, rows, dtype=torch.bool, device=device).triu(1)
