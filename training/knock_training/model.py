"""The PyTorch twin of the model, for training: same maths, same parameter names, differentiable.

Letters: V vocabulary, T window, C embedding width, H heads, D = C / H, F MLP width, B sequences, N positions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knock.config import ModelConfig
from knock.weights import Weights, shapes


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, [..., C] -> [..., C], eps 1e-5."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, scale, shift."""
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

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.ln1 = LayerNorm(config.n_emb)
        self.ln2 = LayerNorm(config.n_emb)
        for name, shape in shapes(config).items():
            if name.startswith("blocks.0.") and ".ln" not in name:
                self.register_parameter(name.removeprefix("blocks.0."), nn.Parameter(torch.empty(shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Add what attention finds, then what the MLP makes of it."""
        x = x + self.attention(self.ln1(x))
        return x + F.gelu(self.ln2(x) @ self.w0, approximate="tanh") @ self.w1

    def attention(self, n: Tensor) -> Tensor:
        """Hybrid attention over the window, [B, N, C] -> [B, N, C].

        Queries go in blocks of T. In a relative model each block sees the T keys before it and its own T, so the
        logits are (B, H, N, 2T), whatever N is; an absolute model is a single block that sees itself.
        """
        config = self.config
        H, T, D = config.n_heads, config.T, config.head_width
        B, N, C = n.shape
        relative = config.position == "relative"
        padding = -N % T if relative else 0
        n = F.pad(n, (0, 0, 0, padding))  # at the end, where no real query looks
        rows = T if relative else N
        blocks = n.shape[1] // rows

        q, k, v, r = self.project(n)
        v = _keys_of_blocks(_split_heads(v, H, D, blocks), relative)  # (B, H, blocks, columns, D)
        logits = n.new_zeros(())
        if r is not None:
            r = r.view(B, blocks, rows, H, T).permute(0, 3, 1, 2, 4)  # (B, H, blocks, rows, T)
            r = _skew(r) if relative else r[..., :rows]
            gate = self.gate.view(H, 1, 1, 1) if config.has_content else 1.0
            logits = logits + gate * r
        if q is not None and k is not None:
            q = _split_heads(q, H, D, blocks) * (1 / math.sqrt(D))
            k = _keys_of_blocks(_split_heads(k, H, D, blocks), relative)
            share = 1 - self.gate.view(H, 1, 1, 1) if config.has_reweight else 1.0
            logits = logits + share * (q @ k.transpose(-2, -1))
        logits = logits.masked_fill(~_visible(blocks, rows, relative, n.device), -math.inf)
        out = torch.softmax(logits, -1) @ v  # (B, H, blocks, rows, D)
        return out.permute(0, 2, 3, 1, 4).reshape(B, blocks * rows, C)[:, :N]

    def project(self, n: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
        """Queries, keys, values and reweight logits in one product; None for what the head type does not have.

        The columns of `wr` are reversed in each head of a relative model, which `_skew` counts on: reversing the
        small matrix costs less than reversing the logits.
        """
        config = self.config
        C = config.n_emb
        matrices = {"v": self.wv}
        if config.has_content:
            matrices |= {"q": self.wq, "k": self.wk}
        if config.has_reweight:
            wr = self.wr
            if config.position == "relative":
                wr = wr.view(C, config.n_heads, config.T).flip(-1).reshape(C, -1)
            matrices["r"] = wr
        product = n @ torch.cat(tuple(matrices.values()), dim=1)
        widths = [matrix.shape[1] for matrix in matrices.values()]
        parts = dict(zip(matrices, torch.split(product, widths, dim=-1), strict=True))
        return parts.get("q"), parts.get("k"), parts["v"], parts.get("r")


class Twin(nn.Module):
    """The whole model. `state_dict()` has the names and shapes of `knock.weights.shapes`.

    Args:
        weights: where to start; `Weights.random` for a new model.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        config = weights.config
        self.config = config
        self.embed = nn.Parameter(torch.empty(config.vocab_size, config.n_emb))
        if config.position == "absolute":
            self.pos = nn.Parameter(torch.empty(config.T, config.n_emb))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_blocks))
        self.ln_f = LayerNorm(config.n_emb)
        self.wout = nn.Parameter(torch.empty(config.n_emb, config.vocab_size))
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits at every position, [B, N] -> [B, N, V]; N is at most T in an absolute model."""
        x = self.embed[tokens]
        if self.config.position == "absolute":
            x = x + self.pos[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.ln_f(x) @ self.wout
        return logits

    @torch.no_grad()
    def clamp_gates(self) -> None:
        """Put the gates back into [0, 1]; to be called after every optimiser step."""
        if self.config.head_type == "hybrid":
            for block in self.blocks:
                assert isinstance(block, Block)
                block.gate.clamp_(0, 1)

    def weights(self) -> Weights:
        """The parameters as they are now, in the form that is saved and run."""
        return Weights(self.config, {name: value.cpu().numpy() for name, value in self.state_dict().items()})


def _split_heads(x: Tensor, H: int, D: int, blocks: int) -> Tensor:
    """[B, N, C] -> [B, H, blocks, N / blocks, D]."""
    return x.view(x.shape[0], blocks, -1, H, D).permute(0, 3, 1, 2, 4)


def _keys_of_blocks(x: Tensor, relative: bool) -> Tensor:
    """What each block of queries sees: in a relative model the block before it and itself.

    [B, H, blocks, rows, D] -> [B, H, blocks, columns, D]
    """
    if not relative:
        return x
    before = F.pad(x[:, :, :-1], (0, 0, 0, 0, 1, 0))
    return torch.cat((before, x), dim=3)


def _skew(r: Tensor) -> Tensor:
    """Put reweight logits by reversed distance into the columns of the keys they belong to.

    Row i of a block sees key column c at distance T + i - c, so column m of the reversed logits (distance T-1-m)
    belongs at c = i + 1 + m. Laying the rows out 2T+1 apart and reading them 2T apart moves each by one more than
    the row above it: the skew of Huang et al. 2018, "Music Transformer". What falls outside the band is masked.

    [..., T, T] -> [..., T, 2T]
    """
    T = r.shape[-1]
    return F.pad(r, (1, T)).flatten(-2)[..., : 2 * T * T].reshape(*r.shape[:-1], 2 * T)


def _visible(blocks: int, rows: int, relative: bool, device: torch.device) -> Tensor:
    """Which key columns a query sees, by position: bool, [blocks, rows, columns]."""
    row = torch.arange(rows, device=device).view(1, rows, 1)
    if not relative:
        return torch.arange(rows, device=device).view(1, 1, rows) <= row
    column = torch.arange(2 * rows, device=device).view(1, 1, -1)
    block = torch.arange(blocks, device=device).view(-1, 1, 1)
    distance = rows + row - column
    return (distance >= 0) & (distance < rows) & ((block - 1) * rows + column >= 0)
