"""Training data: a corpus as PyTorch tensors, and random batches of it. `knock.files.corpus` reads and splits it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knock.files.corpus import ItemSettings, Settings, TokenizedText
from knock.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A tokenised corpus, split into training and validation data.

    Attributes:
        text: the corpus, and what is known of it.
        train: tokens to train on, [N], uint8, int16 or int32. With items, a boundary comes first, and after each item.
        validation: tokens that are held out, of the same form.
        schema: schema of the table whose rows are the items, for the training record; None for another corpus.
    """

    text: TokenizedText
    train: Tensor
    validation: Tensor
    schema: dict[str, Any] | None = None

    @classmethod
    def from_text(cls, text: str, name: str, **settings: Unpack[Settings]) -> Corpus:
        """Tokenise and split a text. Arguments and errors are those of `TokenizedText.from_text`."""
        return cls.of(TokenizedText.from_text(text, name, **settings))

    @classmethod
    def from_items(
        cls, items: Sequence[str], name: str, held_out: Sequence[str] | None = None, **settings: Unpack[ItemSettings]
    ) -> Corpus:
        """Tokenise and split items. Arguments and errors are those of `TokenizedText.from_items`."""
        return cls.of(TokenizedText.from_items(items, name, held_out, **settings))

    @classmethod
    def read(
        cls, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **settings: Unpack[Settings]
    ) -> Corpus:
        """Read, tokenise and split files. Arguments and errors are those of `TokenizedText.read`."""
        return cls.of(TokenizedText.read(paths, **settings))

    @classmethod
    def of(cls, text: TokenizedText) -> Corpus:
        """Return a tokenised text as tensors, which share its memory."""
        return cls(text=text, train=torch.from_numpy(text.train), validation=torch.from_numpy(text.held_out))

    @property
    def name(self) -> str:
        """File name, or several joined by " + "."""
        return self.text.name

    @property
    def vocab(self) -> Vocab:
        """Vocabulary that encodes the corpus."""
        return self.text.vocab

    @property
    def identity(self) -> dict[str, Any]:
        """What the tokens depend on, as a JSON-serialisable dict."""
        text = self.text
        return {
            "corpus": text.sha256,
            "vocabulary": text.vocab.to_json(),
            "lowercase": text.vocab.lowercase,
            "unknown": text.unknown,
            "min_count": text.min_count,
            "items": None if text.items is None else text.items.to_record(),
            "validation": text.split.to_record(),
        }

    @property
    def record(self) -> dict[str, Any]:
        """What the training record says about the corpus, as a JSON-serialisable dict."""
        text = self.text
        first = 0 if text.items is None else 1  # a boundary that ends no item
        record = {
            "name": text.name,
            "sha256": text.sha256,
            "characters": len(self),
            "validation_characters": len(self.validation) - first,
        }
        if text.items is None:
            return record
        counts = {"item_count": text.train_items + text.held_out_items, "validation_items": text.held_out_items}
        return record | {"items": text.items.to_record()} | counts

    @cached_property
    def boundaries(self) -> npt.NDArray[np.intp] | None:
        """Offsets of the boundaries in the training tokens, ascending; None if the corpus is one text."""
        boundary = self.vocab.boundary
        return None if boundary is None else np.flatnonzero(self.text.train == boundary)

    def __len__(self) -> int:
        """Number of characters; of items, their ends included."""
        return len(self.text)


def random_batch(
    tokens: Tensor,
    sequences: int,
    length: int,
    rng: np.random.Generator,
    boundaries: npt.NDArray[np.intp] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return inputs and targets from random offsets, both int64 [sequences, length].

    A target is the token that follows its input. Arguments are those of `random_places`.
    """
    drawn = tokens[random_places(len(tokens), sequences, length, rng, boundaries)].long()
    return drawn[:, :-1], drawn[:, 1:]


def random_places(
    count: int,
    sequences: int,
    length: int,
    rng: np.random.Generator,
    boundaries: npt.NDArray[np.intp] | None = None,
) -> Tensor:
    """Return the places in a text of random sequences and the token after each, int64 [sequences, length + 1].

    Items form a circle, so that each is drawn equally often, however few there are: the last one ends with the boundary
    that begins the first. A sequence begins with an item, unless it would begin inside one that it cannot hold.

    Args:
        count: number of tokens of a text, or of a stream of items.
        sequences: number of sequences.
        length: their length.
        rng: chooses the offsets.
        boundaries: offsets of the boundaries in a stream of items, ascending; None for a text.
    """
    if boundaries is None:
        starts = torch.from_numpy(rng.integers(count - length, size=(sequences, 1)))
        return starts + torch.arange(length + 1)
    period = count - 1
    offsets = torch.from_numpy(item_starts(boundaries, rng.integers(period, size=(sequences, 1)), length))
    return (offsets + torch.arange(length + 1)) % period


def item_starts(
    boundaries: npt.NDArray[np.intp], offsets: npt.NDArray[np.integer], length: int
) -> npt.NDArray[np.integer]:
    """Return offsets moved back to the beginning of their items, except in items that are longer than `length` tokens.

    Args:
        boundaries: offsets of the boundaries of a stream of items, [items + 1], ascending.
        offsets: offsets in the stream, before its last boundary.
        length: the limit.
    """
    number = np.searchsorted(boundaries, offsets, side="right") - 1
    start = boundaries[number]
    return np.where(boundaries[number + 1] - start <= length, start, offsets)
