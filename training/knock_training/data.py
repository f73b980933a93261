"""Training data: a corpus as PyTorch tensors, and random batches of it. `knock.files.corpus` reads and splits it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knock.choices import Unknown
from knock.files.corpus import TokenizedText
from knock.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A tokenised text, split into training and validation data.

    Attributes:
        name: file name, or several joined by " + ".
        sha256: SHA-256 of the text in UTF-8, in hexadecimal.
        vocab: vocabulary that encodes the text.
        unknown: how characters outside the vocabulary were handled.
        unknown_count: number of characters outside the vocabulary.
        min_count: how often a character had to occur to be part of a vocabulary built from the text.
        occurrences: how often each distinct character occurs, [K] int64, ascending.
        marks: number of byte-order marks (U+FEFF) that were dropped inside the text.
        train: tokens of the first 90% of the text, [N], uint8, int16 or int32.
        validation: tokens of the last 10%, of the same type.
    """

    name: str
    sha256: str
    vocab: Vocab
    unknown: Unknown
    unknown_count: int
    min_count: int
    occurrences: npt.NDArray[np.int64]
    marks: int
    train: Tensor
    validation: Tensor

    @classmethod
    def from_text(
        cls,
        text: str,
        name: str,
        *,
        vocab: Vocab | None = None,
        lowercase: bool = False,
        unknown: Unknown = "error",
        min_count: int = 1,
    ) -> Corpus:
        """Tokenise and split a text. Arguments and errors are those of `TokenizedText.from_text`."""
        return cls.of(
            TokenizedText.from_text(text, name, vocab=vocab, lowercase=lowercase, unknown=unknown, min_count=min_count)
        )

    @classmethod
    def read(
        cls,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        vocab: Vocab | None = None,
        lowercase: bool = False,
        unknown: Unknown = "error",
        min_count: int = 1,
    ) -> Corpus:
        """Read, tokenise and split files. Arguments and errors are those of `TokenizedText.read`."""
        return cls.of(TokenizedText.read(paths, vocab=vocab, lowercase=lowercase, unknown=unknown, min_count=min_count))

    @classmethod
    def of(cls, text: TokenizedText) -> Corpus:
        """Return a tokenised text as tensors, which share its memory."""
        return cls(
            name=text.name,
            sha256=text.sha256,
            vocab=text.vocab,
            unknown=text.unknown,
            unknown_count=text.unknown_count,
            min_count=text.min_count,
            occurrences=text.occurrences,
            marks=text.marks,
            train=torch.from_numpy(text.train),
            validation=torch.from_numpy(text.held_out),
        )

    def __len__(self) -> int:
        return len(self.train) + len(self.validation)


def random_batch(tokens: Tensor, sequences: int, length: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs and targets from random offsets of a text, both int64 [sequences, length].

    A target is the token that follows its input.
    """
    starts = torch.from_numpy(rng.integers(len(tokens) - length, size=(sequences, 1)))
    drawn = tokens[starts + torch.arange(length + 1)].long()
    return drawn[:, :-1], drawn[:, 1:]
