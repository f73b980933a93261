"""ModelConfig: the shape of a model, with every check in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from knock.choices import HEAD_TYPES, POSITIONS, HeadType, Position
from knock.errors import ConfigError
from knock.validation import real_number, shown, whole_number

# Far beyond what anyone trains, and small enough that a damaged file or a slip of the finger is told at once.
_LARGEST = {"vocab_size": 2**21, "T": 2**20, "n_emb": 2**20, "nodes": 2**20, "n_blocks": 1000, "n_heads": 2**20}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a model. Immutable; checked when made.

    Attributes:
        vocab_size: number of tokens, V.
        T: context window of one layer, in tokens.
        n_emb: embedding width, C.
        nodes: width of the MLP's hidden layer, F.
        n_blocks: number of blocks, L.
        n_heads: attention heads in a block, H; divides `n_emb`.
        head_type: what the attention logits are made of: `"hybrid"` mixes both kinds, `"reweight"` uses learned
            patterns over the window only, `"content"` query-key similarity only.
        alpha: where the hybrid heads' gates start, the weight of the reweight logits, in [0, 1].
        position: `"relative"` (column j of the window is j characters back) or `"absolute"` (column j is slot j).
            Left out, it is absolute for content heads, whose only sense of order is the position embedding, and
            relative for the others.

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
    position: Position = None  # type: ignore[assignment]  # always a Position once __post_init__ is done

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
        if self.head_type not in HEAD_TYPES:
            raise ConfigError(f"head_type must be one of {', '.join(HEAD_TYPES)}, got {shown(self.head_type)}")
        if self.position is None:
            object.__setattr__(self, "position", "absolute" if self.head_type == "content" else "relative")
        if self.position not in POSITIONS:
            raise ConfigError(f"position must be one of {', '.join(POSITIONS)}, got {self.position!r}")
        alpha = real_number(self.alpha)
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha must be a number from 0 to 1, got {shown(self.alpha)}")
        object.__setattr__(self, "alpha", alpha)

    @property
    def head_width(self) -> int:
        """Width of one head, D = C / H."""
        return self.n_emb // self.n_heads

    @property
    def has_reweight(self) -> bool:
        """Whether the heads have learned patterns over the window, Wr."""
        return self.head_type != "content"

    @property
    def has_content(self) -> bool:
        """Whether the heads compare queries with keys, Wq and Wk."""
        return self.head_type != "reweight"

    @property
    def receptive_field(self) -> int:
        """How many characters, the current one included, can reach the logits of one position.

        A relative layer adds T - 1 to what the layer below sees; an absolute model sees its window and no more.
        """
        return self.n_blocks * (self.T - 1) + 1 if self.position == "relative" else self.T

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; every field must be there and no other.

        Raises:
            ConfigError: if a field is missing, unknown or out of range.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
            raise ConfigError(f"a config has the fields {sorted(names)}; missing {missing}, unknown {unknown}")
        return cls(**values)
