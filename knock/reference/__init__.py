"""The oracle: the model and its sampling in plain NumPy, as pure functions, float64 by default.

All faster code is tested against these functions and shares no code with them. Docstrings give shapes in these
letters: V vocabulary size, T window, C embedding width, H heads, D = C / H, F MLP width, N positions.
"""

from knock.reference.model import (
    Cache,
    attention,
    attention_weights,
    content_logits,
    empty_cache,
    forward,
    gelu,
    hybrid_softmax,
    layer_norm,
    linear,
    mlp,
    prefill,
    step,
)
from knock.reference.rng import philox4x32, uniform
from knock.reference.sampler import (
    Draw,
    draw,
    entropy,
    entropy_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_n_sigma,
    keep_top_p,
    keep_typical_p,
    log_softmax,
    penalize_repetition,
    repeats,
    sample,
)

__all__ = [
    "Cache",
    "Draw",
    "attention",
    "attention_weights",
    "content_logits",
    "draw",
    "empty_cache",
    "entropy",
    "entropy_temperature",
    "forward",
    "gelu",
    "hybrid_softmax",
    "keep_min_p",
    "keep_top_k",
    "keep_top_n_sigma",
    "keep_top_p",
    "keep_typical_p",
    "layer_norm",
    "linear",
    "log_softmax",
    "mlp",
    "penalize_repetition",
    "philox4x32",
    "prefill",
    "repeats",
    "sample",
    "step",
    "uniform",
]
