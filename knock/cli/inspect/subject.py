"""Content shared by all outputs of `inspect`: the model, the text, the numbers and their labels."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knock.cli.ui.terminal import END_SIGN, printable
from knock.config import ModelConfig
from knock.inspection import Attention, Inspection, Patterns
from knock.page.terms import attention_terms
from knock.vocab import Vocab
from knock.words import listed

_LINEAR = 16  # distances; longer windows have a log axis, since most attention is close
_ATTENTION, _REWEIGHT, _CHARACTER = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito: safe for colour-blind readers


class Series(NamedTuple):
    """A series of patterns, shown for every head.

    Attributes:
        name: Short name.
        meaning: Description, for legends.
        colour: CSS colour.
        patterns: The patterns by distance; J distances, from 1.
        distance: Mean distance of each head, [L, H]; None if the series is not the attention of the heads.
    """

    name: str
    meaning: str
    colour: str
    patterns: Patterns
    distance: npt.NDArray[np.float64] | None = None

    @property
    def over(self) -> str:
        """Over how many positions the patterns are averaged, in words."""
        few, many = int(self.patterns.inputs.min()), int(self.patterns.inputs.max())
        fewer = ", at far distances over fewer" if few < many else ""
        return f"mean over {many:,} position{'s' * (many != 1)}{fewer}"

    def has(self, b: int) -> bool:
        """Whether a block is in the series: the heads of some blocks have no reweight logits."""
        return not np.isnan(self.patterns.mean[b]).all()

    def peak(self, b: int, h: int) -> int:
        """Return the distance at which a head attends most; its block must be in the series."""
        return 1 + int(np.nanargmax(self.patterns.mean[b, h]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model inspected on a text.

    Attributes:
        name: Name of the model.
        vocab: Vocabulary of the model.
        source: Description of the text's source.
        is_own: Whether the model generated the text.
        inspection: The inspection.
        char: The character given by `--char`, if any.
        char_attention: Attention on a text in which that character is read: the inspected one, if it is read there;
            otherwise, it was substituted for the last character.
    """

    name: str
    vocab: Vocab
    source: str
    is_own: bool
    inspection: Inspection
    char: str | None = None
    char_attention: Attention | None = None

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.inspection.attention.config

    @property
    def model(self) -> str:
        """One-line description of the model."""
        config = self.config
        kinds = listed(config.head_types) if isinstance(config.head_type, tuple) else config.head_type
        heads = f"{config.n_blocks} blocks of {config.n_heads} {kinds} heads"
        window = f"a window of {config.longest_window:,} characters"
        if isinstance(config.T, tuple):
            window = f"windows of {listed(f'{T:,}' for T in config.T)} characters"
        return f"{printable(self.name)}: {heads}, {config.position} positions, {window}"

    @property
    def terms(self) -> list[tuple[str, str]]:
        """The words of every output and what they mean, in a line each."""
        return attention_terms(self.config)

    @property
    def labels(self) -> list[str]:
        """Visible form of each token, [V]."""
        return [*map(label, self.vocab.characters), *([END_SIGN] if self.vocab.has_boundary else [])]

    @cached_property
    def series(self) -> list[Series]:
        """Series shown for every head: attention and, where available, reweight and character patterns."""
        attention = self.inspection.attention
        whole = Series(
            "attention", "attention", _ATTENTION, attention.patterns(by="distance"), attention.mean_distance()
        )
        shown = [whole._replace(meaning=f"attention, {whole.over}")]
        if attention.gates is not None:
            alone = attention.patterns("reweight", by="distance")
            shown.append(Series("reweight", "attention by reweight alone", _REWEIGHT, alone))
        if self.char is not None and self.char_attention is not None:
            name, token = label(self.char), self.vocab.characters.index(self.char)
            patterns = self.char_attention.patterns(token=token, by="distance")
            of_char = Series(name, "", _CHARACTER, patterns, self.char_attention.mean_distance(token=token))
            meaning = f"attention when reading {name}, {of_char.over}"
            if self.char_attention is not attention:
                meaning = f"attention when reading {name} in place of the last character (it is not read in the text)"
            shown.append(of_char._replace(meaning=meaning))
        return shown

    @property
    def distances(self) -> int:
        """Number of distances, J: as far as the window or the text reaches."""
        count: int = self.inspection.attention.weights.shape[-1]
        return count

    @property
    def has_log_axis(self) -> bool:
        """Whether plots have a log axis."""
        return self.distances > _LINEAR

    @property
    def axis(self) -> str:
        """Label of the axis of distances."""
        return "distance in characters back (1 is the last one read)" + ", log scale" * self.has_log_axis

    @property
    def lacks(self) -> str:
        """Note on patterns that the model does not have; empty if it has all."""
        if not self.config.has_reweight:
            return "Content heads have no reweight patterns; their attention is shown instead."
        return ""


def head_name(b: int, h: int) -> str:
    """Return the name of a head, counted from 1."""
    return f"block {b + 1}, head {h + 1}"


def label(char: str) -> str:
    """Return a visible form of a character, without control characters."""
    if char in "\n ":
        return {"\n": "↵", " ": "␣"}[char]
    if unicodedata.category(char).startswith("M"):  # a combining mark needs a base character
        return f"◌{char}"
    return printable(char)
