"""A text as training data: tokens, split by position, and random batches."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from knock.errors import TextError
from knock.text import read_text
from knock.vocab import Vocab


def validation_length(length: int) -> int:
    """How many of a text's characters, its last tenth, are for validation."""
    return round(length / 10)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text ready to train on.

    Attributes:
        name: the file's name.
        sha256: digest of the text in UTF-8, in hex.
        vocab: its characters.
        train: tokens of the first 90% of the text, int64, shape (N,).
        validation: tokens of the last 10%.
    """

    name: str
    sha256: str
    vocab: Vocab
    train: Tensor
    validation: Tensor

    @classmethod
    def from_text(cls, text: str, name: str, *, lowercase: bool = False) -> Corpus:
        """Tokens of `text`, split by position: the last 10% are for validation.

        Raises:
            TextError: if the text is empty.
        """
        if not text:
            raise TextError(f"{name!r} is empty; a corpus needs text to learn from")
        vocab = Vocab.from_text(text, lowercase=lowercase)
        tokens = torch.from_numpy(vocab.encode(text)).long()
        n_train = len(tokens) - validation_length(len(tokens))
        return cls(
            name=name,
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            vocab=vocab,
            train=tokens[:n_train],
            validation=tokens[n_train:],
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, lowercase: bool = False) -> Corpus:
        """The corpus in a UTF-8 file.

        Raises:
            TextError: if the file cannot be read, is not UTF-8, or is empty.
        """
        return cls.from_text(read_text(path), Path(path).name, lowercase=lowercase)

    def __len__(self) -> int:
        return len(self.train) + len(self.validation)


def random_batch(tokens: Tensor, sequences: int, length: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and targets, the inputs' next tokens, from random places of a text: two of [sequences, length]."""
    starts = torch.from_numpy(rng.integers(len(tokens) - length, size=(sequences, 1)))
    drawn = tokens[starts + torch.arange(length + 1)]
    return drawn[:, :-1], drawn[:, 1:]
