"""PyTorch, compiled: a function of static shapes, with several steps per call."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from bench.peers import Tokens
from bench.peers.folded import Folded, fold
from bench.peers.ring import make_ring, row
from knock.config import ModelConfig
from knock.weights import FloatArray, Weights

if shutil.which(os.environ.get("CXX", "g++")) is None:
    raise ImportError("torch.compile needs a C++ compiler")

OPTIONS: dict[str, Any] = {
    "cpp_wrapper": True,  # call operators from C++ instead of Python
    "assert_indirect_indexing": False,  # no checks in the inner loops
    "cpp.enable_floating_point_contract_flag": "fast",  # fused multiply-add, as in the other peers
}

Caches = list[tuple[Tensor, Tensor]]  # per block, rings of keys [B, H, D, T] and values [B, H, T, D]


class TorchCompilePeer:
    """The peer in `torch.compile` with Inductor. Positions in the ring are tensors, to avoid recompilation.

    A call costs as much as two steps of one sequence, so small batches take four steps per call: lengths must be
    multiples of four.
    """

    @torch.inference_mode()
    def __init__(self, weights: Weights, batch: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.config, self.batch, self.steps = weights.config, batch, 4 if batch <= 8 else 1
        T, H, D = self.config.T, self.config.n_heads, self.config.head_width
        self.w = fold(weights).map(torch.from_numpy)
        self.caches: Caches = [(torch.zeros(batch, H, D, T), torch.zeros(batch, H, T, D)) for _ in self.w.blocks]
        ring = make_ring(T)
        rows = [[row(start + i, T) for i in range(self.steps)] for start in range(2 * T)]
        slot, columns, mask = (torch.from_numpy(part) for part in ring)
        self.ring = [(slot[at], columns[at], mask[at]) for at in rows]
        self.compiled = torch.compile(_steps, fullgraph=True, dynamic=False, options=OPTIONS)
        self.reset()

    def reset(self) -> None:
        """Restart all sequences."""
        self.done = 0
        self.token = torch.zeros(self.batch, dtype=torch.int64)

    @torch.inference_mode()
    def logits(self, tokens: Tokens) -> FloatArray:
        """Return the logits of one sequence, computed by the steps that generate: [N] -> [N, V]. Resets the peer.

        The steps draw their own next token: infinite noise forces them to draw the given one.
        """
        self.reset()
        self.token.fill_(int(tokens[0]))
        noise = torch.zeros(len(tokens), self.batch, self.config.vocab_size)
        noise[range(len(tokens) - 1), :, tokens[1:]] = -torch.inf
        rows = [self._call(part)[1][:, 0] for part in self._parts(noise)]
        self.reset()
        return torch.cat(rows).numpy()

    @torch.inference_mode()
    def generate(self, length: int) -> Tokens:
        """Return the next tokens of every sequence, [B, length].

        With e from the exponential distribution, the argmax of logits - log(e) is a draw from their softmax.
        """
        noise = torch.empty(length, self.batch, self.config.vocab_size).exponential_().log_()
        return torch.cat([self._call(part)[0] for part in self._parts(noise)]).T.numpy()

    def _parts(self, noise: Tensor) -> tuple[Tensor, ...]:
        """Return the noise of each call."""
        if len(noise) % self.steps:
            raise ValueError(f"the length must be a multiple of {self.steps}, got {len(noise)}")
        return noise.view(-1, self.steps, *noise.shape[1:]).unbind()

    def _call(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens that one call draws, and their logits: [steps, B, V] -> [steps, B], [steps, B, V]."""
        slot, columns, mask = self.ring[row(self.done, self.config.T)]
        self.token, drawn, logits = self.compiled(
            self.w, self.config, self.token, noise, slot, columns, mask, self.caches
        )
        self.done += self.steps
        return drawn, logits


def _steps(
    w: Folded[Tensor],
    config: ModelConfig,
    token: Tensor,
    noise: Tensor,
    slot: Tensor,
    columns: Tensor,
    mask: Tensor,
    caches: Caches,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take several steps, each with its row of the noise and of the ring, and update the rings.

    Returns the next input token [B], the tokens drawn [steps, B], and the logits [steps, B, V].
    """
    drawn, logits = [], []
    for i in range(len(noise)):
        z = _step(w, config, token, slot[i], columns[i], mask[i], caches)
        token = torch.argmax(z - noise[i], 1)
        drawn.append(token)
        logits.append(z)
    return token, torch.stack(drawn), torch.stack(logits)


def _step(
    w: Folded[Tensor], config: ModelConfig, token: Tensor, slot: Tensor, columns: Tensor, mask: Tensor, caches: Caches
) -> Tensor:
    """Return the logits after one more token: [B] -> [B, V]. Updates the rings.

    Products of vectors and matrices are written as sums, which Inductor fuses with the operations around them.
    """
    T, H, D = config.T, config.n_heads, config.head_width
    x = w.embed[token]
    B, C = x.shape
    for b, (block, (keys, values)) in enumerate(zip(w.blocks, caches, strict=True)):
        projection = w.table[token] if b == 0 else _layer_norm(x, block.ln1_gain, block.ln1_bias) @ block.w_in
        q, k, v, r = projection.view(B, H, -1).split((D, D, D, T), dim=2)
        keys.index_copy_(3, slot.view(1), k.unsqueeze(3))
        values.index_copy_(2, slot.view(1), v.unsqueeze(2))
        logits = (q.unsqueeze(3) * keys).sum(2) + r[:, :, columns] + mask
        attention = torch.softmax(logits, 2)
        x = x + (attention.unsqueeze(3) * values).sum(2).view(B, C)
        hidden = gelu(_layer_norm(x, block.ln2_gain, block.ln2_bias) @ block.w0, approximate="tanh")
        x = x + hidden @ block.w1
    return _layer_norm(x, w.ln_f_gain, w.ln_f_bias) @ w.wout


def _layer_norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Normalise each row: [B, C] -> [B, C]. `torch.layer_norm` would compile to a running mean, which is slower."""
    centred = x - x.mean(1, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(1, keepdim=True) + 1e-5) * gain + bias
