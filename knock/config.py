"""ModelConfig: the shape of a model, and its validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, TypeVar

from knock.choices import HEAD_TYPES, POSITIONS, HeadType, Position
from knock.errors import ConfigError
from knock.validation import is_one_of, real_number, shown, whole_number

# Far above any practical size, but low enough to reject a damaged file or a typo before allocating memory.
_LARGEST = {"vocab_size": 2**21, "n_emb": 2**20, "nodes": 2**20, "n_blocks": 1000, "n_heads": 2**20}
_LARGEST_T = 2**20

Value = TypeVar("Value", int, HeadType)


class BlockConfig(NamedTuple):
    """The attention of one block.

    Attributes:
        T: window of the block.
        reweight_T: window of its reweight logits, at most T; farther keys get content logits alone. 0 without
            reweight logits.
        head_type: `"hybrid"`, `"reweight"` or `"content"`.
    """

    T: int
    reweight_T: int
    head_type: HeadType

    @property
    def has_reweight(self) -> bool:
        """Whether the heads use learned patterns over the window, Wr."""
        return self.head_type != "content"

    @property
    def has_content(self) -> bool:
        """Whether the heads compare queries with keys, Wq and Wk."""
        return self.head_type != "reweight"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a model. Immutable, and validated on construction.

    `T`, `head_type` and `reweight_T` take one value for all blocks, or a tuple with a value for each. A tuple of equal
    values becomes the one value, so that equal models have equal configs.

    Attributes:
        vocab_size: number of tokens, V.
        T: context window of a block, in tokens.
        n_emb: embedding width, C.
        nodes: width of the MLP's hidden layer, F.
        n_blocks: number of blocks, L.
        n_heads: attention heads per block, H; must divide `n_emb`.
        head_type: the kind of attention logits: `"reweight"` are learned patterns over the window, `"content"` is
            query-key similarity, and `"hybrid"` mixes both.
        alpha: initial gate of hybrid heads, the weight of the reweight logits, in [0, 1].
        position: `"relative"` (column j of the window is j characters back) or `"absolute"` (column j is slot j; all
            blocks have the same window). The default is absolute if all heads are content heads, which know the order
            of characters from the position embedding alone, and relative otherwise.
        reweight_T: how far back the reweight logits of hybrid blocks reach, at most T; farther keys get content logits
            alone. One value is for all hybrid blocks. In a tuple, blocks of reweight heads have their T and blocks of
            content heads 0. None, the default, stands for T.

    Raises:
        ConfigError: if a field has the wrong type or is out of range.
    """

    vocab_size: int
    T: int | tuple[int, ...] = 32
    n_emb: int = 64
    nodes: int = 64
    n_blocks: int = 3
    n_heads: int = 4
    head_type: HeadType | tuple[HeadType, ...] = "hybrid"
    alpha: float = 0.5
    position: Position = None  # type: ignore[assignment]  # always a Position after __post_init__
    reweight_T: int | tuple[int, ...] | None = None

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
        windows = _by_block("T", self.T, self.n_blocks, _window)
        head_types = _by_block("head_type", self.head_type, self.n_blocks, _head_type)
        object.__setattr__(self, "T", _collapsed(windows))
        object.__setattr__(self, "head_type", _collapsed(head_types))
        if self.reweight_T is not None:
            object.__setattr__(self, "reweight_T", _canonical_reach(self.reweight_T, windows, head_types))
        if self.position is None:
            object.__setattr__(self, "position", "relative" if self.has_reweight else "absolute")
        if not is_one_of(self.position, POSITIONS):
            raise ConfigError(f"position must be one of {', '.join(POSITIONS)}, got {shown(self.position)}")
        if self.position == "absolute" and (isinstance(self.T, tuple) or self.reweight_T is not None):
            name, given = ("T", self.T) if isinstance(self.T, tuple) else ("reweight_T", self.reweight_T)
            raise ConfigError(
                f"absolute positions have one window, the same for all blocks, got {name}={shown(given)}; use relative "
                "positions"
            )
        alpha = real_number(self.alpha)
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha must be a number from 0 to 1, got {shown(self.alpha)}")
        object.__setattr__(self, "alpha", alpha)

    @property
    def head_width(self) -> int:
        """Width of a head, D = C / H."""
        return self.n_emb // self.n_heads

    @property
    def windows(self) -> tuple[int, ...]:
        """Window of each block, [L]."""
        return self.T if isinstance(self.T, tuple) else (self.T,) * self.n_blocks

    @property
    def longest_window(self) -> int:
        """Longest window of any block; the window of an absolute model."""
        return max(self.T) if isinstance(self.T, tuple) else self.T

    @property
    def head_types(self) -> tuple[HeadType, ...]:
        """Head type of each block, [L]."""
        return self.head_type if isinstance(self.head_type, tuple) else (self.head_type,) * self.n_blocks

    @property
    def reweight_windows(self) -> tuple[int, ...]:
        """Window of the reweight logits of each block, [L]; 0 in blocks of content heads."""
        if isinstance(self.reweight_T, tuple):
            return self.reweight_T
        reach = {"hybrid": self.reweight_T, "reweight": None, "content": 0}
        return tuple(
            T if (own := reach[kind]) is None else own for T, kind in zip(self.windows, self.head_types, strict=True)
        )

    @property
    def blocks(self) -> tuple[BlockConfig, ...]:
        """The attention of each block, [L]."""
        return tuple(map(BlockConfig, self.windows, self.reweight_windows, self.head_types))

    @property
    def is_uniform(self) -> bool:
        """Whether the attention of all blocks is alike, and reweight logits reach over the whole window."""
        return not isinstance(self.T, tuple) and not isinstance(self.head_type, tuple) and self.reweight_T is None

    @property
    def has_reweight(self) -> bool:
        """Whether any block uses learned patterns over the window, Wr."""
        return any(kind != "content" for kind in self.head_types)

    @property
    def has_content(self) -> bool:
        """Whether any block compares queries with keys, Wq and Wk."""
        return any(kind != "reweight" for kind in self.head_types)

    @property
    def has_hybrid(self) -> bool:
        """Whether any block mixes both kinds of logits, by gates."""
        return "hybrid" in self.head_types

    @property
    def receptive_field(self) -> int:
        """Number of characters, including the current one, that affect the logits at a position.

        Each block of a relative model adds its window minus 1. An absolute model sees only its window.
        """
        return 1 + sum(T - 1 for T in self.windows) if self.position == "relative" else self.longest_window

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable dict, with lists for tuples and without `reweight_T` if it is None.

        A config without values for each block thus gives what it gave before there were any.
        """
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if values["reweight_T"] is None:
            del values["reweight_T"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Build a config from the result of `to_dict`, which must have exactly its fields.

        Raises:
            ConfigError: if a field is missing, unknown or out of range.
        """
        names = {field.name for field in fields(cls)} - {"reweight_T"}
        if set(values) - {"reweight_T"} != names:
            missing, unknown = sorted(names - set(values)), sorted(set(values) - names - {"reweight_T"})
            raise ConfigError(f"a config has the fields {sorted(names)}; missing {missing}, unknown {shown(unknown)}")
        return cls(**values)


