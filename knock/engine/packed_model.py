"""A model packed for the kernels: what the compiled backend and its batches stand on."""

from __future__ import annotations

from knock.engine.packing import aligned, pack
from knock.weights import FloatArray, Weights
from knock_kernels.cache.store import EntryPoints, Part

_ALIGNMENT = 16  # floats, 64 bytes


class PackedModel:
    """Packed weights with their plan, and the functions that run them.

    Args:
        weights: the model.
        kernels: the compiled functions.

    Attributes:
        config: the model's shape.
        plan: sizes and offsets, [Part].
        weights: packed weights.
        kernels: the compiled functions.
    """

    def __init__(self, weights: Weights, kernels: EntryPoints) -> None:
        self.config = weights.config
        self.kernels = kernels
        self.plan, self.weights = pack(weights)
        if self.plan[Part.table] >= 0:
            kernels.tabulate(self.weights, self.scratch(0), self.plan)

    def scratch(self, caches: int) -> FloatArray:
        """Return scratch memory for one caller at a time, followed by the caches of that many sequences."""
        return aligned(self.cache_offset(caches))

    def cache_offset(self, number: int) -> int:
        """Return the offset of a sequence's cache in the scratch memory."""
        first = -(-int(self.plan[Part.scratch_size]) // _ALIGNMENT) * _ALIGNMENT
        return first + number * -(-int(self.plan[Part.cache_size]) // _ALIGNMENT) * _ALIGNMENT
