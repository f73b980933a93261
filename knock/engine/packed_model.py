"""A model packed for the kernels, and the memory that they compute in."""

from __future__ import annotations

import numpy as np

from knock.choices import Precision
from knock.config import ModelConfig
from knock.engine.packing import Packed, Table, pack
from knock.weights import FloatArray, Weights
from knock_kernels.cache.store import (
    ROWS,
    SPAN,
    WIDTH,
    EntryPoints,
    RecordArray,
    State,
    Wide,
    aligned,
    allocate,
    padded,
)


class PackedModel:
    """A packed model, and the functions that run it.

    Args:
        weights: the model.
        kernels: the compiled functions.
        precision: of its products.
        table: of what the first blocks compute; see `pack`.

    Attributes:
        config: the model's shape.
        record: the `Model` record, [1].
        blocks: the `Block` records, [L].
        kernels: the compiled functions.
    """

    def __init__(self, weights: Weights, kernels: EntryPoints, precision: Precision, *, table: Table = "pairs") -> None:
        self.config = weights.config
        self.kernels = kernels
        self._packed = pack(weights, precision, table=table)
        self.record, self.blocks = self._packed.model, self._packed.blocks

    def scratch(self) -> Scratch:
        """Return the buffers of one thread."""
        return Scratch(self.config, self._packed)

    @property
    def can_be_wide(self) -> bool:
        """Whether lanes can run side by side: they need codes, and rings that turn together."""
        return bool(self.record["has_codes"][0] and self.record["is_relative"][0])

    def wide(self) -> WideScratch:
        """Return the buffers in which one thread runs lanes side by side."""
        return WideScratch(self.config, self._packed)

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
                "previous": (SPAN,),
                "caches": (SPAN,),
                "entries": (SPAN,),
                "first_cache": (packed.first_cache_size,),
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


class WideScratch:
    """The buffers in which one thread runs WIDTH lanes side by side.

    Args:
        config: the model's shape.
        packed: the model.

    Attributes:
        record: the `Wide` record, [1].
        arrays: the buffers, by the names of its fields.
    """

    def __init__(self, config: ModelConfig, packed: Packed) -> None:
        V, T = config.vocab_size, config.longest_window
        C, F, Vp = (padded(size) for size in (config.n_emb, config.nodes, V))
        lanes = (WIDTH,)
        shapes: dict[str, tuple[int, ...]] = {
            "clock": (1,),
            "cache": (int(packed.model["cache_size"][0]), WIDTH),
            "x": (C, WIDTH),
            "n": (C, WIDTH),
            "codes": (max(C, F) // 2, WIDTH),
            "projected": (int(packed.blocks["N"].max()), WIDTH),
            "hidden": (F, WIDTH),
            "query": (-(-config.head_width // 2), WIDTH),
            "scores": (T, WIDTH),
            "weights": (-(-T // 2), WIDTH),
            **dict.fromkeys(("logits", "z", "p"), (Vp, WIDTH)),
            **dict.fromkeys(("logit_rows", "z_rows", "p_rows"), (WIDTH, Vp)),
            **dict.fromkeys(("partial", "partial_mass", "partial_mean"), (WIDTH, WIDTH)),
            **dict.fromkeys(("entries", "seen", "offsets", "scales", "u", "temperature", "top_p", "drawn"), lanes),
            **dict.fromkeys(("is_settled", "is_finite"), lanes),
            **dict.fromkeys(("largest", "log_mass", "entropy", "confidence"), lanes),
            **dict.fromkeys(("tempered_mass", "tempered_mean", "tempered_entropy"), lanes),
        }
        self.record: RecordArray = Wide.array()
        self.arrays = allocate(Wide, self.record, shapes)
        self.arrays["offsets"][:] = WIDTH * np.arange(WIDTH)
        self.arrays["z"][V:] = -np.inf  # behind the last token, as the sampler expects
