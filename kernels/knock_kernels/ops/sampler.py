"""The sampling pipeline: from a row of logits to one token and its statistics.

    logits + bias -> constraints -> repetition -> top_n_sigma -> temperature
    -> top_k -> typical_p -> top_p -> min_p -> draw

A filter sets the logits that it drops to -inf. Probabilities are float32, sums over them float64. Nothing is sorted: a
filter that keeps the first tokens of an order finds its threshold by bisection over the float32 numbers.

Arrays of tokens are padded to whole vectors. Behind the last token z is -inf and p is 0, so loops over them need no
mask.
"""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Controls, Lane, Model, State, Stats
from knock_kernels.lang.records import exists
from knock_kernels.lang.units import f32p, f64, i64, inlined, kernel, unit
from knock_kernels.lang.vector import (
    absolute,
    any_of,
    count_of,
    load,
    maximum,
    splat,
    sqrt,
    store,
    sum_of,
    to_f64,
    where,
)
from knock_kernels.ops import double
from knock_kernels.ops.constraints import constrain, forbids
from knock_kernels.ops.elementary import (
    LOWEST,
    NOTHING,
    all_finite,
    exp,
    from_key,
    inside,
    key,
    largest_of,
    least_above,
)
from knock_kernels.ops.repetition import is_penalized, penalize

_ZERO = np.float32(0)
LN2 = 0.6931471805599453
_TOLERANCE = 1e-6  # bits; about the resolution of float32 probabilities
_NEWTON_STEPS = 60
_COLDEST, _HOTTEST = 1e-30, 1e30
_HALVINGS = 8
_HALF = np.float32(0.5)


@unit
def sample(logits: f32p, lane: Lane, u: f64, model: Model, state: State, stats: Stats) -> i64:
    """Run the pipeline once and return the token, or -1 if a logit is not finite.

    Args:
        logits: [V_padded].
        lane: the text, with its controls and constraints; mirostat's `mu` is updated.
        u: uniform number in [0, 1) that selects the token.
        model: the model.
        state: scratch.
        stats: written.
    """
    V, Vp, controls = model.V, model.V_padded, lane.controls
    z, p, order = state.work, state.work + Vp, state.work + 2 * Vp
    if not all_finite(logits, V):
        return -1
    largest = shift(logits, z, V)
    mass, mean = probabilities(z, p, V)
    log_mass = double.log(mass)
    stats.entropy = max(0.0, (log_mass - mean) / LN2)
    stats.confidence = 1 / mass
    sampled_entropy = stats.entropy

    has_bias = exists(lane.bias)
    if has_bias:
        for i in range(V):
            z[i] += lane.bias[i]
    is_constrained = False
    if lane.is_masked:
        is_constrained = forbids(lane.automaton, lane.state, V)
        if is_constrained:
            constrain(z, lane.automaton, lane.state, lane.left, V)
    if is_penalized(controls):
        penalize(z, order, lane.context, lane.context_size, V, controls)
    if controls.top_n_sigma > 0:
        keep_top_n_sigma(z, V, controls.top_n_sigma)
    temperature = controls.temperature
    if controls.target_entropy >= 0:
        temperature = entropy_temperature(z, p, V, controls)
    changed = has_bias or is_constrained or is_penalized(controls) or controls.top_n_sigma > 0
    if temperature == 0:
        token, sampled_entropy = first_largest(z, V), 0.0
    else:
        if changed or temperature != 1:
            divide(z, V, largest_of(z, V), temperature)
            mass, mean = probabilities(z, p, V)
            changed = True
        if controls.mirostat >= 0:
            log_all = double.log(mass)
            changed |= keep_surprise(z, p, V, controls.mu, log_all)
        else:
            changed |= keep(z, p, order, V, Vp, controls, mass, mean)
        if changed:
            mass, mean = moments(z, p, V)
            sampled_entropy = max(0.0, (double.log(mass) - mean) / LN2)
        token = draw(p, V, u, mass)
        if controls.mirostat >= 0:
            surprise = (log_all - np.float64(z[token])) / LN2
            controls.mu -= controls.mirostat_eta * (surprise - controls.mirostat)
    stats.sampled_entropy = sampled_entropy
    stats.temperature = temperature
    stats.surprise = (log_mass - (np.float64(logits[token]) - np.float64(largest))) / LN2
    return token


