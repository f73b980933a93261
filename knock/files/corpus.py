"""A corpus: files joined into one text, as tokens. Its last tenth is held out of training."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from knock.choices import Unknown
from knock.errors import TextError, VocabError
from knock.files.corpus_files import CorpusFile, files_at, joined
from knock.files.temporary import temporary_errors, temporary_file
from knock.files.text import BYTE_ORDER_MARK
from knock.vocab import TokenArray, Vocab, fold

_POINTS = 0x110000  # number of Unicode code points
_LARGE = 2**26  # characters from which tokens are stored in a memory-mapped file


def held_out_length(length: int) -> int:
    """Return how many characters at the end of a text are held out of training: a tenth."""
    return round(length / 10)


@dataclass(frozen=True, kw_only=True)
class TokenizedText:
    """A corpus as tokens.

    Attributes:
        name: file name, or several joined by " + ".
        sha256: SHA-256 of the text in UTF-8, in hexadecimal.
        vocab: vocabulary that encodes the text.
        unknown: how characters outside the vocabulary were handled.
        unknown_count: number of characters outside the vocabulary.
        min_count: how often a character had to occur to be part of a vocabulary built from the text.
        occurrences: how often each distinct character occurs, ascending.
        marks: number of byte-order marks (U+FEFF) that were dropped inside the text.
        tokens: its tokens, [N], in the smallest of uint8, int16 and int32.
    """

    name: str
    sha256: str
    vocab: Vocab
    unknown: Unknown
    unknown_count: int
    min_count: int
    occurrences: npt.NDArray[np.int64]
    marks: int
    tokens: npt.NDArray[np.integer]

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
    ) -> TokenizedText:
        """Tokenise a text.

        Args:
            text: the text.
            name: name of the text in messages and in the training record.
            vocab: vocabulary to encode with; built from the text if None.
            lowercase: whether a vocabulary built from the text maps upper-case letters to lower-case ones.
            unknown: how to handle characters outside `vocab`, as in `Vocab.encode`.
            min_count: how often a character must occur to be part of a vocabulary built from the text. Others are
                unknown, so if it is above 1, `unknown` must be "skip" or "replace".

        Raises:
            TextError: if the text is empty, or no character occurs often enough.
            VocabError: if a character is unknown and `unknown` is "error".
        """
        file = CorpusFile(name, lambda: [text] if text else [])
        return cls._from_files([file], name, vocab, lowercase, unknown, min_count)

    @classmethod
    def read(
        cls,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        vocab: Vocab | None = None,
        lowercase: bool = False,
        unknown: Unknown = "error",
        min_count: int = 1,
    ) -> TokenizedText:
        """Read a corpus from UTF-8 files, joined in the given order.

        Files are read in chunks. The tokens of a large corpus are kept in a temporary memory-mapped file. There is a
        line break between two files if the first does not end in one. Byte-order marks inside the text are dropped
        unless `vocab` has them.

        Args:
            paths: one or more files. A folder stands for all .txt files below it, in natural order: 2.txt comes before
                10.txt.
            vocab: vocabulary to encode with; built from the corpus if None.
            lowercase: as in `from_text`.
            unknown: as in `from_text`.
            min_count: as in `from_text`.

        Raises:
            TextError: if a file cannot be read or is not UTF-8, all files are empty, a folder has no .txt files, or no
                character occurs often enough.
            VocabError: if a character is unknown and `unknown` is "error".
            OutputError: if a temporary file cannot be written.
        """
        given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        name = " + ".join(Path(path).name or str(path) for path in given)
        with contextlib.ExitStack() as opened:
            files = [CorpusFile.at(file, opened) for path in given for file in files_at(Path(path))]
            return cls._from_files(files, name, vocab, lowercase, unknown, min_count)

    @classmethod
    def read_stream(
        cls,
        stream: IO[bytes],
        name: str,
        *,
        vocab: Vocab | None = None,
        lowercase: bool = False,
        unknown: Unknown = "error",
        min_count: int = 1,
    ) -> TokenizedText:
        """Read a corpus from a stream, such as standard input, by way of a temporary file.

        Other arguments and the errors are those of `read`.
        """
        with contextlib.ExitStack() as opened:
            file = CorpusFile.of_stream(stream, name, opened)
            return cls._from_files([file], name, vocab, lowercase, unknown, min_count)

    @classmethod
    def _from_files(
        cls,
        files: Sequence[CorpusFile],
        name: str,
        vocab: Vocab | None,
        lowercase: bool,
        unknown: Unknown,
        min_count: int,
    ) -> TokenizedText:
        if vocab is None and min_count > 1 and unknown == "error":
            raise VocabError(f'min_count={min_count} leaves out characters; set unknown to "skip" or "replace"')
        is_complete = vocab is None and min_count <= 1
        drops_marks = vocab is None or BYTE_ORDER_MARK not in vocab
        sha, length, marks, counts = hashlib.sha256(), 0, 0, np.zeros(_POINTS, np.int64)
        for part in joined(files):
            text = part.text.replace(BYTE_ORDER_MARK, "") if drops_marks else part.text
            sha.update(text.encode())
            length += len(text)
            marks += len(part.text) - len(text)
            found = np.bincount(np.frombuffer(text.encode("utf-32-le"), np.uint32))
            counts[: found.size] += found
        if not length:
            raise TextError(f"corpus {name!r} is empty; choose a file with text")
        occurrences = _by_character(counts, lowercase if vocab is None else vocab.lowercase)
        if vocab is None:
            characters = sorted(char for char, count in occurrences.items() if count >= min_count)
            if not characters:
                raise TextError(f"no character of corpus {name!r} occurs {min_count:,} times; lower the minimum count")
            vocab = Vocab(characters, lowercase=lowercase)
        unknown_count = 0

        def encoded() -> Iterator[TokenArray]:
            nonlocal unknown_count
            for part in joined(files):
                text = part.text.replace(BYTE_ORDER_MARK, "") if drops_marks else part.text
                if not is_complete:
                    offsets, _ = vocab.examine(text)
                    if part.file is None and offsets.size:
                        continue  # the vocabulary has no line break
                    unknown_count += offsets.size
                    if offsets.size and unknown == "error":
                        if drops_marks:  # offsets count them
                            text = part.text.replace(BYTE_ORDER_MARK, vocab.characters[vocab.start_id])
                        raise vocab.unknown_error(text, start=part.offset, source=part.file or "")
                yield vocab.encode(text, unknown=unknown)

        tokens = _concatenated(encoded(), length, vocab)
        return cls(
            name=name,
            sha256=sha.hexdigest(),
            vocab=vocab,
            unknown=unknown,
            unknown_count=unknown_count,
            min_count=min_count,
            occurrences=np.sort(np.fromiter(occurrences.values(), np.int64)),
            marks=marks,
            tokens=tokens,
        )

    @property
    def train(self) -> npt.NDArray[np.integer]:
        """Tokens to train on: the first 90%."""
        return self.tokens[: len(self.tokens) - held_out_length(len(self.tokens))]

    @property
    def held_out(self) -> npt.NDArray[np.integer]:
        """Tokens that are never trained on: the last 10%."""
        return self.tokens[len(self.train) :]


def _by_character(counts: npt.NDArray[np.int64], lowercase: bool) -> dict[str, int]:
    """Return the number of occurrences of each character of a text, or of each lower-case one.

    Args:
        counts: number of occurrences of each code point.
        lowercase: whether to count upper-case letters as lower-case ones.
    """
    occurrences = Counter[str]()
    for point in np.flatnonzero(counts).tolist():
        occurrences[fold(chr(point)) if lowercase else chr(point)] += int(counts[point])
    return occurrences


def _concatenated(pieces: Iterable[TokenArray], length: int, vocab: Vocab) -> npt.NDArray[np.integer]:
    """Concatenate arrays of tokens, in memory or, for a large corpus, in an unnamed memory-mapped file."""
    dtype = next(kind for kind in (np.uint8, np.int16, np.int32) if vocab.vocab_size - 1 <= np.iinfo(kind).max)
    if length < _LARGE:
        memory = io.BytesIO()  # grows without a second copy of all pieces
        for piece in pieces:
            memory.write(piece.astype(dtype).data)
        return np.frombuffer(memory.getbuffer(), dtype)
    with temporary_file() as file:
        for piece in pieces:
            with temporary_errors():
                file.write(piece.astype(dtype).data)
        with temporary_errors():
            file.flush()
        return np.memmap(file, dtype, "c")  # copy-on-write: PyTorch warns about arrays that are not writable
