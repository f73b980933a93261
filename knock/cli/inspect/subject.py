"""What `inspect` shows, whatever shows it: a model, a text, the numbers; and how they are put into words."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from knock.cli.ui.terminal import printable
from knock.config import ModelConfig
from knock.inspection import Inspection, Patterns
from knock.vocab import Vocab

_ATTENTION, _REWEIGHT, _CHARACTER = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito: told apart by colour-blind readers


class Series(NamedTuple):
    """Patterns that are shown together for all heads.

    Attributes:
        name: a short one.
        meaning: a longer one.
        colour: as CSS has it.
        patterns: the numbers.
    """

    name: str
    meaning: str
    colour: str
    patterns: Patterns


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is to be shown.

    Attributes:
        name: of the model.
        vocab: its characters.
        source: where the text is from, in words.
        is_own: whether the model wrote the text itself.
        inspection: what the model does on it.
        char: the character whose patterns were asked for, if one was.
        char_patterns: how the heads attend when they read that one.
        is_there: whether they are over the places in the text; otherwise it was put there, at the end.
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
        """The model in a line."""
        config = self.config
        heads = f"{config.n_blocks} blocks of {config.n_heads} {config.head_type} heads"
        return f"{printable(self.name)}: {heads}, {config.position} positions, a window of {config.T:,} characters"

    @property
    def series(self) -> list[Series]:
        """What is shown for every head: its attention, and more where there is more."""
        attention = self.inspection.attention
        whole = attention.patterns()
        shown = [Series("attention", f"attention, {_over(whole)}", _ATTENTION, whole)]
        if attention.gates is not None:
            alone = attention.patterns("reweight")
            shown.append(Series("reweight", "softmax of the reweight logits alone", _REWEIGHT, alone))
        if self.char is not None and self.char_patterns is not None:
            name = label(self.char)
            where = f"attention where {name} is read, {_over(self.char_patterns)}"
            if not self.is_there:
                where = f"attention if {name}, which nothing in the text comes after, were the last one read"
            shown.append(Series(name, where, _CHARACTER, self.char_patterns))
        return shown

    @property
    def columns(self) -> list[int]:
        """What the columns of the window are called, see `axis`."""
        first = int(self.config.position == "relative")
        return list(range(first, first + self.inspection.attention.weights.shape[-1]))

    @property
    def axis(self) -> str:
        """What the columns are."""
        if self.config.position == "relative":
            return "characters back, 1 is the last one read"
        return "slot in the window, the oldest character is in 0"

    @property
    def lacks(self) -> str:
        """What there is none of, in words; empty if there is everything."""
        if self.config.head_type == "content":
            return "Content heads have no reweight patterns; what is shown is their attention."
        return ""


def head_name(b: int, h: int) -> str:
    """A head as people count."""
    return f"block {b + 1}, head {h + 1}"


def label(char: str) -> str:
    """A character that can be seen, and steers nothing."""
    if char in "\n ":
        return {"\n": "↵", " ": "␣"}[char]
    if unicodedata.category(char).startswith("M"):  # a mark, which would go onto what stands before it
        return f"◌{char}"
    return printable(char)


def _over(patterns: Patterns) -> str:
    """Over how many inputs they are."""
    few, many = int(patterns.inputs.min()), int(patterns.inputs.max())
    count = f"{many:,}" if few == many else f"{few:,} to {many:,}"
    return f"mean of {count} input{'s' * (many != 1)}"
