"""Lower bounds for the cost of a token: its arithmetic, and the weights and cache that it reads."""

from __future__ import annotations

from knock.config import ModelConfig


def flops(config: ModelConfig) -> int:
    """Return the floating-point operations of one token: a product with every matrix, attention to a full window."""
    C, T, F, H = config.n_emb, config.T, config.nodes, config.n_heads
    content, reweight = config.has_content, config.has_reweight
    block = C * (C * (1 + 2 * content) + H * T * reweight) + 2 * C * F
    attention = (1 + content) * C * T
    return 2 * (config.n_blocks * (block + attention) + C * config.vocab_size)


def weight_bytes(config: ModelConfig) -> int:
    """Return the bytes of the matrices that every token is multiplied by, in float32."""
    C, T, F, H = config.n_emb, config.T, config.nodes, config.n_heads
    block = C * (C * (1 + 2 * config.has_content) + H * T * config.has_reweight) + 2 * C * F
    return 4 * (config.n_blocks * block + C * config.vocab_size)


def cache_bytes(config: ModelConfig) -> int:
    """Return the bytes of the keys and values that a token attends to once the window is full."""
    return 4 * config.n_blocks * (1 + config.has_content) * config.T * config.n_emb
