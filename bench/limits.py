"""Lower bounds for the cost of a token: its arithmetic, and the weights and cache that it reads."""

from __future__ import annotations

from knock.config import ModelConfig


def flops(config: ModelConfig) -> int:
    """Return the floating-point operations of one token: a product with every matrix, attention to full windows."""
    attention = sum((1 + block.has_content) * config.n_emb * block.T for block in config.blocks)
    return 2 * (_matrices(config) + attention)


def weight_bytes(config: ModelConfig) -> int:
    """Return the bytes of the matrices that every token is multiplied by, in float32."""
    return 4 * _matrices(config)


def cache_bytes(config: ModelConfig) -> int:
    """Return the bytes of the keys and values that a token attends to once the windows are full."""
    return 4 * sum((1 + block.has_content) * block.T * config.n_emb for block in config.blocks)


def _matrices(config: ModelConfig) -> int:
    """Return the number of elements of the matrices that every token is multiplied by."""
    C, H = config.n_emb, config.n_heads
    attention = sum(C * (C * (1 + 2 * block.has_content) + H * block.reweight_T) for block in config.blocks)
    return attention + config.n_blocks * 2 * C * config.nodes + C * config.vocab_size
