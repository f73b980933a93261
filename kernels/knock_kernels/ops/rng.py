"""Philox4x32-10, the counter-based random number generator of Salmon et al. (2011)."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.units import inlined, kernel

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
_5, _6, _26 = np.uint64(5), np.uint64(6), np.uint64(26)


@inlined
def philox4x32(counter_low, counter_high, key):
    """Return the first two words after ten rounds. Arguments are 64-bit halves, with their low words first."""
    c0, c1 = counter_low & _LOW, counter_low >> _WORD
    c2, c3 = counter_high & _LOW, counter_high >> _WORD
    k0, k1 = key & _LOW, key >> _WORD
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _WORD) ^ c1 ^ k0, p1 & _LOW, (p0 >> _WORD) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1


@kernel
def uniform(seed, stream, step):
    """Return the number in [0, 1) of a step: 53 bits, the upper 27 of the first word and upper 26 of the second."""
    w0, w1 = philox4x32(np.uint64(step), np.uint64(stream), np.uint64(seed))
    return np.float64(((w0 >> _5) << _26) + (w1 >> _6)) * 2.0**-53
