"""The sampling pipeline: from a row of logits to one token and its statistics.

    logits + bias -> constraints -> repetition -> top_n_sigma -> temperature
    -> top_k -> typical_p -> top_p -> min_p -> draw

A filter sets the logits that it drops to -inf. Probabilities are float32, sums over them float64. Nothing is sorted: a
filter that keeps the first tokens of an order finds its threshold by bisection over the float32 numbers.
"""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import Control, Stat
from knock_kernels.lang.simd import at
from knock_kernels.lang.units import f32p, f64, f64p, i32p, i64, inlined, kernel, reducing_kernel, unit
from knock_kernels.ops.constraints import constrain, forbids
from knock_kernels.ops.elementary import LOWEST, all_finite, exp, from_key, key, maximum, minimum_above
from knock_kernels.ops.repetition import is_penalized, penalize

_TEMPERATURE, _TOP_N_SIGMA, _TOP_K, _TYPICAL_P, _TOP_P, _MIN_P, _TARGET, _RATIO = (int(c) for c in list(Control)[:8])
_MIN_TEMP, _MAX_TEMP, _MIROSTAT, _ETA, _MU = (int(c) for c in list(Control)[8:13])
_ENTROPY, _SAMPLED, _CONFIDENCE, _USED, _SURPRISE = (int(s) for s in Stat)

_NOTHING = np.float32(-np.inf)
_ZERO, _ONE = np.float32(0), np.float32(1)
_LN2 = np.log(2.0)
_TOLERANCE = 1e-6  # bits; about the resolution of float32 probabilities
_NEWTON_STEPS = 60
_COLDEST, _HOTTEST = 1e-30, 1e30
_BLOCK = 64
_HALVINGS = 8
_HALF = np.float32(0.5)


@unit(i64(f32p, f32p, i64, i32p, i64, i64, i32p, i64, i64, f64p, f64, f32p, f64p))
def sample(logits, bias, has_bias, automaton, state, left, context, size, V, controls, u, work, stats):
    """Run the pipeline once and return the token, or -1 if a logit is not finite.

    Args:
        logits: [V], float32.
        bias: [V], float32, added to the logits if `has_bias`.
        has_bias: whether to add `bias`.
        automaton: the constraints, [states, V + StateField], int32.
        state: its state, or -1 if nothing is forbidden.
        left: number of tokens that may still be drawn, this one included.
        context: the text so far, [size], int32, if a penalty for repetition is on.
        size: number of its tokens.
        V: vocabulary size.
        controls: [Control], float64; mirostat's `mu` is updated.
        u: uniform number in [0, 1) that selects the token.
        work: scratch [5 * V], float32.
        stats: [Stat], float64, written.
    """
    if not all_finite(logits, V):
        return -1
    z, p, order = work, at(work, V), at(work, 2 * V)
    largest = maximum(logits, V)
    for i in range(V):
        z[i] = logits[i] - largest
    mass, mean = probabilities(z, p, V)
    log_mass = np.log(mass)
    stats[_ENTROPY] = max(0.0, (log_mass - mean) / _LN2)
    stats[_CONFIDENCE] = 1 / mass
    sampled_entropy = stats[_ENTROPY]

    if has_bias:
        for i in range(V):
            z[i] += bias[i]
    is_constrained = state >= 0 and forbids(automaton, max(state, 0), V)
    if is_constrained:
        constrain(z, automaton, state, left, V)
    if is_penalized(controls):
        penalize(z, order, context, size, V, controls)
    if controls[_TOP_N_SIGMA] > 0:
        keep_top_n_sigma(z, V, controls[_TOP_N_SIGMA])
    temperature = controls[_TEMPERATURE]
    if controls[_TARGET] >= 0:
        temperature = entropy_temperature(z, p, V, controls)
    changed = has_bias or is_constrained or is_penalized(controls) or controls[_TOP_N_SIGMA] > 0
    if temperature == 0:
        token, sampled_entropy = first_largest(z, V), 0.0
    else:
        if changed or temperature != 1:
            divide(z, V, maximum(z, V), temperature)
            mass, mean = probabilities(z, p, V)
            changed = True
        if controls[_MIROSTAT] >= 0:
            log_all = np.log(mass)
            changed |= keep_surprise(z, p, V, controls[_MU], log_all)
        else:
            changed |= keep(z, p, order, V, controls, mass, mean)
        if changed:
            mass, mean = moments(z, p, V)
            sampled_entropy = max(0.0, (np.log(mass) - mean) / _LN2)
        token = draw(p, V, u, mass)
        if controls[_MIROSTAT] >= 0:
            surprise = (log_all - np.float64(z[token])) / _LN2
            controls[_MU] -= controls[_ETA] * (surprise - controls[_MIROSTAT])
    stats[_SAMPLED] = sampled_entropy
    stats[_USED] = temperature
    stats[_SURPRISE] = (log_mass - (np.float64(logits[token]) - np.float64(largest))) / _LN2
    return token


