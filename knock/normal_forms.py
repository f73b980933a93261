"""Unicode normal forms: spell what a vocabulary does not know in the form that it knows.

The same text may be one character, é (U+00E9), or a letter and a combining mark, e and U+0301. The first is the
composed form, NFC; the second the decomposed form, NFD.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


class Respelling(NamedTuple):
    """A part of a text in its other normal form.

    Attributes:
        start: offset of the part.
        end: offset after the part.
        text: the part in the other form.
        form: the other form.
    """

    start: int
    end: int
    text: str
    form: Literal["NFC", "NFD"]


def respellings(text: str, is_known: Callable[[str], bool]) -> list[Respelling]:
    """Return the parts of a text that have an unknown character, and only known ones in another normal form.

    Args:
        text: the text.
        is_known: whether a character is known.
    """
    characters = set(text)
    unknown = {char for char in characters if not is_known(char)}
    joining = "".join(filter(_joins, characters))
    convertible = "".join(c for c in unknown if any(unicodedata.normalize(form, c) != c for form in _FORMS))
    # None of these characters is special in a regular expression.
    patterns = [f"[^{joining}]?[{joining}]+"] * bool(joining) + [f"[{convertible}]"] * bool(convertible)
    if not patterns or not unknown:
        return []
    memo: dict[str, tuple[str, Literal["NFC", "NFD"]] | None] = {}

    def other(part: str) -> tuple[str, Literal["NFC", "NFD"]] | None:
        if unknown.isdisjoint(part):
            return None
        spellings = ((unicodedata.normalize(form, part), form) for form in _FORMS)
        return next(((spelling, form) for spelling, form in spellings if all(map(is_known, spelling))), None)

    found = []
    for match in re.finditer("|".join(patterns), text):
        part = match[0]
        if part not in memo:
            memo[part] = other(part)
        if (spelling := memo[part]) is not None:
            found.append(Respelling(*match.span(), *spelling))
    return found


def respelled(text: str, changes: Iterable[Respelling]) -> str:
    """Return a text with the parts of `respellings` in their other form."""
    parts, done = [], 0
    for start, end, spelling, _ in changes:
        parts += [text[done:start], spelling]
        done = end
    return "".join([*parts, text[done:]])


def unbroken(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces of a text so that none begins with a combining mark of the piece before it.

    Such a mark, and the character that it belongs to, move to the next piece. Other pieces stay as they are.
    """
    held = ""
    for piece in filter(None, pieces):
        if held:
            cut = len(held)
            if _joins(piece[0]):
                cut -= 1
                while cut > 0 and _joins(held[cut]):
                    cut -= 1
            if cut > 0:
                yield held[:cut]
            held = held[cut:] + piece
        else:
            held = piece
    if held:
        yield held


def _joins(char: str) -> bool:
    """Return whether a character may be part of the one before it in NFC: a combining mark, a vowel sign, a jamo."""
    return char > "\x7f" and (unicodedata.category(char)[0] == "M" or "\u1160" <= char <= "\u11ff")