def _by_block(name: str, value: Any, n_blocks: int, check: Callable[[str, Any], Value]) -> tuple[Value, ...]:
    """Return the value of each block, given one for all of them or one for each.

    Raises:
        ConfigError: if there is another number of values, or one is wrong.
    """
    if not isinstance(value, (tuple, list)):
        return (check(name, value),) * n_blocks
    if len(value) != n_blocks:
        raise ConfigError(
            f"{name} must be one value, or one for each of n_blocks={n_blocks}, got {len(value)}: {shown(value)}"
        )
    return tuple(check(f"{name} of block {b}", each) for b, each in enumerate(value, 1))


def _window(name: str, value: Any) -> int:
    return whole_number(name, value, 1, _LARGEST_T, error=ConfigError)


def _reach(name: str, value: Any) -> int:
    return whole_number(name, value, 0, _LARGEST_T, error=ConfigError)


def _head_type(name: str, value: Any) -> HeadType:
    if not is_one_of(value, HEAD_TYPES):
        raise ConfigError(f"{name} must be one of {', '.join(HEAD_TYPES)}, got {shown(value)}")
    return next(kind for kind in HEAD_TYPES if kind == value)


def _collapsed(values: tuple[Value, ...]) -> Value | tuple[Value, ...]:
    """Return the one value of all blocks, or the values if they differ."""
    return values[0] if len(set(values)) == 1 else values


def _canonical_reach(value: Any, windows: tuple[int, ...], head_types: tuple[HeadType, ...]) -> Any:
    """Return the canonical `reweight_T`: None if reweight logits reach over all windows, or one value if that will do.

    Raises:
        ConfigError: if it has the wrong type or is out of range.
    """
    given = _by_block("reweight_T", value, len(windows), _reach)
    is_one, has_hybrid = not isinstance(value, (tuple, list)), "hybrid" in head_types
    reach = []
    for b, (own, T, kind) in enumerate(zip(given, windows, head_types, strict=True), 1):
        name = "reweight_T" if is_one else f"reweight_T of block {b}"
        if kind == "reweight" and own != T and not (is_one and has_hybrid):
            raise ConfigError(
                f"{name} is for hybrid heads, but block {b} has reweight heads with T={T}, got {own}; set T instead"
            )
        if kind == "hybrid" and not 1 <= own <= T:
            raise ConfigError(f"{name} must be from 1 to the window, T={T} in block {b}, got {own}")
        reach.append({"hybrid": own, "reweight": T, "content": 0}[kind])
    of_hybrid = {own for own, kind in zip(reach, head_types, strict=True) if kind == "hybrid"}
    is_whole = all(own in (0, T) for own, T in zip(reach, windows, strict=True))
    return None if is_whole else of_hybrid.pop() if len(of_hybrid) == 1 else tuple(reach)
