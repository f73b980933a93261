"""The entry points: what is called from Python, over arrays."""

from __future__ import annotations

from knock_kernels import decode as _decode
from knock_kernels import forward as _forward
from knock_kernels.jit import kernel
from knock_kernels.simd import address


@kernel
def decode(lanes, length, controls, biases, history, rows, weights, scratch, plan, tokens, stats):
    """See `knock_kernels.decode.decode`."""
    return _decode.decode(
        address(lanes), lanes.shape[0], length, address(controls), address(biases), address(history), address(rows),
        address(weights), address(scratch), address(plan), address(tokens), address(stats),
    )  # fmt: skip


@kernel
def read(tokens, position, cache, rows, weights, scratch, plan):
    """See `knock_kernels.decode.read`."""
    _decode.read(
        address(tokens), position, tokens.shape[0], cache, address(rows), address(weights), address(scratch),
        address(plan),
    )  # fmt: skip


@kernel
def score(tokens, targets, position, cache, rows, weights, scratch, plan, out, every_logit):
    """See `knock_kernels.decode.score`."""
    return _decode.score(
        address(tokens), address(targets), tokens.shape[0], position, cache, address(rows), address(weights),
        address(scratch), address(plan), address(out), every_logit,
    )  # fmt: skip


@kernel
def tabulate(weights, scratch, plan):
    """See `knock_kernels.forward.tabulate`."""
    _forward.tabulate(address(weights), address(scratch), address(plan))
