"""The sampling pipeline: from a model's logits to one token and its statistics.

    logits + bias -> constraints -> repetition -> top_n_sigma -> temperature
    -> top_k -> typical_p -> top_p -> min_p -> draw

A filter sets the logits it drops to -inf and keeps at least one. It sees probabilities renormalised over the tokens
that earlier filters kept. Ties are broken in favour of the lower token id.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_TOLERANCE = 1e-9  # bits, of Newton's method
_LN2 = math.log(2)
_LONGEST_REPEAT = 256  # tokens
_LARGEST_PENALTY = 1e4  # nats


class Controls(Protocol):
    """The controls of the pipeline, documented in `knock.sampling.Sampling`."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...
    @property
    def min_p(self) -> float: ...
    @property
    def typical_p(self) -> float: ...
    @property
    def top_n_sigma(self) -> float: ...
    @property
    def target_entropy(self) -> float | None: ...
    @property
    def entropy_rule(self) -> str: ...
    @property
    def min_temp(self) -> float: ...
    @property
    def max_temp(self) -> float: ...
    @property
    def mirostat(self) -> float | None: ...
    @property
    def mirostat_eta(self) -> float: ...
    @property
    def no_repeat_ngram(self) -> int: ...
    @property
    def dry_multiplier(self) -> float: ...
    @property
    def dry_base(self) -> float: ...
    @property
    def dry_allowed_length(self) -> int: ...
    @property
    def repetition_range(self) -> int: ...


class Draw(NamedTuple):
    """A drawn token and its statistics, with entropies and surprise in bits.

    Attributes:
        token: the token id.
        entropy: entropy of the model's distribution, softmax(logits).
        sampled_entropy: entropy of the distribution that the token was drawn from.
        confidence: probability of the model's most likely token.
        temperature: temperature used; 0 for greedy.
        surprise: -log2 of the model's probability of the token.
        mu: mirostat's bound for the next step.
    """

    token: int
    entropy: float
    sampled_entropy: float
    confidence: float
    temperature: float
    surprise: float
    mu: float


