"""Vocab: convert characters to token ids and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from knock.choices import UNKNOWN, Unknown
from knock.errors import UnknownCharacterError, VocabError, warn
from knock.validation import is_one_of, on_circles, quoted, shown

if TYPE_CHECKING:
    from knock.normal_forms import Respelling

_ABSENT = -1

TokenArray = npt.NDArray[np.int32]


class Vocab:
    """The characters a model knows, in the order of their token ids.

    A character is one Unicode code point, so a text of n characters is n tokens.

    Args:
        characters: distinct characters, in token order.
        lowercase: convert input to lower case.
        boundary: whether there is one more token, the last one, which is no character: it stands before and after each
            item, such as a line, of what the model was trained on.

    Raises:
        VocabError: if there are no characters, one is not a single code point, or one occurs twice.
    """

    def __init__(self, characters: Iterable[str], *, lowercase: bool = False, boundary: bool = False) -> None:
        self.characters = tuple(characters)
        self.lowercase = lowercase
        self.has_boundary = boundary
        if not self.characters:
            raise VocabError("a vocabulary must have at least one character, got none")
        for char in self.characters:
            if not isinstance(char, str) or len(char) != 1:
                raise VocabError(f"a vocabulary must consist of single characters, got {char!r}")
            if "\ud800" <= char <= "\udfff":
                raise VocabError(f"a vocabulary must consist of Unicode characters, got the lone surrogate {char!r}")
            if lowercase and char != fold(char):
                raise VocabError(f"a lower-case vocabulary cannot contain {char!r}; use {fold(char)!r}")
        if len(set(self.characters)) != len(self.characters):
            twice = next(c for i, c in enumerate(self.characters) if c in self.characters[:i])
            raise VocabError(f"the characters of a vocabulary must be distinct, got {quoted(twice)} twice")

    @classmethod
    def from_text(cls, text: str, *, lowercase: bool = False) -> Vocab:
        """Return a vocabulary of the distinct characters of `text`, in code point order.

        Raises:
            VocabError: if `text` is empty or not a string.
        """
        characters = set(_checked(text))
        if lowercase:
            characters = {fold(char) for char in characters}
        return cls(sorted(characters), lowercase=lowercase)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, V: the characters and, if there is one, the boundary."""
        return len(self.characters) + self.has_boundary

    @property
    def boundary(self) -> int | None:
        """The token before and after each item; None if the model knows no items."""
        return len(self.characters) if self.has_boundary else None

    @property
    def start_id(self) -> int:
        """Token that an empty prompt starts from: the boundary, or the newline if it is known, otherwise token 0."""
        if self.has_boundary:
            return len(self.characters)
        return self.characters.index("\n") if "\n" in self.characters else 0

    def encode(self, text: str, *, unknown: Unknown = "error", replacement: str | None = None) -> npt.NDArray[np.int32]:
        """Return the token ids of `text`, [len(text)], or fewer if unknown characters are skipped.

        What is unknown but has only known characters in its other Unicode normal form, NFC or NFD, is encoded in that
        form, with a warning. The number of tokens may then differ from that of characters.

        Args:
            text: the text to encode.
            unknown: how to handle characters outside the vocabulary: raise an `"error"`, `"skip"` or `"replace"` them.
            replacement: the character that replaces unknown ones. By default the first known one of `?`, a space and
                the first character of the vocabulary.

        Raises:
            VocabError: if a character is unknown and `unknown` is `"error"`; the message names it and its offset. Also
                if `replacement` is unknown.
        """
        if not is_one_of(unknown, UNKNOWN):
            raise VocabError(f"unknown must be one of {', '.join(UNKNOWN)}, got {shown(unknown)}")
        ids = self._ids(_checked(text))
        absent = ids == _ABSENT
        if not absent.any():
            return ids
        if changes := self.respellings(text):
            from knock.normal_forms import respelled

            form = changes[0].form
            warn(f"the model knows some characters of the text only in Unicode normal form {form}; they were converted")
            ids = self._ids(respelled(text, changes))
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
                    f"the replacement {quoted(replacement)} is not in the vocabulary; choose one of {self.describe()}"
                )
            ids[absent] = self.characters.index(replacement)
            return ids
        raise self.unknown_error(text)

    def _ids(self, text: str) -> npt.NDArray[np.int32]:
        """Return the token id of each character, `_ABSENT` for unknown ones, [len(text)]."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        if self.lowercase:
            distinct, where = np.unique(points, return_inverse=True)
            points = np.array([ord(fold(chr(point))) for point in distinct], np.uint32)[where]
        table = self._ids_by_point
        ids: npt.NDArray[np.int32] = table[np.minimum(points, table.size - 1)]
        return ids

    def examine(self, text: str) -> tuple[npt.NDArray[np.intp], list[Respelling]]:
        """Return how `encode` reads what is not in the vocabulary.

        Returns:
            The offsets of unknown characters, ascending; and the parts that are known only in their other Unicode
            normal form.
        """
        absent = self._ids(_checked(text)) == _ABSENT
        changes = self.respellings(text) if absent.any() else []
        for change in changes:
            absent[change.start : change.end] = False
        return np.flatnonzero(absent), changes

    def respellings(self, text: str) -> list[Respelling]:
        """Return the parts of a text that are known only in their other Unicode normal form."""
        from knock.normal_forms import respellings  # here, since few texts need it

        return respellings(text, lambda char: self.normalize(char) in self)

    def decode(self, tokens: npt.ArrayLike) -> str:
        """Return the text of token ids, the inverse of `encode`.

        Args:
            tokens: integers in [0, V), of shape [N].

        Raises:
            VocabError: if an id is outside [0, V).
        """
        return self._points[check_tokens(tokens, len(self.characters))].tobytes().decode("utf-32-le")

    def unknown_error(
        self, text: str, *, start: int = 0, source: str = "", model: str = "the model"
    ) -> UnknownCharacterError:
        """Return the error for the first unknown character of a text that has one.

        Args:
            text: the text, or a piece of one.
            start: offset of the piece in its source.
            source: the source, as the message names it.
            model: name of the model.
        """
        offset = int(self.examine(text)[0][0])
        char, where = text[offset], f" of {source}" if source else ""
        return UnknownCharacterError(
            f"unknown character {quoted(char)} (U+{ord(char):04X}) at offset {start + offset}{where}; {model} knows "
            f"{self.describe()}"
        )

    def normalize(self, text: str) -> str:
        """Return text as the model reads it: in lower case if `lowercase` is set."""
        return "".join(map(fold, text)) if self.lowercase else text

    def describe(self, limit: int = 100) -> str:
        """Return a description for messages, with the repr of at most `limit` characters."""
        shown = "".join(map(on_circles, self.characters[:limit]))
        more = f" and {len(self.characters) - limit} more" if len(self.characters) > limit else ""
        return f"{len(self.characters)} characters: {shown!r}{more}"

    def to_json(self) -> str:
        """Return the characters as a JSON list of strings, in token order."""
        return json.dumps(list(self.characters), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, lowercase: bool = False, boundary: bool = False) -> Vocab:
        """Build a vocabulary from the result of `to_json`.

        Raises:
            VocabError: if `text` is not a JSON list of distinct characters.
        """
        try:
            characters = json.loads(text)
        except ValueError as error:
            raise VocabError(f"a vocabulary must be a JSON list of characters: {error}") from error
        if not isinstance(characters, list):
            raise VocabError(f"a vocabulary must be a JSON list of characters, got {type(characters).__name__}")
        return cls(characters, lowercase=lowercase, boundary=boundary)

    def __len__(self) -> int:
        return self.vocab_size

    def __contains__(self, char: object) -> bool:
        return isinstance(char, str) and char in self._known

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocab):
            return NotImplemented
        return self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        return self.characters, self.lowercase, self.has_boundary

    def __repr__(self) -> str:
        flags = (", lowercase" if self.lowercase else "") + (", boundary" if self.has_boundary else "")
        return f"Vocab({self.describe(20)}{flags})"

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.characters)

    @cached_property
    def _points(self) -> npt.NDArray[np.uint32]:
        """Code point of each token, [V]."""
        return np.array([ord(char) for char in self.characters], np.dtype("<u4"))

    @cached_property
    def _ids_by_point(self) -> npt.NDArray[np.int32]:
        """Token id of each code point up to one above the largest known, `_ABSENT` for unknown ones."""
        table = np.full(int(self._points.max()) + 2, _ABSENT, np.int32)
        table[self._points] = np.arange(len(self.characters))
        return table


def check_tokens(tokens: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.int32]:
    """Return token ids as an int32 array [N].

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
        raise VocabError(f"tokens must be a sequence of whole numbers, got {ids.dtype} of shape {list(ids.shape)}")
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        raise VocabError(f"token ids must be from 0 to {vocab_size - 1}, got {ids[outside.argmax()]}")
    return ids.astype(np.int32)


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise VocabError(f"a text must be a string, got {type(text).__name__}")
    return text


def fold(char: str) -> str:
    """Return the lower case of a character if it is a single character, so that offsets do not change."""
    lower = char.lower()
    return lower if len(lower) == 1 else char
