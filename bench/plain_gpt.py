"""A plain GPT in PyTorch as it is usually written, to compare the speed of training with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Causal self-attention and an MLP of four times the width, each with a layer norm and a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream after the block: [B, N, C] -> [B, N, C]."""
        B, N, C = x.shape
        q, k, v = (part.view(B, N, self.heads, -1).transpose(1, 2) for part in self.qkv(self.ln1(x)).split(C, dim=2))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(attended.transpose(1, 2).reshape(B, N, C))
        return x + self.narrow(F.gelu(self.widen(self.ln2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """Token and position embeddings, blocks, a layer norm, and an output layer tied to the token embedding."""

    def __init__(self, vocab_size: int, context: int, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.ln = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits: [B, N] -> [B, N, V]."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.ln(x) @ self.tokens.weight.T


def plain_step(gpt: PlainGPT, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> float:
    """Take one step of AdamW, with the gradient norm clipped at 1; return the loss before it."""
    inputs, targets = batch
    loss = F.cross_entropy(gpt(inputs).flatten(0, 1), targets.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
    optimizer.step()
    return loss.item()