@unit
def draw_filtered(
    z: f32p, p: f32p, u: f64, mass: f64, mean: f64, controls: Controls, model: Model, state: State, stats: Stats
) -> i64:
    """Apply the filters after temperature and draw a token: the end of the pipeline.

    Args:
        z: [V_padded], shifted and divided by the temperature.
        p: [V_padded], exp(z).
        u: as in `sample`.
        mass: sum of p.
        mean: mean of z under p / mass.
        controls: with a filter that is on.
        model: the model.
        state: scratch.
        stats: the entropy after filters is written.
    """
    V, Vp = model.V, model.V_padded
    keep(z, p, state.work + 2 * Vp, V, Vp, controls, mass, mean)
    mass, mean = moments(z, p, V)
    stats.sampled_entropy = max(0.0, (double.log(mass) - mean) / LN2)
    return draw(p, V, u, mass)


@inlined
def log_probability(logits: f32p, token: int, V: int, Vp: int, work: f32p):
    """Return the natural logarithm of softmax(logits) at one token: [V], [], scratch [2, V_padded] -> []."""
    z, p = work, work + Vp
    shift(logits, z, V)
    mass, _ = probabilities(z, p, V)
    return np.float64(z[token]) - double.log(mass)


@inlined
def shift(logits: f32p, z: f32p, V: int):
    """Compute z = logits - largest, -inf behind them; return the largest logit: [V] -> [V], []."""
    for i in range(0, V, WIDTH):
        store(where(inside(i, V), load(logits + i), NOTHING), z + i)
    largest = largest_of(z, V)
    for i in range(0, V, WIDTH):
        store(load(z + i) - largest, z + i)
    return largest


@kernel
def probabilities(z: f32p, p: f32p, V: int):
    """Compute p = exp(z), with 0 where z is at most LOWEST; return its moments: [V] -> [V], [], []."""
    mass, first = splat(0.0), splat(0.0)
    for i in range(0, V, WIDTH):
        some = load(z + i)
        e = where(some > LOWEST, exp(some), _ZERO)
        store(e, p + i)
        mass += to_f64(e)
        first += to_f64(e) * to_f64(maximum(some, LOWEST))
    total = sum_of(mass)
    return total, sum_of(first) / total


@kernel
def moments(z: f32p, p: f32p, V: int):
    """Return the mass, sum(p), and the mean of z under p / mass: [V], [V] -> [], []."""
    mass, first = splat(0.0), splat(0.0)
    for i in range(0, V, WIDTH):
        e = to_f64(load(p + i))
        mass += e
        first += e * to_f64(maximum(load(z + i), LOWEST))
    total = sum_of(mass)
    return total, sum_of(first) / total


@inlined
def divide(z: f32p, V: int, largest, temperature):
    """Compute z = (z - largest) / temperature: [V] -> [V]."""
    scale = np.float32(within_float32(temperature))
    for i in range(0, V, WIDTH):
        store((load(z + i) - largest) / scale, z + i)


@inlined
def within_float32(temperature):
    """Return a temperature clamped to the range that float32 can divide by: [] -> [].

    More extreme temperatures would give the same result.
    """
    return min(max(temperature, _COLDEST), _HOTTEST)


@inlined
def keep_top_n_sigma(z: f32p, V: int, n):
    """Keep the logits within n standard deviations of the largest: [V] -> [V]."""
    deviation = standard_deviation(z, V)
    least = np.float64(largest_of(z, V)) - n * deviation
    for i in range(0, V, WIDTH):
        some = load(z + i)
        store(where(to_f64(some) < least, NOTHING, some), z + i)


@kernel
def standard_deviation(z: f32p, V: int):
    """Return the standard deviation of the logits that are not -inf: [V] -> []."""
    count, first, second = 0, splat(0.0), splat(0.0)
    for i in range(0, V, WIDTH):
        some = load(z + i)
        count += count_of(some > NOTHING)
        first += to_f64(where(some > NOTHING, some, _ZERO))
    mean = sum_of(first) / count
    for i in range(0, V, WIDTH):
        some = load(z + i)
        difference = where(some > NOTHING, to_f64(some) - mean, 0.0)
        second += difference * difference
    return sqrt(sum_of(second) / count)


