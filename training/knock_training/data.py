"""A text as training data: tokens, split by position, and random batches."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knock.choices import Unknown
from knock.errors import TextError, VocabError
from knock.files.text import read_chunks
from knock.vocab import TokenArray, Vocab

SUFFIX = ".txt"  # of the files that are read in a folder

_LARGE = 2**26  # characters, from which on tokens are in a file that is mapped, and not in memory


def validation_length(length: int) -> int:
    """How many of a text's characters, its last tenth, are for validation."""
    return round(length / 10)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text ready to train on.

    Attributes:
        name: the file's name, or those of several.
        sha256: digest of the text in UTF-8, in hex.
        vocab: its characters.
        unknown: what was done with characters that the vocabulary does not have.
        unknown_count: how many those were.
        train: tokens of the first 90% of the text, whole numbers of a type that holds them, shape (N,).
        validation: tokens of the last 10%.
    """

    name: str
    sha256: str
    vocab: Vocab
    unknown: Unknown
    unknown_count: int
    train: Tensor
    validation: Tensor

    @classmethod
    def from_text(
        cls, text: str, name: str, *, vocab: Vocab | None = None, lowercase: bool = False, unknown: Unknown = "error"
    ) -> Corpus:
        """Tokens of `text`, split by position: the last 10% are for validation.

        Args:
            text: the text.
            name: what it is called.
            vocab: the characters to read it with; its own if None.
            lowercase: whether its own vocabulary reads upper-case letters as lower-case.
            unknown: what to do with characters that `vocab` does not have, as in `Vocab.encode`.

        Raises:
            TextError: if the text is empty.
            VocabError: if a character is unknown.
        """
        return cls._made([_File(name, lambda: [text])], name, vocab, lowercase, unknown)

    @classmethod
    def read(
        cls,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        vocab: Vocab | None = None,
        lowercase: bool = False,
        unknown: Unknown = "error",
    ) -> Corpus:
        """The corpus in one or more UTF-8 files, one after the other; of a folder, in all its .txt files by name.

        Takes what `from_text` takes. A large corpus is read in pieces, and its tokens are kept in a temporary file.

        Raises:
            TextError: if a file cannot be read, is not UTF-8, or all are empty; or if a folder has no text.
            VocabError: if a character is unknown.
        """
        given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        files = [_File.at(file) for path in given for file in _files(Path(path))]
        name = " + ".join(Path(path).name or str(path) for path in given)
        return cls._made(files, name, vocab, lowercase, unknown)

    @classmethod
    def _made(cls, files: Sequence[_File], name: str, vocab: Vocab | None, lowercase: bool, unknown: Unknown) -> Corpus:
        sha, characters, length = hashlib.sha256(), set[str](), 0
        for file in files:
            for text in file.chunks():
                sha.update(text.encode())
                characters.update(text)
                length += len(text)
        if not length:
            raise TextError(f"{name!r} is empty; a corpus needs text to learn from")
        vocab = vocab or Vocab.from_text("".join(sorted(characters)), lowercase=lowercase)
        unknown_count = 0

        def encoded() -> Iterator[TokenArray]:
            nonlocal unknown_count
            for file in files:
                done = 0
                for text in file.chunks():
                    known = vocab.encode(text, unknown="skip")
                    unknown_count += len(text) - len(known)
                    if len(known) < len(text) and unknown == "error":
                        raise VocabError(_unknown_character(text, vocab, file.name, done))
                    is_final = len(known) == len(text) or unknown == "skip"
                    yield known if is_final else vocab.encode(text, unknown=unknown)
                    done += len(text)

        every = torch.from_numpy(_kept(encoded(), length, vocab))
        train = len(every) - validation_length(len(every))
        return cls(
            name=name,
            sha256=sha.hexdigest(),
            vocab=vocab,
            unknown=unknown,
            unknown_count=unknown_count,
            train=every[:train],
            validation=every[train:],
        )

    def __len__(self) -> int:
        return len(self.train) + len(self.validation)


class _File(NamedTuple):
    """A part of a corpus: its name, and its text in pieces, as often as it is asked for."""

    name: str
    chunks: Callable[[], Iterable[str]]

    @classmethod
    def at(cls, path: Path) -> _File:
        """That at a path; of a pipe, which can be read once only, the text is kept."""
        if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  # which fail for no path
            chunks = list(read_chunks(path))
            return cls(str(path), lambda: chunks)
        return cls(str(path), lambda: read_chunks(path))


def _unknown_character(text: str, vocab: Vocab, name: str, before: int) -> str:
    """The first, told: in a piece of the file called `name`, with so many characters before it."""
    characters = set(vocab.characters)
    offset = next(i for i, char in enumerate(text) if vocab.normalize(char) not in characters)
    return (
        f"unknown character {text[offset]!r} (U+{ord(text[offset]):04X}) at offset {before + offset} of {name!r}; the "
        f"model knows {vocab.describe()}. Leave it out, or skip or replace unknown characters"
    )


def _files(path: Path) -> Iterator[Path]:
    if not os.path.isdir(path):  # noqa: PTH112  # which fails for no path, however long
        yield path
        return
    files = sorted(file for file in path.rglob(f"*{SUFFIX}") if file.is_file())
    if not files:
        raise TextError(f"the folder {str(path)!r} has no {SUFFIX} files; name the files themselves")
    yield from files


def _kept(pieces: Iterable[TokenArray], length: int, vocab: Vocab) -> npt.NDArray[np.integer]:
    """Pieces as one array: in memory, or where they are large, of a file that nobody sees, mapped."""
    dtype = np.uint8 if vocab.vocab_size <= 256 else np.int32
    if length < _LARGE:
        return np.concatenate([piece.astype(dtype) for piece in pieces])
    with tempfile.TemporaryFile() as file:
        for piece in pieces:
            file.write(piece.astype(dtype).data)
        file.flush()
        return np.memmap(file, dtype, "c")  # what is not read takes no memory; "c", since PyTorch asks to write


def random_batch(tokens: Tensor, sequences: int, length: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and targets, the inputs' next tokens, from random places of a text: two of [sequences, length], int64."""
    starts = torch.from_numpy(rng.integers(len(tokens) - length, size=(sequences, 1)))
    drawn = tokens[starts + torch.arange(length + 1)].long()
    return drawn[:, :-1], drawn[:, 1:]
