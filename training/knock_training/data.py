"""Training data: read a text as tokens, split it by position and draw random batches."""

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
from knock.errors import TextError
from knock.files.text import read_chunks
from knock.vocab import TokenArray, Vocab

SUFFIX = ".txt"  # files to read in a folder

_LARGE = 2**26  # characters from which tokens are stored in a memory-mapped file


def validation_length(length: int) -> int:
    """Return how many characters at the end of a text are held out for validation: a tenth."""
    return round(length / 10)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A tokenised text, split into training and validation data.

    Attributes:
        name: file name, or several joined by " + ".
        sha256: SHA-256 of the text in UTF-8, in hexadecimal.
        vocab: vocabulary that encodes the text.
        unknown: how characters outside the vocabulary were handled.
        unknown_count: number of characters outside the vocabulary.
        train: tokens of the first 90% of the text, [N], uint8 or int32.
        validation: tokens of the last 10%, of the same type.
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
        """Tokenise `text` and hold out its last 10% for validation.

        Args:
            text: text to train on.
            name: name of the text in messages and in the training record.
            vocab: vocabulary to encode with; built from the text if None.
            lowercase: whether a vocabulary built from the text maps upper-case letters to lower-case ones.
            unknown: how to handle characters outside `vocab`, as in `Vocab.encode`.

        Raises:
            TextError: if the text is empty.
            VocabError: if a character is unknown and `unknown` is "error".
        """
        return cls._from_files([_File(name, lambda: [text])], name, vocab, lowercase, unknown)

    @classmethod
    def read(
        cls,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        vocab: Vocab | None = None,
        lowercase: bool = False,
        unknown: Unknown = "error",
    ) -> Corpus:
        """Read a corpus from UTF-8 files, concatenated in the given order.

        Files are read in chunks. The tokens of a large corpus are kept in a temporary memory-mapped file.

        Args:
            paths: one or more files. A folder stands for all .txt files below it, sorted by path.
            vocab: vocabulary to encode with; built from the corpus if None.
            lowercase: whether a vocabulary built from the corpus maps upper-case letters to lower-case ones.
            unknown: how to handle characters outside `vocab`, as in `Vocab.encode`.

        Raises:
            TextError: if a file cannot be read or is not UTF-8, all files are empty, or a folder has no .txt files.
            VocabError: if a character is unknown and `unknown` is "error".
        """
        given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        files = [_File.at(file) for path in given for file in _files(Path(path))]
        name = " + ".join(Path(path).name or str(path) for path in given)
        return cls._from_files(files, name, vocab, lowercase, unknown)

    @classmethod
    def _from_files(
        cls, files: Sequence[_File], name: str, vocab: Vocab | None, lowercase: bool, unknown: Unknown
    ) -> Corpus:
        sha, characters, length = hashlib.sha256(), set[str](), 0
        for file in files:
            for text in file.chunks():
                sha.update(text.encode())
                characters.update(text)
                length += len(text)
        if not length:
            raise TextError(f"corpus {name!r} is empty; choose a file with text")
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
                        raise vocab.unknown_error(text, start=done, source=file.name)
                    is_final = len(known) == len(text) or unknown == "skip"
                    yield known if is_final else vocab.encode(text, unknown=unknown)
                    done += len(text)

        tokens = torch.from_numpy(_concatenated(encoded(), length, vocab))
        split = len(tokens) - validation_length(len(tokens))
        return cls(
            name=name,
            sha256=sha.hexdigest(),
            vocab=vocab,
            unknown=unknown,
            unknown_count=unknown_count,
            train=tokens[:split],
            validation=tokens[split:],
        )

    def __len__(self) -> int:
        return len(self.train) + len(self.validation)


class _File(NamedTuple):
    """A part of a corpus: its name and a function that returns its text in chunks. It is called twice."""

    name: str
    chunks: Callable[[], Iterable[str]]

    @classmethod
    def at(cls, path: Path) -> _File:
        """Return the file at a path. A pipe can be read only once, so its text is kept in memory."""
        # os.path returns False where pathlib would raise, for example for a name that is too long.
        if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
            chunks = list(read_chunks(path))
            return cls(str(path), lambda: chunks)
        return cls(str(path), lambda: read_chunks(path))


def _files(path: Path) -> Iterator[Path]:
    if not os.path.isdir(path):  # noqa: PTH112  # does not raise for a name that is too long
        yield path
        return
    files = sorted(file for file in path.rglob(f"*{SUFFIX}") if file.is_file())
    if not files:
        raise TextError(f"folder {str(path)!r} has no {SUFFIX} files; pass the files themselves")
    yield from files


def _concatenated(pieces: Iterable[TokenArray], length: int, vocab: Vocab) -> npt.NDArray[np.integer]:
    """Concatenate arrays of tokens, in memory or, for a large corpus, in an unnamed memory-mapped file."""
    dtype = np.uint8 if vocab.vocab_size <= 256 else np.int32
    if length < _LARGE:
        return np.concatenate([piece.astype(dtype) for piece in pieces])
    with tempfile.TemporaryFile() as file:
        for piece in pieces:
            file.write(piece.astype(dtype).data)
        file.flush()
        return np.memmap(file, dtype, "c")  # copy-on-write: PyTorch warns about arrays that are not writable


def random_batch(tokens: Tensor, sequences: int, length: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs and targets from random offsets of a text, both int64 [sequences, length].

    A target is the token that follows its input.
    """
    starts = torch.from_numpy(rng.integers(len(tokens) - length, size=(sequences, 1)))
    drawn = tokens[starts + torch.arange(length + 1)].long()
    return drawn[:, :-1], drawn[:, 1:]
