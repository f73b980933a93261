"""Penalties for repeating what the text already has: DRY and forbidden n-grams."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import Controls
from knock_kernels.lang.units import f32p, i32p, inlined, kernel
from knock_kernels.ops.elementary import NOTHING

_ZERO = np.float32(0)
_LONGEST = 256  # tokens; longer matches count as this long
_MOST = 1e4  # nats of a penalty, which float32 logits survive


@inlined
def is_penalized(controls: Controls):
    """Return whether a penalty is on."""
    return controls.no_repeat_ngram > 0 or controls.dry_multiplier > 0


@kernel
def penalize(z: f32p, lengths: f32p, context: i32p, size: int, V: int, controls: Controls):
    """Lower the logits of tokens that would repeat earlier text: [V], scratch [V] -> [V].

    Args:
        z: logits, [V], float32.
        lengths: scratch, [V], float32.
        context: the text so far, [size], int32.
        size: number of its tokens.
        V: vocabulary size.
        controls: of the row.
    """
    repeats(lengths, context, size, V, np.int64(controls.repetition_range))
    if controls.dry_multiplier > 0:
        for i in range(V):
            over = np.int64(lengths[i]) - np.int64(controls.dry_allowed_length)
            if over >= 0:
                z[i] -= np.float32(penalty(controls.dry_multiplier, controls.dry_base, over))
    if controls.no_repeat_ngram > 0:
        longest = np.int64(controls.no_repeat_ngram) - 1
        left = 0
        for i in range(V):
            left += z[i] > NOTHING and lengths[i] < longest
        if left > 0:  # at least one token must remain
            for i in range(V):
                if lengths[i] >= longest:
                    z[i] = NOTHING


@inlined
def penalty(multiplier, base, over):
    """Return multiplier * base ** over, at most `_MOST`."""
    result = multiplier
    for _ in range(over):
        result = min(result * base, _MOST)
    return min(result, _MOST)


@inlined
def repeats(lengths: f32p, context: i32p, size: int, V: int, reach: int):
    """For each token, measure the longest end of the text that it followed earlier in the text: -> [V].

    The first token of an n-gram has the length 0, which is also that of a token that repeats nothing; the length is -1
    for tokens that the text does not have.
    """
    start = max(0, size - reach) if reach > 0 else 0
    for i in range(V):
        lengths[i] = np.float32(-1)
    for j in range(start, size):
        lengths[context[j]] = _ZERO
    for j in range(start, size - 1):
        if context[j] == context[size - 1]:
            length = 1
            while length < _LONGEST and j - length >= start and context[j - length] == context[size - 1 - length]:
                length += 1
            after = context[j + 1]
            lengths[after] = max(lengths[after], np.float32(length))
