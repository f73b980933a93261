"""Vocab: characters to token ids and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from knock.choices import UNKNOWN, Unknown
from knock.errors import VocabError

_ABSENT = -1

TokenArray = npt.NDArray[np.int32]


class Vocab:
    """The characters a model knows. A character's token id is its place among them.

    A character is one Unicode code point, so a text of n characters is n tokens.

    Args:
        characters: the characters in token order, each once.
        lowercase: read upper-case input as lower-case.

    Raises:
        VocabError: if there is no character, one is not a single code point, or one stands twice.
    """

    def __init__(self, characters: Iterable[str], *, lowercase: bool = False) -> None:
        self.characters = tuple(characters)
        self.lowercase = lowercase
        if not self.characters:
            raise VocabError("a vocabulary needs at least one character, got none")
        for char in self.characters:
            if not isinstance(char, str) or len(char) != 1:
                raise VocabError(f"a vocabulary is made of single characters, got {char!r}")
            if "\ud800" <= char <= "\udfff":
                raise VocabError(f"a vocabulary is made of Unicode characters, got the lone surrogate {char!r}")
            if lowercase and char != _fold(char):
                raise VocabError(f"a lower-case vocabulary cannot hold {char!r}, which reads as {_fold(char)!r}")
        if len(set(self.characters)) != len(self.characters):
            twice = next(c for i, c in enumerate(self.characters) if c in self.characters[:i])
            raise VocabError(f"a vocabulary has each character once, got {twice!r} twice")

    @classmethod
    def from_text(cls, text: str, *, lowercase: bool = False) -> Vocab:
        """The distinct characters of `text`, in code point order.

        Raises:
            VocabError: if `text` is empty or no string.
        """
        characters = set(_checked(text))
        if lowercase:
            characters = {_fold(char) for char in characters}
        return cls(sorted(characters), lowercase=lowercase)

    @property
    def vocab_size(self) -> int:
        """Number of characters, V."""
        return len(self.characters)

    @property
    def start_id(self) -> int:
        """The token that an empty prompt starts from: the newline, or token 0 where there is none."""
        return self.characters.index("\n") if "\n" in self.characters else 0

    def encode(self, text: str, *, unknown: Unknown = "error", replacement: str | None = None) -> npt.NDArray[np.int32]:
        """Token ids of `text`, shape (len(text),), fewer where unknown characters are skipped.

        Args:
            text: any string.
            unknown: what to do with a character outside the vocabulary: `"error"`, `"skip"` it, or `"replace"` it.
            replacement: the known character that stands in for an unknown one; left out, `?`, or a space where the
                vocabulary has none, or else its first character.

        Raises:
            VocabError: at an unknown character when `unknown` is `"error"`, naming it and its offset; or if
                `replacement` is itself unknown.
        """
        if unknown not in UNKNOWN:
            raise VocabError(f"unknown must be one of {', '.join(UNKNOWN)}, got {unknown!r}")
        points = np.frombuffer(_checked(text).encode("utf-32-le", "surrogatepass"), np.uint32)
        if self.lowercase:
            distinct, where = np.unique(points, return_inverse=True)
            points = np.array([ord(_fold(chr(point))) for point in distinct], np.uint32)[where]
        table = self._ids_by_point
        ids: npt.NDArray[np.int32] = table[np.minimum(points, table.size - 1)]
        absent = ids == _ABSENT
        if not absent.any():
            return ids
        if unknown == "skip":
            return np.compress(~absent, ids)
        if unknown == "replace":
            if replacement is None:
                replacement = next((char for char in "? " if char in self), self.characters[0])
            if replacement not in self:
                raise VocabError(
                    f"the replacement {replacement!r} is not in the vocabulary; choose one of {self.describe()}"
                )
            ids[absent] = self.characters.index(replacement)
            return ids
        offset = int(absent.argmax())
        raise VocabError(
            f"unknown character {text[offset]!r} (U+{ord(text[offset]):04X}) at offset {offset}; "
            f"the model knows {self.describe()}. Leave it out, or skip or replace unknown characters"
        )

    def decode(self, tokens: npt.ArrayLike) -> str:
        """The text of token ids, the inverse of `encode`.

        Args:
            tokens: integers in [0, V), any shape (N,).

        Raises:
            VocabError: if an id is outside [0, V).
        """
        return self._points[check_tokens(tokens, self.vocab_size)].tobytes().decode("utf-32-le")

    def normalize(self, text: str) -> str:
        """Text as the model reads it: lower case, where the vocabulary has no other."""
        return "".join(map(_fold, text)) if self.lowercase else text

    def describe(self, limit: int = 60) -> str:
        """The vocabulary in a few words, for messages: printable characters together, cut at `limit`."""
        shown = "".join(self.characters)
        more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
        return f"{self.vocab_size} characters: {shown[:limit]!r}{more}"

    def to_json(self) -> str:
        """The characters as a JSON list of strings, in token order."""
        return json.dumps(list(self.characters), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, lowercase: bool = False) -> Vocab:
        """The inverse of `to_json`.

        Raises:
            VocabError: if `text` is not a JSON list of distinct characters.
        """
        try:
            characters = json.loads(text)
        except ValueError as error:
            raise VocabError(f"a vocabulary is a JSON list of characters, got something else: {error}") from error
        if not isinstance(characters, list):
            raise VocabError(f"a vocabulary is a JSON list of characters, got {type(characters).__name__}")
        return cls(characters, lowercase=lowercase)

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, char: object) -> bool:
        return char in self.characters

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocab):
            return NotImplemented
        return self.characters == other.characters and self.lowercase == other.lowercase

    def __hash__(self) -> int:
        return hash((self.characters, self.lowercase))

    def __repr__(self) -> str:
        return f"Vocab({self.describe(20)}{', lowercase' if self.lowercase else ''})"

    @cached_property
    def _points(self) -> npt.NDArray[np.uint32]:
        """Code point of each token, shape (V,)."""
        return np.array([ord(char) for char in self.characters], np.dtype("<u4"))

    @cached_property
    def _ids_by_point(self) -> npt.NDArray[np.int32]:
        """Token id of each code point up to one more than the largest known, `_ABSENT` where there is none."""
        table = np.full(int(self._points.max()) + 2, _ABSENT, np.int32)
        table[self._points] = np.arange(self.vocab_size)
        return table


def check_tokens(tokens: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.int32]:
    """Token ids as an int32 array of shape (N,).

    Raises:
        VocabError: if they are not a sequence of whole numbers in [0, V).
    """
    try:
        ids = np.asarray(tokens)
    except ValueError as error:
        raise VocabError(f"tokens must be a sequence of whole numbers, got a ragged one: {error}") from error
    if ids.ndim == 1 and ids.size == 0:
        return np.empty(0, np.int32)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise VocabError(f"tokens must be a sequence of whole numbers, got {ids.dtype} of shape {ids.shape}")
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        raise VocabError(f"token ids run from 0 to {vocab_size - 1}, got {ids[outside.argmax()]}")
    return ids.astype(np.int32)


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise VocabError(f"a text is a string, got {type(text).__name__}")
    return text


def _fold(char: str) -> str:
    """Lower case, where that is one character too, so that offsets stay what they were."""
    lower = char.lower()
    return lower if len(lower) == 1 else char