@kernel
def entropy_temperature(z: f32p, p: f32p, V: int, controls: Controls):
    """Return the temperature that steers the entropy to its target, within bounds: [V], scratch [V] -> [].

    The ratio rule is sqrt(target / H). The exact rule solves H(T) = target by Newton's method in ln T inside a bracket,
    as in the reference.
    """
    target, low, high = controls.target_entropy, controls.min_temp, controls.max_temp
    largest = largest_of(z, V)
    if controls.ratio_rule > 0:
        entropy, _ = tempered(z, p, V, largest, 1.0)
        return min(max(sqrt(target / entropy), low), high) if entropy > 0 else high
    if tempered(z, p, V, largest, low)[0] >= target:
        return low
    if tempered(z, p, V, largest, high)[0] <= target:
        return high
    below, above = double.log(low), double.log(high)
    s = (below + above) / 2
    temperature = double.exp(s)
    for _ in range(_NEWTON_STEPS):
        temperature = double.exp(s)
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
def tempered(z: f32p, p: f32p, V: int, largest, temperature):
    """Return the entropy in bits at a temperature, and its derivative by ln T: [V], scratch [V] -> [], []."""
    scale = np.float32(1 / within_float32(temperature))
    mass, first, second = splat(0.0), splat(0.0), splat(0.0)
    for i in range(0, V, WIDTH):
        t = (load(z + i) - largest) * scale
        e = to_f64(where(t > LOWEST, exp(t), _ZERO))
        t = to_f64(where(t > LOWEST, t, _ZERO))
        mass += e
        first += e * t
        second += e * t * t
    total = sum_of(mass)
    mean = sum_of(first) / total
    return max(0.0, (double.log(total) - mean) / LN2), (sum_of(second) / total - mean * mean) / LN2


@inlined
def is_filtered(controls: Controls, V: int):
    """Return whether a filter after temperature is on."""
    return 0 < controls.top_k < V or controls.typical_p < 1 or controls.top_p < 1 or controls.min_p > 0


@inlined
def keep(z: f32p, p: f32p, order: f32p, V: int, Vp: int, controls: Controls, mass, mean):
    """Apply the filters after temperature to z and p; return whether any was on: [V], [V] -> []."""
    changed = False
    if 0 < controls.top_k < V:
        keep_first(z, p, order, V, Vp, controls.top_k, True, False, _ZERO)
        changed = True
    if controls.typical_p < 1:
        if changed:
            mass, mean = moments(z, p, V)
        # |-ln p - H| with ln p = z - ln mass and H = ln mass - mean is |z - mean|.
        keep_first(z, p, order, V, Vp, controls.typical_p * mass, False, True, np.float32(mean))
        changed = True
    if controls.top_p < 1:
        if changed:
            mass, mean = moments(z, p, V)
        keep_first(z, p, order, V, Vp, controls.top_p * mass, False, False, _ZERO)
        changed = True
    if controls.min_p > 0:
        drop_below(z, p, V, np.float64(largest_of(z, V)) + double.log(controls.min_p))
        changed = True
    return changed


@inlined
def drop_below(z: f32p, p: f32p, V: int, least):
    """Drop the tokens whose logit is below `least`."""
    for i in range(0, V, WIDTH):
        some = load(z + i)
        dropped = to_f64(some) < least
        store(where(dropped, NOTHING, some), z + i)
        store(where(dropped, _ZERO, load(p + i)), p + i)


@inlined
def keep_surprise(z: f32p, p: f32p, V: int, mu, log_mass):
    """Keep the tokens of at most mu bits of surprise, and the most likely; return whether any was dropped."""
    likeliest = first_largest(z, V)
    changed = False
    for i in range(V):
        if (log_mass - np.float64(z[i])) / LN2 > mu and i != likeliest:
            z[i], p[i] = NOTHING, _ZERO
            changed = True
    return changed


@kernel
def keep_first(z: f32p, p: f32p, order: f32p, V: int, Vp: int, target, counted, typical, mean):
    """Keep the first tokens of an order, lower ids first among equals, until they reach a target.

    The order is that of the largest z, or of the smallest |z - mean| if `typical`. The target is a number of tokens if
    `counted`, else a mass in p; the token that reaches it is kept. The threshold is found by bisection: a few halvings
    of the range of `order` narrow down the candidates, then the search is exact over the keys of the float32 numbers.

    Args:
        z: [V_padded], as in `sample`.
        p: [V_padded].
        order: scratch [3, V_padded].
        V: vocabulary size.
        Vp: V, padded.
        target: of the tokens that are kept.
        counted: whether it is a number.
        typical: whether tokens with a typical surprise come first.
        mean: their z.
    """
    for i in range(0, V, WIDTH):
        some = load(z + i)
        store(-absolute(some - mean) if typical else some, order + i)
    low, high = least_above(order, V, NOTHING), largest_of(order, V)
    for _ in range(_HALVINGS):
        middle = _HALF * low + _HALF * high
        if held_from(order, p, V, middle, counted) >= target:
            low = middle
        else:
            high = middle
    above = held_above(order, p, V, high, counted)
    some_order, some_p = order + Vp, order + 2 * Vp
    n = gather(order, p, V, low, high, some_order, some_p)
    edge = threshold(some_order, some_p, n, low, high, target - above, counted)
    for i in range(0, V, WIDTH):
        kept = load(order + i) >= edge
        store(where(kept, load(z + i), NOTHING), z + i)
        store(where(kept, load(p + i), _ZERO), p + i)
    ties = 0
    for i in range(n):
        ties += some_order[i] == edge
    if ties > 1:
        drop_ties(order, z, p, V, edge, above + held_above(some_order, some_p, n, edge, counted), target, counted)


