"""PyTorch, eager: as few operators per step as possible, on views that are made in advance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu

from bench.peers import Tokens
from bench.peers.folded import fold
from knock.weights import FloatArray, Weights


class Views(NamedTuple):
    """Views of one block's cache for one step, which sees n <= T positions.

    Attributes:
        key: [B*H, D], the step's own key.
        value: [B*H, D], the step's own value.
        keys: [B*H, D, n], oldest first.
        values: [B*H, n, D].
        reweight: [B*H, 1, n], the reweight logits in the projection.
    """

    key: Tensor
    value: Tensor
    keys: Tensor
    values: Tensor
    reweight: Tensor


class TorchEagerPeer:
    """The peer in eager PyTorch, under `inference_mode`.

    The cache has room for more than T positions. The window slides over it as a view and is copied to the beginning
    when it reaches the end, so that reweight logits never need to be rotated. A long cache means few copies, which is
    best for few sequences; a short one stays in the processor's cache, which more than doubles the speed of many.
    """

    @torch.inference_mode()
    def __init__(self, weights: Weights, batch: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        config = weights.config
        T, C, H, D = config.T, config.n_emb, config.n_heads, config.head_width
        self.T, self.V, self.shape, self.room = T, config.vocab_size, (batch, C), T + 4 if batch > 8 else 4 * T
        self.w = fold(weights).map(torch.from_numpy)
        self.projection = torch.empty(batch, H * (3 * D + T))
        by_head = self.projection.view(batch * H, 1, -1)
        self.q, self.k, self.v, r = by_head.split((D, D, D, T), dim=2)
        self.k, self.v = self.k.squeeze(1), self.v.squeeze(1)
        self.caches = [
            (torch.zeros(batch * H, D, self.room), torch.zeros(batch * H, self.room, D)) for _ in self.w.blocks
        ]

        def views(keys: Tensor, values: Tensor, i: int) -> Views:
            first, n = max(0, i - T + 1), min(i + 1, T)
            window = slice(first, i + 1)
            return Views(keys[:, :, i], values[:, i], keys[:, :, window], values[:, window], r[:, :, T - n :])

        self.views = [[views(*cache, i) for cache in self.caches] for i in range(self.room)]
        self.reset()

    def reset(self) -> None:
        """Restart all sequences."""
        self.place = 0
        self.token = torch.zeros(self.shape[0], dtype=torch.int64)

    @torch.inference_mode()
    def logits(self, tokens: Tokens) -> FloatArray:
        """Return the logits of one sequence, computed by the steps that generate: [N] -> [N, V]. Resets the peer."""
        self.reset()
        rows = [self._step(torch.full_like(self.token, int(token)))[0].numpy() for token in tokens]
        self.reset()
        return np.stack(rows)

    @torch.inference_mode()
    def generate(self, length: int) -> Tokens:
        """Return the next tokens of every sequence, [B, length].

        With e from the exponential distribution, the argmax of logits - log(e) is a draw from their softmax.
        """
        noise = torch.empty(length, self.shape[0], self.V).exponential_().log_()
        out = torch.empty(length, self.shape[0], dtype=torch.int64)
        token = self.token
        for row, drawn in zip(noise.unbind(), out.unbind(), strict=True):
            token = torch.argmax(self._step(token).sub_(row), 1, out=drawn)
        self.token = token.clone()
        return out.T.numpy()

    def _step(self, token: Tensor) -> Tensor:
        """Return the logits after one more token: [B] -> [B, V]."""
        if self.place == self.room:
            self._move_back()
        w, shape, width = self.w, self.shape, self.shape[1:]
        x = w.embed.index_select(0, token)
        for b, (block, at) in enumerate(zip(w.blocks, self.views[self.place], strict=True)):
            if b == 0:
                torch.index_select(w.table, 0, token, out=self.projection)
            else:
                n = torch.layer_norm(x, width, block.ln1_gain, block.ln1_bias)
                torch.mm(n, block.w_in, out=self.projection)
            at.key.copy_(self.k)
            at.value.copy_(self.v)
            attention = torch.softmax(torch.baddbmm(at.reweight, self.q, at.keys), 2)
            x += torch.bmm(attention, at.values).view(shape)
            n = torch.layer_norm(x, width, block.ln2_gain, block.ln2_bias)
            x.addmm_(gelu(torch.mm(n, block.w0), approximate="tanh"), block.w1)
        self.place += 1
        return torch.mm(torch.layer_norm(x, width, w.ln_f_gain, w.ln_f_bias), w.wout)

    def _move_back(self) -> None:
        """Copy the last T-1 positions to the beginning of the cache."""
        n = self.T - 1
        for keys, values in self.caches:
            keys[:, :, :n] = keys[:, :, self.room - n :].clone()  # the two may overlap
            values[:, :n] = values[:, self.room - n :].clone()
        self.place = n