@inlined
def log_probability(logits, token, V, work):
    """Return the natural logarithm of softmax(logits) at one token: [V], [], scratch [2 * V] -> []."""
    z, p, largest = work, at(work, V), maximum(logits, V)
    for i in range(V):
        z[i] = logits[i] - largest
    mass, _ = probabilities(z, p, V)
    return np.float64(z[token]) - np.log(mass)


@inlined
def probabilities(z, p, V):
    """Compute p = exp(z), with 0 where z is at most LOWEST; return its moments: [V] -> [V], [], []."""
    for i in range(V):
        e = exp(z[i])
        p[i] = e if z[i] > LOWEST else _ZERO
    return moments(z, p, V)


@reducing_kernel
def moments(z, p, V):
    """Return the mass, sum(p), and the mean of z under p / mass: [V], [V] -> [], []."""
    mass, first = 0.0, 0.0
    for i in range(V):
        e = np.float64(p[i])
        mass += e
        first += e * np.float64(z[i] if p[i] > _ZERO else _ZERO)
    return mass, first / mass


@inlined
def divide(z, V, largest, temperature):
    """Compute z = (z - largest) / temperature: [V] -> [V]."""
    scale = np.float32(within_float32(temperature))
    for i in range(V):
        z[i] = (z[i] - largest) / scale


@inlined
def within_float32(temperature):
    """Return a temperature clamped to the range that float32 can divide by: [] -> [].

    More extreme temperatures would give the same result.
    """
    return min(max(temperature, _COLDEST), _HOTTEST)


@inlined
def keep_top_n_sigma(z, V, n):
    """Keep the logits within n standard deviations of the largest: [V] -> [V]."""
    deviation = standard_deviation(z, V)
    least = np.float64(maximum(z, V)) - n * deviation
    for i in range(V):
        if np.float64(z[i]) < least:
            z[i] = _NOTHING


@reducing_kernel
def standard_deviation(z, V):
    """Return the standard deviation of the logits that are not -inf: [V] -> []."""
    count, first, second = 0, 0.0, 0.0
    for i in range(V):
        there = z[i] > _NOTHING
        count += there
        first += np.float64(z[i] if there else _ZERO)
    mean = first / count
    for i in range(V):
        difference = np.float64(z[i]) - mean if z[i] > _NOTHING else 0.0
        second += difference * difference
    return np.sqrt(second / count)


@kernel
def entropy_temperature(z, p, V, controls):
    """Return the temperature that steers the entropy to its target, within bounds: [V], scratch [V] -> [].

    The ratio rule is sqrt(target / H). The exact rule solves H(T) = target by Newton's method in ln T inside a bracket,
    as in the reference.
    """
    target, low, high = controls[_TARGET], controls[_MIN_TEMP], controls[_MAX_TEMP]
    largest = maximum(z, V)
    if controls[_RATIO] > 0:
        entropy, _ = tempered(z, p, V, largest, 1.0)
        return min(max(np.sqrt(target / entropy), low), high) if entropy > 0 else high
    if tempered(z, p, V, largest, low)[0] >= target:
        return low
    if tempered(z, p, V, largest, high)[0] <= target:
        return high
    below, above = np.log(low), np.log(high)
    s = (below + above) / 2
    temperature = np.exp(s)
    for _ in range(_NEWTON_STEPS):
        temperature = np.exp(s)
        entropy, slope = tempered(z, p, V, largest, temperature)
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


@kernel
def tempered(z, p, V, largest, temperature):
    """Return the entropy in bits at a temperature, and its derivative by ln T: [V], scratch [V] -> [], []."""
    scale = np.float32(1 / within_float32(temperature))
    for i in range(V):
        t = (z[i] - largest) * scale
        e = exp(t)
        p[i] = e if t > LOWEST else _ZERO
    mass, first, second = tempered_moments(z, p, V, largest, scale)
    mean = first / mass
    return max(0.0, (np.log(mass) - mean) / _LN2), (second / mass - mean * mean) / _LN2


@reducing_kernel
def tempered_moments(z, p, V, largest, scale):
    """Return the sums of p, p t and p t^2 with t = (z - largest) * scale: [V], [V] -> [], [], []."""
    mass, first, second = 0.0, 0.0, 0.0
    for i in range(V):
        e = np.float64(p[i])
        t = np.float64((z[i] - largest) * scale) if p[i] > _ZERO else 0.0
        mass += e
        first += e * t
        second += e * t * t
    return mass, first, second


@inlined
def keep(z, p, order, V, controls, mass, mean):
    """Apply the filters after temperature to z and p; return whether any was on: [V], [V] -> []."""
    changed = False
    if 0 < controls[_TOP_K] < V:
        for i in range(V):
            order[i] = z[i]
        keep_first(order, z, p, V, controls[_TOP_K], True)
        changed = True
    if controls[_TYPICAL_P] < 1:
        if changed:
            mass, mean = moments(z, p, V)
        # |-ln p - H| with ln p = z - ln mass and H = ln mass - mean is |z - mean|.
        for i in range(V):
            order[i] = -abs(z[i] - np.float32(mean))
        keep_first(order, z, p, V, controls[_TYPICAL_P] * mass, False)
        changed = True
    if controls[_TOP_P] < 1:
        if changed:
            mass, mean = moments(z, p, V)
        for i in range(V):
            order[i] = z[i]
        keep_first(order, z, p, V, controls[_TOP_P] * mass, False)
        changed = True
    if controls[_MIN_P] > 0:
        least = np.float64(maximum(z, V)) + np.log(controls[_MIN_P])
        for i in range(V):
            if np.float64(z[i]) < least:
                z[i], p[i] = _NOTHING, _ZERO
        changed = True
    return changed


