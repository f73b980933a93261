"""Penalties for repeating what the text already has: DRY and forbidden n-grams."""

from __future__ import annotations

import numpy as np

from knock_kernels.lang.layout import Control
from knock_kernels.lang.units import inlined, kernel

_NGRAM, _MULTIPLIER, _BASE, _ALLOWED, _RANGE = (
    int(control)
    for control in (
        Control.no_repeat_ngram, Control.dry_multiplier, Control.dry_base, Control.dry_allowed_length,
        Control.repetition_range,
    )
)  # fmt: skip
_NOTHING, _ZERO = np.float32(-np.inf), np.float32(0)
_LONGEST = 256  # tokens; longer matches count as this long
_MOST = 1e4  # nats of a penalty, which float32 logits survive


@inlined
def is_penalized(controls):
    """Return whether a penalty is on: [Control] -> []."""
    return controls[_NGRAM] > 0 or controls[_MULTIPLIER] > 0


@kernel
def penalize(z, lengths, context, size, V, controls):
    """Lower the logits of tokens that would repeat earlier text: [V], scratch [V] -> [V].

    Args:
        z: logits, [V], float32.
        lengths: scratch, [V], float32.
        context: the text so far, [size], int32.
        size: number of its tokens.
        V: vocabulary size.
        controls: [Control].
    """
    repeats(lengths, context, size, V, np.int64(controls[_RANGE]))
    if controls[_MULTIPLIER] > 0:
        for i in range(V):
            over = np.int64(lengths[i]) - np.int64(controls[_ALLOWED])
            if over >= 0:
                z[i] -= np.float32(penalty(controls[_MULTIPLIER], controls[_BASE], over))
    if controls[_NGRAM] > 0:
        longest = np.int64(controls[_NGRAM]) - 1
        left = 0
        for i in range(V):
            left += z[i] > _NOTHING and lengths[i] < longest
        if left > 0:  # at least one token must remain
            for i in range(V):
                if lengths[i] >= longest:
                    z[i] = _NOTHING


@inlined
def penalty(multiplier, base, over):
    """Return multiplier * base ** over, at most `_MOST`."""
    result = multiplier
    for _ in range(over):
        result = min(result * base, _MOST)
    return min(result, _MOST)


@inlined
def repeats(lengths, context, size, V, reach):
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
