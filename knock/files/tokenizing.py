"""From the texts of a corpus to tokens: count its characters, encode it, and keep what may be larger than memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from knock.choices import Unknown
from knock.files.corpus_files import CorpusFile, joined
from knock.files.items import is_blank
from knock.files.temporary import temporary_errors, temporary_file
from knock.files.text import BYTE_ORDER_MARK
from knock.vocab import TokenArray, Vocab, fold

Tokens = npt.NDArray[np.integer]

_POINTS = 0x110000  # number of Unicode code points
_SHOWN = 60  # characters of an item in an error message
_LARGE = 2**26  # characters from which tokens are stored in a memory-mapped file


class Survey:
    """What a text consists of, counted while it is read.

    Args:
        drops_marks: whether byte-order marks are left out.

    Attributes:
        length: number of characters.
        marks: number of byte-order marks that were left out.
        counts: how often each code point occurs.
    """

    def __init__(self, *, drops_marks: bool) -> None:
        self._drops_marks = drops_marks
        self._sha = hashlib.sha256()
        self.length = self.marks = 0
        self.counts = np.zeros(_POINTS, np.int64)

    def add(self, text: str) -> None:
        """Count a piece of the text."""
        text = self._without_marks(text)
        self._sha.update(text.encode())
        self._count(text)

    def add_items(self, items: Iterable[str]) -> None:
        """Count items, except blank ones."""
        texts = [item for item in map(self._without_marks, items) if not is_blank(item)]
        self._sha.update("".join(f"{len(text)}:{text}" for text in texts).encode())
        self._count("".join(texts))

    def _without_marks(self, text: str) -> str:
        if not self._drops_marks or BYTE_ORDER_MARK not in text:
            return text
        self.marks += text.count(BYTE_ORDER_MARK)
        return text.replace(BYTE_ORDER_MARK, "")

    def _count(self, text: str) -> None:
        self.length += len(text)
        found = np.bincount(np.frombuffer(text.encode("utf-32-le"), np.uint32))
        self.counts[: found.size] += found

    @property
    def sha256(self) -> str:
        """SHA-256 of the text in UTF-8, in hexadecimal; that of items depends on where each ends."""
        return self._sha.hexdigest()


def by_character(counts: npt.NDArray[np.int64], lowercase: bool) -> dict[str, int]:
    """Return the number of occurrences of each character of a text, or of each lower-case one.

    Args:
        counts: number of occurrences of each code point.
        lowercase: whether to count upper-case letters as lower-case ones.
    """
    occurrences = Counter[str]()
    for point in np.flatnonzero(counts).tolist():
        occurrences[fold(chr(point)) if lowercase else chr(point)] += int(counts[point])
    return occurrences


class Encoder:
    """Encodes texts, and counts what the vocabulary does not have.

    Args:
        vocab: the vocabulary.
        unknown: how to handle characters outside it.
        drops_marks: whether byte-order marks are left out.
        is_complete: whether the vocabulary is known to have every character.

    Attributes:
        vocab: the vocabulary.
        unknown_count: number of characters outside the vocabulary.
        empty_count: number of items without a character, which are left out.
    """

    def __init__(self, vocab: Vocab, unknown: Unknown, *, drops_marks: bool, is_complete: bool) -> None:
        self.vocab, self._unknown = vocab, unknown
        self._drops_marks, self._is_complete = drops_marks, is_complete
        self.reset()

    def reset(self) -> None:
        """Count from 0 again: the texts are read once more."""
        self.unknown_count = self.empty_count = 0

    def encode(self, files: Sequence[CorpusFile]) -> Iterator[TokenArray]:
        """Yield the tokens of files that are joined.

        Raises:
            VocabError: at an unknown character, if it is an error.
        """
        vocab = self.vocab
        for part in joined(files):
            text = part.text.replace(BYTE_ORDER_MARK, "") if self._drops_marks else part.text
            if not self._is_complete:
                offsets, _ = vocab.examine(text)
                if part.file is None and offsets.size:
                    continue  # the vocabulary has no line break
                self.unknown_count += offsets.size
                if offsets.size and self._unknown == "error":
                    if self._drops_marks:  # offsets count them
                        text = part.text.replace(BYTE_ORDER_MARK, vocab.characters[vocab.start_id])
                    raise vocab.unknown_error(text, start=part.offset, source=repr(part.file) if part.file else "")
            yield vocab.encode(text, unknown=self._unknown)

    def known(self, items: Iterable[str]) -> list[str]:
        """Return items as the model reads them: of known characters alone, and without those that are blank.

        Raises:
            VocabError: at an unknown character, if it is an error.
        """
        given = list(items)
        texts = [text.replace(BYTE_ORDER_MARK, "") for text in given] if self._drops_marks else given
        if not self._is_complete:
            vocab = self.vocab
            unknown = {char for char in set().union(*texts) if vocab.normalize(char) not in vocab}
            if unknown:
                texts = [text if unknown.isdisjoint(text) else self._respelled(text) for text in texts]
        kept = [self.vocab.normalize(text) for text in texts if not is_blank(text)]
        self.empty_count += len(given) - len(kept)
        return kept

    def _respelled(self, item: str) -> str:
        """Return an item that has unknown characters in known ones."""
        vocab = self.vocab
        offsets, _ = vocab.examine(item)
        self.unknown_count += offsets.size
        if offsets.size and self._unknown == "error":
            raise vocab.unknown_error(item, source=repr(item if len(item) <= _SHOWN else f"{item[:_SHOWN]}..."))
        return vocab.decode(vocab.encode(item, unknown=self._unknown))


def item_tokens(items: Sequence[str], vocab: Vocab, *, is_first: bool) -> TokenArray:
    """Return the tokens of items of known characters, each followed by a boundary.

    Args:
        items: the items.
        vocab: a vocabulary with a boundary.
        is_first: whether there is a boundary before them, too.
    """
    ends = np.cumsum([0] * is_first + [len(item) for item in items], dtype=np.intp)
    return np.insert(vocab.encode("".join(items)), ends, vocab.start_id)


class TokenStore:
    """Tokens that arrive piece by piece, kept in memory or, if there are many, in an unnamed memory-mapped file.

    Args:
        vocab: determines their type, the smallest of uint8, int16 and int32.
        length: number of tokens, roughly.
        opened: closes the file.

    Raises:
        OutputError: if the file cannot be written.
    """

    def __init__(self, vocab: Vocab, length: int, opened: contextlib.ExitStack) -> None:
        kinds = (np.uint8, np.int16, np.int32)
        self._dtype = next(kind for kind in kinds if vocab.vocab_size - 1 <= np.iinfo(kind).max)
        self._memory = io.BytesIO()  # grows without a second copy of all pieces
        self._file = opened.enter_context(temporary_file()) if length >= _LARGE else None

    def add(self, tokens: Tokens) -> None:
        """Append tokens."""
        if self._file is None:
            self._memory.write(tokens.astype(self._dtype).data)
            return
        with temporary_errors():
            self._file.write(tokens.astype(self._dtype).data)

    def array(self) -> Tokens:
        """Return all tokens, [N]."""
        if self._file is None:
            return np.frombuffer(self._memory.getbuffer(), self._dtype)
        with temporary_errors():
            self._file.flush()
        return np.memmap(self._file, self._dtype, "c")  # copy-on-write: PyTorch warns about read-only arrays


def gathered(pieces: Iterable[Tokens], vocab: Vocab, length: int) -> Tokens:
    """Return pieces as one array of about `length` tokens."""
    with contextlib.ExitStack() as opened:
        store = TokenStore(vocab, length, opened)
        for piece in pieces:
            store.add(piece)
        return store.array()
