"""The sampling pipeline, as in `knock_kernels.ops.sampler`: from a row of logits to one token and its statistics.

Logits and probabilities are float32, sums over them float64. Arrays of tokens are [V]; logits that were dropped are
-inf, and their probabilities 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knock.engine.portable.arithmetic import WIDTH, Floats, exp, exp_double, log_double, total
from knock.reference import Draw
from knock.sampling import Sampling
from knock.vocab import TokenArray

_LN2 = 0.6931471805599453
_NOTHING, _ZERO, _HALF, _LOWEST = np.float32(-np.inf), np.float32(0), np.float32(0.5), np.float32(-87)
_TOLERANCE = 1e-6  # bits
_NEWTON_STEPS = 60
_COLDEST, _HOTTEST = 1e-30, 1e30
_HALVINGS = 8
_LONGEST = 256  # tokens of a repetition; longer ones count as this long
_MOST = 1e4  # nats of a penalty

Mask = npt.NDArray[np.bool_]


class _Weighted(NamedTuple):
    """Probabilities that are not normalised, their sum, and the mean of z under them."""

    p: Floats
    mass: float
    mean: float


def sample(
    logits: Floats,
    sampling: Sampling,
    u: float,
    mu: float,
    bias: Floats | None = None,
    allowed: Mask | None = None,
    context: npt.NDArray[np.int64] | None = None,
) -> Draw:
    """Run the pipeline once.

    Args:
        logits: [V], finite.
        sampling: the controls.
        u: uniform number in [0, 1) that selects the token.
        mu: mirostat's state.
        bias: [V], added to the logits.
        allowed: which tokens may be drawn; None for all.
        context: the text so far, if a penalty for repetition is on.
    """
    largest = logits.max()
    z: Floats = logits - largest
    weighted = _probabilities(z)
    log_mass = log_double(weighted.mass)
    entropy = max(0.0, (log_mass - weighted.mean) / _LN2)
    confidence, sampled_entropy = 1 / weighted.mass, entropy

    if bias is not None:
        z = z + bias
    if allowed is not None:
        z = np.where(allowed, z, _NOTHING)
    if sampling.penalizes_repetition and context is not None:
        z = _penalize(z, context, sampling)
    if sampling.top_n_sigma > 0:
        z = _keep_top_n_sigma(z, sampling.top_n_sigma)
    temperature = float(sampling.temperature)
    if sampling.target_entropy is not None:
        temperature = _entropy_temperature(z, sampling)
    changed = bias is not None or allowed is not None or sampling.penalizes_repetition or sampling.top_n_sigma > 0
    if temperature == 0:
        token, sampled_entropy = int(z.argmax()), 0.0
    else:
        if changed or temperature != 1:
            z = (z - z.max()) / np.float32(_within_float32(temperature))
            weighted, changed = _probabilities(z), True
        if sampling.mirostat is not None:
            log_all = log_double(weighted.mass)
            dropped = (log_all - z.astype(np.float64)) / _LN2 > mu
            dropped[z.argmax()] = False
            changed |= bool(dropped.any())
            z, p = np.where(dropped, _NOTHING, z), np.where(dropped, _ZERO, weighted.p)
        else:
            z, p, filtered = _keep(z, weighted, sampling)
            changed |= filtered
        if changed:
            weighted = _moments(z, p)
            sampled_entropy = max(0.0, (log_double(weighted.mass) - weighted.mean) / _LN2)
        token = _draw(p, u, weighted.mass)
        if sampling.mirostat is not None:
            mu -= sampling.mirostat_eta * ((log_all - float(z[token])) / _LN2 - sampling.mirostat)
    surprise = (log_mass - (float(logits[token]) - float(largest))) / _LN2
    return Draw(token, entropy, sampled_entropy, confidence, temperature, surprise, mu)


def log_probabilities(logits: Floats, tokens: TokenArray) -> npt.NDArray[np.float64]:
    """Return the natural logarithm of softmax(logits) at one token of each row: [N, V], [N] -> [N]."""
    z = logits - logits.max(axis=-1, keepdims=True)
    masses = total(np.where(z > _LOWEST, exp(z), _ZERO).astype(np.float64))
    chosen = z[np.arange(len(z)), tokens].astype(np.float64)
    result: npt.NDArray[np.float64] = chosen - np.array([log_double(mass) for mass in masses.tolist()])
    return result


def _probabilities(z: Floats) -> _Weighted:
    return _moments(z, np.where(z > _LOWEST, exp(z), _ZERO))


def _moments(z: Floats, p: Floats) -> _Weighted:
    wide = p.astype(np.float64)
    mass = float(total(wide))
    return _Weighted(p, mass, float(total(wide * np.maximum(z, _LOWEST).astype(np.float64))) / mass)


def _within_float32(temperature: float) -> float:
    return min(max(temperature, _COLDEST), _HOTTEST)


def _penalize(z: Floats, context: npt.NDArray[np.int64], sampling: Sampling) -> Floats:
    """Lower the logits of tokens that would repeat earlier text."""
    lengths = _repeats(context, len(z), sampling.repetition_range)
    z = z.copy()
    if sampling.dry_multiplier > 0:
        for token in np.flatnonzero(lengths >= sampling.dry_allowed_length):
            penalty = float(sampling.dry_multiplier)
            for _ in range(int(lengths[token]) - int(sampling.dry_allowed_length)):
                penalty = min(penalty * sampling.dry_base, _MOST)
            z[token] -= np.float32(min(penalty, _MOST))
    if sampling.no_repeat_ngram > 0:
        longest = sampling.no_repeat_ngram - 1
        if ((z > _NOTHING) & (lengths < longest)).any():  # at least one token must remain
            z[lengths >= longest] = _NOTHING
    return z


def _repeats(context: npt.NDArray[np.int64], V: int, reach: int) -> npt.NDArray[np.int64]:
    """For each token, return the longest end of the text that it followed earlier: 0 if none, -1 if it is new."""
    text = context.tolist()
    start = max(0, len(text) - reach) if reach > 0 else 0
    lengths = np.full(V, -1)
    lengths[text[start:]] = 0
    for j in range(start, len(text) - 1):
        if text[j] == text[-1]:
            length = 1
            while length < _LONGEST and j - length >= start and text[j - length] == text[-1 - length]:
                length += 1
            lengths[text[j + 1]] = max(lengths[text[j + 1]], length)
    return lengths


def _keep_top_n_sigma(z: Floats, n: float) -> Floats:
    """Keep the logits within n standard deviations of the largest."""
    there = z > _NOTHING
    count = int(there.sum())
    mean = float(total(np.where(there, z, _ZERO).astype(np.float64))) / count
    difference = np.where(there, z.astype(np.float64) - mean, 0.0)
    deviation = math.sqrt(float(total(difference * difference)) / count)
    return np.where(z.astype(np.float64) < float(z.max()) - n * deviation, _NOTHING, z)


def _entropy_temperature(z: Floats, sampling: Sampling) -> float:
    """Return the temperature that steers the entropy to its target, within bounds."""
    target, low, high = float(sampling.target_entropy or 0), float(sampling.min_temp), float(sampling.max_temp)
    if sampling.entropy_rule == "ratio" and target != 0:
        entropy, _ = _tempered(z, 1.0)
        return min(max(math.sqrt(target / entropy), low), high) if entropy > 0 else high
    if _tempered(z, low)[0] >= target:
        return low
    if _tempered(z, high)[0] <= target:
        return high
    below, above = log_double(low), log_double(high)
    s = (below + above) / 2
    temperature = exp_double(s)
    for _ in range(_NEWTON_STEPS):
        temperature = exp_double(s)
        entropy, slope = _tempered(z, temperature)
        error = entropy - target
        if abs(error) <= _TOLERANCE:
            break
        if error < 0:
            below = s
        else:
            above = s
        newton = s - error / slope if slope > 0 else above
        s = newton if below < newton < above else (below + above) / 2
    return temperature


def _tempered(z: Floats, temperature: float) -> tuple[float, float]:
    """Return the entropy in bits at a temperature, and its derivative by ln T."""
    t = (z - z.max()) * np.float32(1 / _within_float32(temperature))
    e = np.where(t > _LOWEST, exp(t), _ZERO).astype(np.float64)
    t = np.where(t > _LOWEST, t, _ZERO).astype(np.float64)
    mass, first = float(total(e)), float(total(e * t))
    mean = first / mass
    second = float(total(e * t * t)) / mass
    return max(0.0, (log_double(mass) - mean) / _LN2), (second - mean * mean) / _LN2


def _keep(z: Floats, weighted: _Weighted, sampling: Sampling) -> tuple[Floats, Floats, bool]:
    """Apply the filters after temperature; return z, p and whether any was on."""
    V, p, filtered = len(z), weighted.p, False
    if 0 < sampling.top_k < V:
        z, p = _keep_first(z, p, z, float(sampling.top_k), counted=True)
        filtered = True
    if sampling.typical_p < 1:
        weighted = _moments(z, p) if filtered else weighted
        order = -np.abs(z - np.float32(weighted.mean))
        z, p = _keep_first(z, p, order, sampling.typical_p * weighted.mass, counted=False)
        filtered = True
    if sampling.top_p < 1:
        weighted = _moments(z, p) if filtered else weighted
        z, p = _keep_first(z, p, z, sampling.top_p * weighted.mass, counted=False)
        filtered = True
    if sampling.min_p > 0:
        dropped = z.astype(np.float64) < float(z.max()) + log_double(sampling.min_p)
        z, p = np.where(dropped, _NOTHING, z), np.where(dropped, _ZERO, p)
        filtered = True
    return z, p, filtered


def _keep_first(z: Floats, p: Floats, order: Floats, target: float, *, counted: bool) -> tuple[Floats, Floats]:
    """Keep the tokens with the largest `order`, lower ids first among equals, until they reach a target.

    The steps are those of the kernel, since sums are rounded: halvings of the range of `order`, then the candidates.
    """

    def held(chosen: Mask, p: Floats) -> float:
        return float(chosen.sum()) if counted else float(total(np.where(chosen, p, _ZERO).astype(np.float64)))

    low, high = order[order > _NOTHING].min(), order.max()
    for _ in range(_HALVINGS):
        middle = _HALF * low + _HALF * high
        if held(order >= middle, p) >= target:
            low = middle
        else:
            high = middle
    above = held(order > high, p)
    candidates = (low <= order) & (order <= high)
    some, some_p = order[candidates], p[candidates]
    reaching = [each for each in some if held(some >= each, some_p) >= target - above]
    edge = max([low, *reaching])
    kept = order >= edge
    ties = np.flatnonzero(order == edge)
    if len(ties) > 1:
        reached = above + held(some > edge, some_p)
        for i in ties:
            if reached >= target:
                kept[i] = False
            else:
                reached += 1.0 if counted else float(p[i])
    return np.where(kept, z, _NOTHING), np.where(kept, p, _ZERO)


def _draw(p: Floats, u: float, mass: float) -> int:
    """Return the first token whose cumulative mass exceeds u * mass."""
    target, before, wide = u * mass, 0.0, p.astype(np.float64)
    for start in range(0, len(p), WIDTH):
        block = float(total(wide[start : start + WIDTH]))
        if before + block > target:
            for i in range(start, min(start + WIDTH, len(p))):
                before += float(wide[i])
                if before > target:
                    return i
        else:
            before += block
    return int(np.flatnonzero(p > 0)[-1])  # rounding kept the sum below u * mass
