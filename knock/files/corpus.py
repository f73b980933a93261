"""A corpus: files joined into one text, or their items, as tokens. About a tenth is held out of training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from knock.choices import Unknown
from knock.errors import TextError, VocabError
from knock.files.corpus_files import CorpusFile, files_at
from knock.files.items import Items
from knock.files.sources import ManyItems, OneText
from knock.files.split import Split
from knock.files.text import BYTE_ORDER_MARK
from knock.files.tokenizing import Encoder, Survey, Tokens, by_character
from knock.vocab import Vocab


class ItemSettings(TypedDict, total=False):
    """How a corpus is read: the keywords of `TokenizedText.from_items`.

    Attributes:
        vocab: vocabulary to encode with; built from the corpus if None. That of a corpus of items has a boundary.
        lowercase: whether a vocabulary built from the corpus maps upper-case letters to lower-case ones.
        unknown: how to handle characters outside `vocab`, as in `Vocab.encode`.
        min_count: how often a character must occur to be part of a vocabulary built from the corpus. Others are
            unknown, so if it is above 1, `unknown` must be "skip" or "replace".
        split: what is held out. By default the last tenth of a text, or a tenth of the items, with seed 0.
    """

    vocab: Vocab | None
    lowercase: bool
    unknown: Unknown
    min_count: int
    split: Split | None


class Settings(ItemSettings, total=False):
    """How a corpus is read: the keywords of `TokenizedText.read`, `read_stream` and `from_text`.

    Attributes:
        items: what an item is; None for a corpus that is one text.
    """

    items: Items | None


def recorded_settings(training: Mapping[str, Any]) -> Settings:
    """Return how the corpus of a model was read, from its training record: what an item is, and what was held out.

    Raises:
        TextError: if the record is not one that knock wrote.
    """
    try:
        corpus = training.get("corpus") or {}
        return {"items": Items.from_record(corpus.get("items")), "split": Split.from_record(training.get("validation"))}
    except (ValueError, AttributeError) as error:
        raise TextError(f"the training record does not say how the corpus was read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class TokenizedText:
    """A corpus as tokens.

    That of items is, on each side of the split, a boundary, then each item followed by a boundary.

    Attributes:
        name: file name, or several joined by " + ".
        sha256: SHA-256 of the text in UTF-8, in hexadecimal.
        vocab: vocabulary that encodes the text.
        unknown: how characters outside the vocabulary were handled.
        unknown_count: number of characters outside the vocabulary.
        min_count: how often a character had to occur to be part of a vocabulary built from the text.
        occurrences: how often each distinct character occurs, ascending.
        marks: number of byte-order marks (U+FEFF) that were dropped inside the text.
        split: what is held out.
        train: tokens to train on, [N], in the smallest of uint8, int16 and int32.
        held_out: tokens that are never trained on, [M].
        items: what an item is; None if the corpus is one text.
        train_items: number of items to train on.
        held_out_items: number of items that are held out.
        empty_count: number of items that were left out because they were empty.
        longest: number of characters of the longest item.
        different_items: number of different items, counted up to `knock.files.split.COUNTED`.
    """

    name: str
    sha256: str
    vocab: Vocab
    unknown: Unknown
    unknown_count: int
    min_count: int
    occurrences: npt.NDArray[np.int64]
    marks: int
    split: Split
    train: Tokens
    held_out: Tokens
    items: Items | None = None
    train_items: int = 0
    held_out_items: int = 0
    empty_count: int = 0
    longest: int = 0
    different_items: int = 0

    @classmethod
    def from_text(cls, text: str, name: str, **settings: Unpack[Settings]) -> TokenizedText:
        """Tokenise a text.

        Args:
            text: the text.
            name: name of the text in messages and in the training record.
            **settings: how to read it, as in `Settings`.

        Raises:
            TextError: if the text is empty, no character occurs often enough, or there are too few items.
            VocabError: if a character is unknown and `unknown` is "error", or the vocabulary has a boundary and the
                corpus has no items, or the other way round.
        """
        file = CorpusFile(name, lambda: [text] if text else [])
        return _tokenized(_source([file], settings), name, settings)

    @classmethod
    def from_items(
        cls,
        items: Sequence[str],
        name: str,
        held_out: Sequence[str] | None = None,
        **settings: Unpack[ItemSettings],
    ) -> TokenizedText:
        """Tokenise items.

        Args:
            items: the items; empty ones are left out.
            name: name of the corpus in messages and in the training record.
            held_out: the items to hold out, if the split says that they are given.
            **settings: how to read them, as in `ItemSettings`.

        Raises:
            TextError: if there are too few items, or no character occurs often enough.
            VocabError: if a character is unknown and `unknown` is "error", or the vocabulary has no boundary.
        """
        other = None if held_out is None else ManyItems(lambda: held_out)
        return _tokenized(ManyItems(lambda: items), name, {**settings, "items": Items(kind="texts")}, other)

    @classmethod
    def read(
        cls, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **settings: Unpack[Settings]
    ) -> TokenizedText:
        """Read a corpus from UTF-8 files, in the given order.

        Files are read in chunks. The tokens of a large corpus are kept in a temporary memory-mapped file. If the corpus
        is one text, there is a line break between two files if the first does not end in one. Byte-order marks inside
        the text are dropped unless the vocabulary has them.

        Args:
            paths: one or more files. A folder stands for all .txt files below it, in natural order: 2.txt comes before
                10.txt. If a file is an item, it stands for all files that are not hidden.
            **settings: how to read it, as in `Settings`.

        Raises:
            TextError: if a file cannot be read, is not UTF-8 or not the table it should be; also if all files are
                empty, a folder has no files, no character occurs often enough, or there are too few items.
            VocabError: as in `from_text`.
            OutputError: if a temporary file cannot be written.
        """
        given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        name = " + ".join(Path(path).name or str(path) for path in given)
        items = settings.get("items")
        every = items is not None and items.kind == "files"
        with contextlib.ExitStack() as opened:
            files = [CorpusFile.at(file, opened) for path in given for file in files_at(Path(path), every=every)]
            return _tokenized(_source(files, settings), name, settings)

    @classmethod
    def read_stream(cls, stream: IO[bytes], name: str, **settings: Unpack[Settings]) -> TokenizedText:
        """Read a corpus from a stream, such as standard input, by way of a temporary file.

        Other arguments and the errors are those of `read`.
        """
        with contextlib.ExitStack() as opened:
            return _tokenized(_source([CorpusFile.of_stream(stream, name, opened)], settings), name, settings)

    def __len__(self) -> int:
        """Number of characters; of items, their ends included."""
        first = 2 if self.items is not None else 0  # boundaries that end no item
        return len(self.train) + len(self.held_out) - first


def _source(files: Sequence[CorpusFile], settings: Settings) -> OneText | ManyItems:
    items = settings.get("items")
    return OneText(files) if items is None else ManyItems(lambda: items.read(files))


def _tokenized(
    source: OneText | ManyItems, name: str, settings: Settings, given: ManyItems | None = None
) -> TokenizedText:
    """Return a corpus as tokens, with the items that are given to be held out, if any."""
    vocab, items, unknown = settings.get("vocab"), settings.get("items"), settings.get("unknown", "error")
    lowercase, min_count = settings.get("lowercase", False), settings.get("min_count", 1)
    split = settings.get("split") or Split(how="end" if items is None else "items")
    if vocab is None and min_count > 1 and unknown == "error":
        raise VocabError(f'min_count={min_count} leaves out characters; set unknown to "skip" or "replace"')
    _check_boundary(vocab, items, split)
    drops_marks = vocab is None or BYTE_ORDER_MARK not in vocab
    with contextlib.ExitStack() as opened:
        other: OneText | ManyItems | None = given
        if split.how == "given" and given is None:
            raise TextError(
                "the validation items of this model were given as a list, so the corpus lacks them; score them "
                "as a file of their own"
            )
        if split.how == "file":
            assert split.file is not None
            other = _source([CorpusFile.at(Path(split.file), opened)], settings)
        survey, of_other = (Survey(drops_marks=drops_marks) for _ in range(2))
        source.count(survey)
        if not survey.length:
            raise _empty(name, items)
        if other is not None:
            other.count(of_other)
            if not of_other.length:
                raise _empty(split.file or "validation", items)
        occurrences = by_character(survey.counts + of_other.counts, lowercase if vocab is None else vocab.lowercase)
        is_complete = vocab is None and min_count <= 1
        if vocab is None:
            characters = sorted(char for char, count in occurrences.items() if count >= min_count)
            if not characters:
                raise TextError(f"no character of corpus {name!r} occurs {min_count:,} times; lower the minimum count")
            vocab = Vocab(characters, lowercase=lowercase, boundary=items is not None)
        encoder = Encoder(vocab, unknown, drops_marks=drops_marks, is_complete=is_complete)
        if other is None:
            train, held_out = source.divided(name, encoder, survey.length, split)
        else:
            train, held_out = (each.whole(encoder, of.length) for each, of in ((source, survey), (other, of_other)))
    return TokenizedText(
        name=name,
        sha256=survey.sha256,
        vocab=vocab,
        unknown=unknown,
        unknown_count=encoder.unknown_count,
        min_count=min_count,
        occurrences=np.sort(np.fromiter(occurrences.values(), np.int64)),
        marks=survey.marks + of_other.marks,
        split=split,
        items=items,
        empty_count=encoder.empty_count,
        train=train.tokens,
        held_out=held_out.tokens,
        train_items=train.items,
        held_out_items=held_out.items,
        different_items=max(train.different, held_out.different),
        longest=max(train.longest, held_out.longest),
    )


def _check_boundary(vocab: Vocab | None, items: Items | None, split: Split) -> None:
    """Check that a corpus of items, and no other, has a vocabulary with a boundary and a split by items."""
    if vocab is not None and vocab.has_boundary != (items is not None):
        kinds = ("plain text", "items")
        raise VocabError(
            f"the vocabulary is that of {kinds[vocab.has_boundary]}, but the corpus is read as "
            f"{kinds[items is not None]}; read it like the model's own corpus"
        )
    if split.how != "file" and (split.how in ("items", "given")) != (items is not None):
        raise TextError(
            f"a corpus of {'plain text' if items is None else 'items'} cannot be split by {split.how!r}; choose "
            + ("'end', 'blocks' or a file" if items is None else "'items' or a file")
        )


def _empty(name: str, items: Items | None) -> TextError:
    if items is None:
        return TextError(f"corpus {name!r} is empty; choose a file with text")
    return TextError(f"corpus {name!r} has no items: nothing but white space; choose a file with text")
