"""How the value of a field is written in a row: regular expressions of fields of CSV and of JSON."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Final

from knock.errors import SchemaError
from knock.files.tables import csv_line
from knock.generation.constraints.positions import positions
from knock.validation import shown

_MEANINGFUL = re.compile(r"[.^$*+?{}\[\]\\|()]")


def one_of(parts: Iterable[str]) -> str:
    """Return an expression of any of several."""
    parts = list(parts)
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


def literal(text: str) -> str:
    """Return an expression of a text, which only escapes what has a meaning."""
    return _MEANINGFUL.sub(r"\\\g<0>", text)


def widened(characters: set[str]) -> set[str]:
    """Return characters with all ASCII digits, upper-case or lower-case letters if one of them is there."""
    return characters.union(*(known for known in (digits, ascii_uppercase, ascii_lowercase) if characters & set(known)))


def char_class(characters: Iterable[str]) -> str:
    """Return an expression of one of some characters, with consecutive letters or digits as ranges."""
    runs: list[list[str]] = []
    for char in sorted(set(characters)):
        if runs and ord(char) == ord(runs[-1][-1]) + 1 and char.isalnum() and runs[-1][-1].isalnum():
            runs[-1].append(char)
        else:
            runs.append([char])
    if len(runs) == len(runs[0]) == 1:
        return literal(runs[0][0])
    parts = [
        f"{run[0]}-{run[-1]}" if len(run) > 2 else "".join(char if char.isalnum() or char == " " else re.escape(char)
                                                          for char in run)
        for run in runs
    ]  # fmt: skip
    return f"[{''.join(parts)}]"


def repeated(part: str, least: int, most: int | None) -> str:
    """Return an expression of copies of a character or group; `most` is None for any number."""
    if least == most:
        return part if most == 1 else f"{part}{{{most}}}"
    return f"{part}{{{least},{'' if most is None else most}}}"


class Notation(ABC):
    """How values are written."""

    @abstractmethod
    def value(self, text: str) -> str:
        """Return a value as it is written."""

    @abstractmethod
    def pattern(self, expression: str) -> str:
        """Return the expression of a field whose value matches `expression`.

        Raises:
            SchemaError: if it matches characters that would have to be escaped.
        """

    @abstractmethod
    def text(self, characters: str, least: int, most: int | None) -> str:
        """Return the expression of a field of text.

        Args:
            characters: what it is made of.
            least: fewest characters.
            most: most characters; None for any number.
        """


class _CsvField(Notation):
    """A field of RFC 4180 CSV: in quotes if it has a comma, a quote or a line break."""

    _SPECIAL: Final = ',"\n\r'

    def value(self, text: str) -> str:
        return csv_line([text, ""])[:-1]

    def pattern(self, expression: str) -> str:
        found = _matched(expression, self._SPECIAL)
        if '"' in found:
            raise _escaped(expression, '"')
        return f'"(?:{expression})"' if found else f"(?:{expression})"

    def text(self, characters: str, least: int, most: int | None) -> str:
        plain = set(characters) - set(self._SPECIAL)
        parts = [repeated(char_class(plain), least, most)] if plain else []
        if len(plain) < len(set(characters)):
            others = set(characters) - {'"'}
            inner = [char_class(others)] if others else []
            inner += ['(?:"")'] if '"' in characters else []
            parts.append('"' + repeated(one_of(inner), least, most) + '"')
        return one_of(parts)


class _JsonString(Notation):
    """A string of JSON."""

    _SPECIAL: Final = '"\\' + "".join(map(chr, range(32)))

    def value(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    def pattern(self, expression: str) -> str:
        if found := _matched(expression, self._SPECIAL):
            raise _escaped(expression, found[0])
        return f'"(?:{expression})"'

    def text(self, characters: str, least: int, most: int | None) -> str:
        plain = set(characters) - set(self._SPECIAL)
        escapes = [self.value(char)[2:-1] for char in sorted(set(characters) - plain)]  # without the backslash
        parts = [char_class(plain)] if plain else []
        if escapes:
            short, long = ([code for code in escapes if (len(code) == 1) == is_short] for is_short in (True, False))
            parts.append(r"\\" + one_of(([char_class(short)] if short else []) + long))
        each = f"(?:{'|'.join(parts)})" if escapes else parts[0]
        return '"' + repeated(each, least, most) + '"'


class _Bare(Notation):
    """A number, a truth value, a list or an object of JSON."""

    def value(self, text: str) -> str:
        return text

    def pattern(self, expression: str) -> str:
        return f"(?:{expression})"

    def text(self, characters: str, least: int, most: int | None) -> str:
        raise SchemaError("a column of kind 'text' must be of type 'string'")


CSV: Final = _CsvField()
STRING: Final = _JsonString()
BARE: Final = _Bare()


@lru_cache(maxsize=256)  # a schema is checked before each use
def _matched(expression: str, characters: str) -> str:
    """Return those of some characters that texts matched by an expression may have."""
    masks = positions(expression, characters).masks
    return "".join(char for i, char in enumerate(characters) if masks[:, i].any())


def _escaped(expression: str, char: str) -> SchemaError:
    return SchemaError(
        f"the pattern {shown(expression)} matches {shown(char)}, which is escaped in a row; exclude it, or use the "
        "kind 'text'"
    )
