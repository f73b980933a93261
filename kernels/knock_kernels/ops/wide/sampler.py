"""The distributions of all lanes, and tokens drawn from them.

This is the part of the pipeline of `ops/sampler.py` that all lanes have in common: the distribution before and after
temperature, and a draw without filters. Sums over tokens keep the same partial sums.
"""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import WIDTH, Model, Wide
from knock_kernels.lang.units import inlined, unit, void
from knock_kernels.lang.vector import load, maximum, splat, store, to_bits, to_f64, to_i32, where
from knock_kernels.ops import double
from knock_kernels.ops.elementary import EXPONENT, LOWEST, NOTHING, exp
from knock_kernels.ops.sampler import LN2
from knock_kernels.ops.wide.packing import by_halves

_ZERO, _NOT_FOUND = np.float32(0), np.int32(-1)


@unit
def wide_distributions(model: Model, wide: Wide) -> void:
    """Compute the distribution of each lane at temperature 1 and at its own: [V, WIDTH] -> [V, WIDTH].

    `wide.z` and `wide.p` hold those at the lanes' temperatures.
    """
    V, logits, z = model.V, wide.logits, wide.z
    top, is_finite = splat(NOTHING), splat(_ZERO) == _ZERO
    for v in range(0, V * WIDTH, WIDTH):
        some = load(logits + v)
        top = maximum(some, top)
        is_finite &= (to_bits(some) & EXPONENT) != EXPONENT
    store(to_i32(is_finite), wide.is_finite)
    store(top, wide.largest)
    for v in range(0, V * WIDTH, WIDTH):
        store(load(logits + v) - top, z + v)
    mass, mean = probabilities(V, wide)
    log_mass = double.log_of(mass)
    store(log_mass, wide.log_mass)
    store(1.0 / mass, wide.confidence)
    store(maximum((log_mass - mean) / LN2, 0.0), wide.entropy)
    temperature, is_tempered = load(wide.temperature), False
    for i in range(WIDTH):
        is_tempered |= wide.temperature[i] != np.float32(1)
    if is_tempered:
        for v in range(0, V * WIDTH, WIDTH):
            store(load(z + v) / temperature, z + v)
        mass, mean = probabilities(V, wide)
    store(mass, wide.tempered_mass)
    store(mean, wide.tempered_mean)
    store(maximum((double.log_of(mass) - mean) / LN2, 0.0), wide.tempered_entropy)


@inlined
def probabilities(V: int, wide: Wide):
    """Compute p = exp(z), with 0 where z is at most LOWEST; return its sum, and the mean of z: [V, WIDTH]."""
    for first in range(WIDTH):
        mass, mean = splat(0.0), splat(0.0)
        for v in range(first, V, WIDTH):
            some = load(wide.z + v * WIDTH)
            e = where(some > LOWEST, exp(some), _ZERO)
            store(e, wide.p + v * WIDTH)
            mass += to_f64(e)
            mean += to_f64(e) * to_f64(maximum(some, LOWEST))
        store(mass, wide.partial_mass + first * WIDTH)
        store(mean, wide.partial_mean + first * WIDTH)
    mass = by_halves(wide.partial_mass)
    return mass, by_halves(wide.partial_mean) / mass


@unit
def wide_draw(model: Model, wide: Wide) -> void:
    """Draw the first token of each lane whose cumulative mass exceeds u * mass, as `draw` does: -> [WIDTH]."""
    V, p = model.V, wide.p
    target, before = load(wide.u) * load(wide.tempered_mass), splat(0.0)
    token = splat(_NOT_FOUND)
    for start in range(0, V, WIDTH):
        end = min(start + WIDTH, V)
        is_inside = token < np.int32(0)
        for v in range(WIDTH):
            store(to_f64(load(p + (start + v) * WIDTH)), wide.partial_mass + v * WIDTH)
        block = by_halves(wide.partial_mass)
        is_inside &= before + block > target
        reached = before
        for v in range(start, end):
            reached += to_f64(load(p + v * WIDTH))
            token = where(is_inside & (reached > target) & (token < np.int32(0)), np.int32(v), token)
        before = where(is_inside, reached, before + block)
    store(token, wide.drawn)
    for i in range(WIDTH):
        if wide.drawn[i] < 0:  # rounding kept the sum below u * mass: take the last token
            for v in range(V):
                if p[v * WIDTH + i] > _ZERO:
                    wide.drawn[i] = v
