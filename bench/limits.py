"""Lower bounds for the cost of a token: its arithmetic, and the weights and cache that it reads.

The first block of a relative model multiplies nothing by its fused projection: that is a table by token.
"""

from __future__ import annotations

from knock.config import ModelConfig

# Bytes of a weight, and of a key or a value, by precision.
WEIGHT_BYTES = {"float32": 4, "int16": 2, "int8": 1}
CACHE_BYTES = {"float32": 4, "int16": 2, "int8": 2}


def multiply_adds(config: ModelConfig) -> int:
    """Return the multiply-adds of one token: a product with every matrix, attention to full windows."""
    return _matrices(config) + _cached(config)


def bytes_read(config: ModelConfig, precision: str) -> int:
    """Return the bytes of what a token is multiplied by: the matrices, and the keys and values of full windows."""
    return WEIGHT_BYTES[precision] * _matrices(config) + CACHE_BYTES[precision] * _cached(config)


def _cached(config: ModelConfig) -> int:
    """Return the number of keys and values that a token attends to once the windows are full."""
    return sum((1 + block.has_content) * config.n_emb * block.T for block in config.blocks)


def _matrices(config: ModelConfig) -> int:
    """Return the number of elements of the matrices that every token is multiplied by."""
    C, H = config.n_emb, config.n_heads
    inputs = [C * (C * (1 + 2 * block.has_content) + H * block.reweight_T) for block in config.blocks]
    if config.position == "relative":
        inputs = inputs[1:]
    return sum(inputs) + config.n_blocks * 2 * C * config.nodes + C * config.vocab_size
