"""Content shared by all outputs of `inspect`: the model, the text, the numbers and their labels."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from knock.cli.ui.terminal import printable
from knock.config import ModelConfig
from knock.inspection import Inspection, Patterns
from knock.vocab import Vocab

_ATTENTION, _REWEIGHT, _CHARACTER = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito: safe for colour-blind readers


class Series(NamedTuple):
    """A series of patterns, shown for every head.

    Attributes:
        name: Short name.
        meaning: Description, for legends.
        colour: CSS colour.
        patterns: The patterns.
    """

    name: str
    meaning: str
    colour: str
    patterns: Patterns


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
        char_patterns: Patterns of the heads when they read that character.
        is_there: Whether the model reads that character in the text; if not, it was substituted for the last one read.
    """

    name: str
    vocab: Vocab
    source: str
    is_own: bool
    inspection: Inspection
    char: str | None = None
    char_patterns: Patterns | None = None
    is_there: bool = True

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.inspection.attention.config

    @property
    def model(self) -> str:
        """One-line description of the model."""
        config = self.config
        heads = f"{config.n_blocks} blocks of {config.n_heads} {config.head_type} heads"
        return f"{printable(self.name)}: {heads}, {config.position} positions, a window of {config.T:,} characters"

    @property
    def series(self) -> list[Series]:
        """Series shown for every head: attention and, where available, reweight and character patterns."""
        attention = self.inspection.attention
        whole = attention.patterns()
        shown = [Series("attention", f"attention, {_over(whole)}", _ATTENTION, whole)]
        if attention.gates is not None:
            alone = attention.patterns("reweight")
            shown.append(Series("reweight", "softmax of the reweight logits alone", _REWEIGHT, alone))
        if self.char is not None and self.char_patterns is not None:
            name = label(self.char)
            meaning = f"attention when reading {name}, {_over(self.char_patterns)}"
            if not self.is_there:
                meaning = f"attention when reading {name} in place of the last character (it is not read in the text)"
            shown.append(Series(name, meaning, _CHARACTER, self.char_patterns))
        return shown

    @property
    def columns(self) -> list[int]:
        """Labels of the window's columns; `axis` explains them."""
        first = int(self.config.position == "relative")
        return list(range(first, first + self.inspection.attention.weights.shape[-1]))

    @property
    def axis(self) -> str:
        """Meaning of the columns."""
        if self.config.position == "relative":
            return "characters back (1 is the last one read)"
        return "slot in the window (0 holds the oldest character)"

    @property
    def lacks(self) -> str:
        """Note on patterns that the model does not have; empty if it has all."""
        if self.config.head_type == "content":
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


def _over(patterns: Patterns) -> str:
    """Return over how many inputs the patterns are averaged, in words."""
    few, many = int(patterns.inputs.min()), int(patterns.inputs.max())
    count = f"{many:,}" if few == many else f"{few:,} to {many:,}"
    return f"mean of {count} input{'s' * (many != 1)}"