def log_softmax(logits: Array) -> Array:
    """Return log-probabilities in nats: [..., V] -> [..., V]."""
    shifted: Array = logits - logits.max(-1, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return log_p


def entropy(log_p: Array) -> float:
    """Return -sum p log2 p, in bits: [V] -> [] (Shannon 1948)."""
    p = np.exp(log_p)
    return max(0.0, -float((p * np.where(p > 0, log_p, 0)).sum()) / _LN2)


def entropy_temperature(logits: Array, target: float, rule: str, min_temp: float, max_temp: float) -> float:
    """Return the temperature that steers the entropy to `target` bits, within bounds: [V] -> [].

    Rule `"ratio"` is sqrt(target / H) with H the entropy at temperature 1. Rule `"exact"` is the temperature at which
    the entropy equals the target. With z the logits and p their softmax at temperature T, dH/d(ln T) = Var_p(z) / T^2
    nats >= 0, so Newton's method in ln T converges inside a bracket. If the target is out of reach, the result is
    exactly the nearer bound.
    """
    if target == 0:
        return min_temp  # also where the entropy is 0, too
    z = logits[np.isfinite(logits)]
    if rule == "ratio":
        h = entropy(log_softmax(z))
        return min(max(math.sqrt(target / h), min_temp), max_temp) if h > 0 else max_temp
    z = z - z.max()
    if entropy(log_softmax(z / min_temp)) >= target:
        return min_temp
    if entropy(log_softmax(z / max_temp)) <= target:
        return max_temp
    low, high = math.log(min_temp), math.log(max_temp)
    s = (low + high) / 2
    while True:
        temperature = math.exp(s)
        log_p = log_softmax(z / temperature)
        error = entropy(log_p) - target
        if abs(error) <= _TOLERANCE:
            return temperature
        low, high = (s, high) if error < 0 else (low, s)
        p = np.exp(log_p)
        scaled = z / temperature - (p * z).sum() / temperature
        slope = float((p * scaled * scaled).sum()) / _LN2
        newton = s - error / slope if slope > 0 else math.inf
        s = newton if low < newton < high else (low + high) / 2
        if not low < s < high:  # the bracket has shrunk to two adjacent floats
            return temperature


def keep_top_n_sigma(logits: Array, n: float) -> Array:
    """Keep logits within n standard deviations of the largest: [V] -> [V] (Tang et al. 2024, "Top-n sigma")."""
    return np.where(logits >= logits.max() - n * logits[np.isfinite(logits)].std(), logits, -np.inf)


def keep_top_k(logits: Array, k: int) -> Array:
    """Keep the k largest logits: [V] -> [V] (Fan et al. 2018)."""
    return _keep(logits, np.argsort(-logits, kind="stable")[:k])


def keep_typical_p(logits: Array, typical_p: float) -> Array:
    """Keep the tokens with surprise nearest the entropy, up to a total probability of `typical_p`: [V] -> [V].

    Meister et al. 2023, "Locally typical sampling".
    """
    log_p = log_softmax(logits)
    distance = np.abs(-log_p - entropy(log_p) * _LN2)
    return _keep_mass(logits, np.exp(log_p), np.argsort(distance, kind="stable"), typical_p)


def keep_top_p(logits: Array, top_p: float) -> Array:
    """Keep the most likely tokens, up to a total probability of `top_p`: [V] -> [V] (Holtzman et al. 2020)."""
    return _keep_mass(logits, np.exp(log_softmax(logits)), np.argsort(-logits, kind="stable"), top_p)


def keep_min_p(logits: Array, min_p: float) -> Array:
    """Keep tokens at least `min_p` times as likely as the most likely: [V] -> [V] (Nguyen et al. 2025)."""
    return np.where(logits >= logits.max() + math.log(min_p), logits, -np.inf)


def repeats(context: npt.NDArray[np.integer[Any]], vocab_size: int) -> npt.NDArray[np.int64]:
    """For each token, measure the longest end of a text that it followed earlier there: [N] -> [V].

    It is -1 for tokens that the text does not have, and at most 256.
    """
    lengths = np.full(vocab_size, -1)
    lengths[np.unique(context)] = 0
    for j in range(len(context) - 1):
        length = 0
        while length <= j and length < _LONGEST_REPEAT and context[j - length] == context[len(context) - 1 - length]:
            length += 1
        lengths[context[j + 1]] = max(lengths[context[j + 1]], length)
    return lengths


def penalize_repetition(logits: Array, context: npt.NDArray[np.integer[Any]], controls: Controls) -> Array:
    """Lower the logits of tokens that would repeat earlier text: [V], [N] -> [V].

    DRY (p-e-w 2024, text-generation-webui #5677) subtracts multiplier * base ** (length - allowed_length) from a token
    that would lengthen a repetition of at least `allowed_length` tokens. `no_repeat_ngram` forbids a token that would
    complete an n-gram that the text already has (Paulus et al. 2018), unless that forbids every token.
    """
    recent = context[-controls.repetition_range :] if controls.repetition_range else context
    lengths = repeats(recent, len(logits))
    if controls.dry_multiplier > 0:
        over = lengths - controls.dry_allowed_length
        with np.errstate(over="ignore"):
            penalties = controls.dry_multiplier * controls.dry_base ** np.maximum(over, 0).astype(np.float64)
        logits = logits - np.where(over >= 0, np.minimum(penalties, _LARGEST_PENALTY), 0)
    if controls.no_repeat_ngram > 0:
        forbidden = lengths >= controls.no_repeat_ngram - 1
        if (np.isfinite(logits) & ~forbidden).any():
            logits = np.where(forbidden, -np.inf, logits)
    return logits


def draw(p: Array, u: float) -> int:
    """Return the first token whose cumulative probability exceeds u, in [0, 1): [V], [] -> []."""
    cumulative = np.cumsum(p)
    token = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    return min(token, int(np.flatnonzero(p)[-1]))  # u * sum may round up to the sum


def sample(
    logits: Array,
    controls: Controls,
    u: float,
    mu: float = 0.0,
    bias: Array | None = None,
    allowed: Mask | None = None,
    context: npt.NDArray[np.integer[Any]] | None = None,
) -> Draw:
    """Draw a token: run the pipeline once.

    Args:
        logits: the model's logits, finite, [V].
        controls: the controls of the pipeline.
        u: uniform random number in [0, 1).
        mu: mirostat's bound in bits; 2 * `controls.mirostat` at the first step.
        bias: added to the logits, [V]; -inf bans a token.
        allowed: tokens that the constraints allow, [V], at least one; None allows all.
        context: the text so far, [N], for the penalties of repetition; None if they are off.
    """
    model_log_p = log_softmax(logits)
    if bias is not None:
        logits = logits + bias
    if allowed is not None:
        logits = np.where(allowed, logits, -np.inf)
    if context is not None:
        logits = penalize_repetition(logits, context, controls)
    if controls.top_n_sigma > 0:
        logits = keep_top_n_sigma(logits, controls.top_n_sigma)
    temperature = controls.temperature
    if controls.target_entropy is not None:
        temperature = entropy_temperature(
            logits, controls.target_entropy, controls.entropy_rule, controls.min_temp, controls.max_temp
        )
    if temperature == 0:
        token, sampled_entropy = int(logits.argmax()), 0.0
    else:
        logits = (logits - logits.max()) / temperature
        kept = _filter(logits, controls) if controls.mirostat is None else _keep_surprise(logits, mu)
        log_p = log_softmax(kept)
        token, sampled_entropy = draw(np.exp(log_p), u), entropy(log_p)
        if controls.mirostat is not None:
            surprise = -float(log_softmax(logits)[token]) / _LN2
            mu -= controls.mirostat_eta * (surprise - controls.mirostat)
    return Draw(
        token=token,
        entropy=entropy(model_log_p),
        sampled_entropy=sampled_entropy,
        confidence=float(np.exp(model_log_p.max())),
        temperature=temperature,
        surprise=-float(model_log_p[token]) / _LN2,
        mu=mu,
    )


def _filter(logits: Array, controls: Controls) -> Array:
    """Apply the enabled filters that follow the temperature: [V] -> [V]."""
    if 0 < controls.top_k < len(logits):
        logits = keep_top_k(logits, controls.top_k)
    if controls.typical_p < 1:
        logits = keep_typical_p(logits, controls.typical_p)
    if controls.top_p < 1:
        logits = keep_top_p(logits, controls.top_p)
    if controls.min_p > 0:
        logits = keep_min_p(logits, controls.min_p)
    return logits


def _keep_surprise(logits: Array, mu: float) -> Array:
    """Keep tokens with at most mu bits of surprise, and the most likely: [V] -> [V] (Basu et al. 2021, mirostat 2)."""
    keep = -log_softmax(logits) / _LN2 <= mu
    keep[logits.argmax()] = True
    return np.where(keep, logits, -np.inf)


def _keep_mass(logits: Array, p: Array, order: npt.NDArray[np.intp], mass: float) -> Array:
    """Keep tokens in the given order until their total probability reaches `mass`, including the one reaching it."""
    before = np.concatenate(([0.0], np.cumsum(p[order])[:-1]))
    return _keep(logits, order[before < mass])


def _keep(logits: Array, ids: npt.NDArray[np.intp]) -> Array:
    kept = np.full_like(logits, -np.inf)
    kept[ids] = logits[ids]
    return kept