@inlined
def keep_surprise(z, p, V, mu, log_mass):
    """Keep the tokens of at most mu bits of surprise, and the most likely; return whether any was dropped."""
    likeliest = first_largest(z, V)
    changed = False
    for i in range(V):
        if (log_mass - np.float64(z[i])) / _LN2 > mu and i != likeliest:
            z[i], p[i] = _NOTHING, _ZERO
            changed = True
    return changed


@kernel
def keep_first(order, z, p, V, target, counted):
    """Keep the tokens with the largest `order`, lower ids first among equals, until they reach `target`.

    The target is a number of tokens if `counted`, else a mass in p; the token that reaches it is kept. The threshold is
    found by bisection: a few halvings of the range of `order` narrow down the candidates, then the search is exact over
    the keys of the float32 numbers. `order` is followed by scratch [2 * V].
    """
    low, high = minimum_above(order, V, _NOTHING), maximum(order, V)
    for _ in range(_HALVINGS):
        middle = _HALF * low + _HALF * high
        if held_from(order, p, V, middle, counted) >= target:
            low = middle
        else:
            high = middle
    above = held_above(order, p, V, high, counted)
    some, some_p = at(order, V), at(order, 2 * V)
    n = gather(order, p, V, low, high, some, some_p)

    first, last = np.int64(key(low)), np.int64(key(high))
    while first < last:  # find the largest key at or above which the target is reached
        middle_key = (first + last + 1) >> 1
        if above + held_from(some, some_p, n, from_key(np.int32(middle_key)), counted) >= target:
            first = middle_key
        else:
            last = middle_key - 1
    edge = from_key(np.int32(first))
    for i in range(V):
        kept = order[i] >= edge
        z[i] = z[i] if kept else _NOTHING
        p[i] = p[i] if kept else _ZERO
    ties = 0
    for i in range(n):
        ties += some[i] == edge
    if ties > 1:
        drop_ties(order, z, p, V, edge, above + held_above(some, some_p, n, edge, counted), target, counted)


@inlined
def gather(order, p, V, low, high, some, some_p):
    """Copy `order` and p of the tokens within [low, high] to `some` and `some_p`; return their number."""
    n = 0
    for i in range(V):
        if low <= order[i] <= high:
            some[n], some_p[n] = order[i], p[i]
            n += 1
    return n


@inlined
def drop_ties(order, z, p, V, edge, held, target, counted):
    """Drop the tokens at the edge that follow the one that reaches the target."""
    for i in range(V):
        if order[i] == edge:
            if held >= target:
                z[i], p[i] = _NOTHING, _ZERO
            else:
                held += 1.0 if counted else np.float64(p[i])


@reducing_kernel
def held_from(order, p, V, least, counted):
    """Return the number, or the mass in p, of the tokens whose `order` is at least `least`: [V], [V] -> []."""
    if counted:
        count = 0
        for i in range(V):
            count += order[i] >= least
        return np.float64(count)
    held = 0.0
    for i in range(V):
        held += np.float64(p[i] if order[i] >= least else _ZERO)
    return held


@reducing_kernel
def held_above(order, p, V, most, counted):
    """Return the number, or the mass in p, of the tokens whose `order` is above `most`: [V], [V] -> []."""
    if counted:
        count = 0
        for i in range(V):
            count += order[i] > most
        return np.float64(count)
    held = 0.0
    for i in range(V):
        held += np.float64(p[i] if order[i] > most else _ZERO)
    return held


@kernel
def first_largest(z, V):
    """Return the lowest token with the largest logit: [V] -> []."""
    largest = maximum(z, V)
    for i in range(V):
        if z[i] == largest:
            return i
    return 0


@inlined
def draw(p, V, u, mass):
    """Return the first token whose cumulative mass exceeds u * mass: [V], [], [] -> []."""
    target, before, token = u * mass, 0.0, 0
    for start in range(0, V, _BLOCK):
        end = min(start + _BLOCK, V)
        block = held(p, start, end)
        if before + block > target:
            for i in range(start, end):
                before += np.float64(p[i])
                if before > target:
                    return i
        else:
            before += block
    for i in range(V):  # rounding kept the sum below u * mass: take the last token
        if p[i] > _ZERO:
            token = i
    return token


@reducing_kernel
def held(p, start, end):
    """Return the mass of p[start:end]."""
    mass = 0.0
    for i in range(start, end):
        mass += np.float64(p[i])
    return mass
