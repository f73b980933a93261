"""A model packed for the kernels, and the memory that they compute in."""

from __future__ import annotations

from knock.choices import Precision
from knock.config import ModelConfig
from knock.engine.packing import Packed, pack
from knock.weights import FloatArray, Weights
from knock_kernels.cache.store import ROWS, SPAN, EntryPoints, RecordArray, State, aligned, allocate, padded


class PackedModel:
    """A packed model, and the functions that run it.

    Args:
        weights: the model.
        kernels: the compiled functions.
        precision: of its products.

    Attributes:
        config: the model's shape.
        record: the `Model` record, [1].
        blocks: the `Block` records, [L].
        kernels: the compiled functions.
    """

    def __init__(self, weights: Weights, kernels: EntryPoints, precision: Precision) -> None:
        self.config = weights.config
        self.kernels = kernels
        self._packed = pack(weights, precision)
        self.record, self.blocks = self._packed.model, self._packed.blocks
        if self.record["table"][0]:
            scratch = self.scratch()  # kept until the call returns: the record holds addresses only
            kernels.tabulate(self.record, scratch.state)

    def scratch(self) -> Scratch:
        """Return the buffers of one thread."""
        return Scratch(self.config, self._packed)

    def caches(self, count: int) -> FloatArray:
        """Return empty caches for the keys and values of that many sequences, [count, cache_size]."""
        size = int(self.record["cache_size"][0])
        return aligned(count * size).reshape(count, size)


class Scratch:
    """The buffers that one thread computes in.

    Args:
        config: the model's shape.
        packed: the model.

    Attributes:
        state: the `State` record, [1].
        arrays: the buffers, by the names of its fields.
    """

    def __init__(self, config: ModelConfig, packed: Packed) -> None:
        C, F, D, V = (padded(size) for size in (config.n_emb, config.nodes, config.head_width, config.vocab_size))
        places = max(ROWS, config.n_heads)
        self.state: RecordArray = State.array()
        self.arrays = allocate(
            State,
            self.state,
            {
                "tokens": (SPAN,),
                "positions": (SPAN,),
                "caches": (SPAN,),
                "x": (SPAN * C + D,),
                "n": (SPAN, C),
                "projected": (SPAN, int(packed.blocks["N"].max())),
                "hidden": (SPAN, F),
                "attended": (places, D),
                "scores": (places, int(packed.blocks["T_padded"].max())),
                "turned": (packed.turned_size,),
                "codes": (SPAN, max(C, F)),
                "scales": (SPAN,),
                "query": (2, int(packed.model["head_codes"][0])),
                "weights": (places, int(packed.blocks["T_padded"].max())),
                "newest": (places,),
                "totals": (places,),
                "logits": (ROWS, V),
                "work": (5, V),
            },
        )
