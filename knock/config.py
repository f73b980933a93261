"""ModelConfig: the shape of a model, and its validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from knock.choices import HEAD_TYPES, POSITIONS, HeadType, Position
from knock.errors import ConfigError
from knock.validation import is_one_of, real_number, shown, whole_number

# Far above any practical size, but low enough to reject a damaged file or a typo before allocating memory.
_LARGEST = {"vocab_size": 2**21, "T": 2**20, "n_emb": 2**20, "nodes": 2**20, "n_blocks": 1000, "n_heads": 2**20}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a model. Immutable, and validated on construction.

    Attributes:
        vocab_size: number of tokens, V.
        T: context window of one block, in tokens.
        n_emb: embedding width, C.
        nodes: width of the MLP's hidden layer, F.
        n_blocks: number of blocks, L.
        n_heads: attention heads per block, H; must divide `n_emb`.
        head_type: the kind of attention logits: `"reweight"` are learned patterns over the window, `"content"` is
            query-key similarity, and `"hybrid"` mixes both.
        alpha: initial gate of hybrid heads, the weight of the reweight logits, in [0, 1].
        position: `"relative"` (column j of the window is j characters back) or `"absolute"` (column j is slot j).
            The default is absolute for content heads, which know the order of characters from the position embedding
            alone, and relative for other heads.

    Raises:
        ConfigError: if a field has the wrong type or is out of range.
    """

    vocab_size: int
    T: int = 32
    n_emb: int = 64
    nodes: int = 64
    n_blocks: int = 3
    n_heads: int = 4
    head_type: HeadType = "hybrid"
    alpha: float = 0.5
    position: Position = None  # type: ignore[assignment]  # always a Position after __post_init__

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            value = whole_number(name, getattr(self, name), 1, largest, error=ConfigError)
            object.__setattr__(self, name, value)
        if self.n_emb % self.n_heads:
            fits = [h for h in range(1, self.n_emb + 1) if self.n_emb % h == 0]
            nearest = min(fits, key=lambda h: (abs(h - self.n_heads), h))
            raise ConfigError(
                f"n_emb must be a multiple of n_heads, got n_emb={self.n_emb} and n_heads={self.n_heads}; "
                f"n_heads={nearest} fits"
            )
        if not is_one_of(self.head_type, HEAD_TYPES):
            raise ConfigError(f"head_type must be one of {', '.join(HEAD_TYPES)}, got {shown(self.head_type)}")
        if self.position is None:
            object.__setattr__(self, "position", "absolute" if self.head_type == "content" else "relative")
        if not is_one_of(self.position, POSITIONS):
            raise ConfigError(f"position must be one of {', '.join(POSITIONS)}, got {shown(self.position)}")
        alpha = real_number(self.alpha)
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha must be a number from 0 to 1, got {shown(self.alpha)}")
        object.__setattr__(self, "alpha", alpha)

    @property
    def head_width(self) -> int:
        """Width of a head, D = C / H."""
        return self.n_emb // self.n_heads

    @property
    def has_reweight(self) -> bool:
        """Whether the heads use learned patterns over the window, Wr."""
        return self.head_type != "content"

    @property
    def has_content(self) -> bool:
        """Whether the heads compare queries with keys, Wq and Wk."""
        return self.head_type != "reweight"

    @property
    def receptive_field(self) -> int:
        """Number of characters, including the current one, that affect the logits at a position.

        Each block of a relative model adds T - 1. An absolute model sees only its window, T.
        """
        return self.n_blocks * (self.T - 1) + 1 if self.position == "relative" else self.T

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Build a config from the result of `to_dict`, which must have exactly its fields.

        Raises:
            ConfigError: if a field is missing, unknown or out of range.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
            raise ConfigError(f"a config has the fields {sorted(names)}; missing {missing}, unknown {unknown}")
        return cls(**values)