@inlined
def threshold(order: f32p, p: f32p, n: int, low, high, target, counted):
    """Return the largest number in `order` at or above which the target is reached, or `low` if there is none."""
    if n <= WIDTH:
        edge = low
        for i in range(n):
            if order[i] > edge and held_from(order, p, n, order[i], counted) >= target:
                edge = order[i]
        return edge
    first, last = np.int64(key(low)), np.int64(key(high))
    while first < last:
        middle = (first + last + 1) >> 1
        if held_from(order, p, n, from_key(np.int32(middle)), counted) >= target:
            first = middle
        else:
            last = middle - 1
    return from_key(np.int32(first))


@inlined
def gather(order: f32p, p: f32p, V: int, low, high, some_order: f32p, some_p: f32p):
    """Copy `order` and p of the tokens within [low, high]; return their number. Behind them `order` is -inf."""
    n = 0
    for start in range(0, V, WIDTH):
        some = load(order + start)
        if any_of((some >= low) & (some <= high)):
            for i in range(start, min(start + WIDTH, V)):
                if low <= order[i] <= high:
                    some_order[n], some_p[n] = order[i], p[i]
                    n += 1
    for i in range(n, -(-n // WIDTH) * WIDTH):
        some_order[i], some_p[i] = NOTHING, _ZERO
    return n


@inlined
def drop_ties(order: f32p, z: f32p, p: f32p, V: int, edge, held, target, counted):
    """Drop the tokens at the edge that follow the one that reaches the target."""
    for i in range(V):
        if order[i] == edge:
            if held >= target:
                z[i], p[i] = NOTHING, _ZERO
            else:
                held += 1.0 if counted else np.float64(p[i])


@inlined
def held_from(order: f32p, p: f32p, n: int, least, counted):
    """Return the number, or the mass in p, of the tokens whose `order` is at least `least`: [n], [n] -> []."""
    if counted:
        count = 0
        for i in range(0, n, WIDTH):
            count += count_of(load(order + i) >= least)
        return np.float64(count)
    mass = splat(0.0)
    for i in range(0, n, WIDTH):
        mass += to_f64(where(load(order + i) >= least, load(p + i), _ZERO))
    return sum_of(mass)


@inlined
def held_above(order: f32p, p: f32p, n: int, most, counted):
    """Return the number, or the mass in p, of the tokens whose `order` is above `most`: [n], [n] -> []."""
    if counted:
        count = 0
        for i in range(0, n, WIDTH):
            count += count_of(load(order + i) > most)
        return np.float64(count)
    mass = splat(0.0)
    for i in range(0, n, WIDTH):
        mass += to_f64(where(load(order + i) > most, load(p + i), _ZERO))
    return sum_of(mass)


@kernel
def first_largest(z: f32p, V: int):
    """Return the lowest token with the largest logit: [V] -> []."""
    largest = largest_of(z, V)
    for i in range(V):
        if z[i] == largest:
            return i
    return 0


@inlined
def draw(p: f32p, V: int, u, mass):
    """Return the first token whose cumulative mass exceeds u * mass: [V], [], [] -> []."""
    target, before, token = u * mass, 0.0, 0
    for start in range(0, V, WIDTH):
        block = sum_of(to_f64(load(p + start)))
        if before + block > target:
            for i in range(start, min(start + WIDTH, V)):
                before += np.float64(p[i])
                if before > target:
                    return i
        else:
            before += block
    for i in range(V):  # rounding kept the sum below u * mass: take the last token
        if p[i] > _ZERO:
            token = i
    return token
