"""Kinds of numbers and addresses that values may be of, with the range and the digits seen so far.

Each has `update`, which adds values, `is_possible`, which is False once a value is of another kind, and `spec`, which
returns the fields of a column in a schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from knock.generation.constraints.notation import char_class, literal, one_of, repeated, widened

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,29}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:([.,])([0-9]{1,14}))?")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE][-+]?([0-9]+))?")
_ADDRESS = re.compile(r"([\w+-]+(?:\.[\w+-]+)*)@([\w-]+(?:\.[\w-]+)+)", re.ASCII)
_MOST_DOMAINS = 50


class Integers:
    """Whole numbers and their range."""

    def __init__(self) -> None:
        self.is_possible = True
        self._range: list[int] = []

    def update(self, values: Sequence[str]) -> None:
        """Add values."""
        self.is_possible = all(map(_INTEGER.fullmatch, values))
        if self.is_possible:
            numbers = [*map(int, values), *self._range]
            self._range = [min(numbers), max(numbers)]

    def spec(self) -> dict[str, Any]:
        """Return the fields of the column."""
        return {"kind": "integer", "min": self._range[0], "max": self._range[1]}


class Decimals:
    """Numbers with decimals, their range, and the number of decimals."""

    def __init__(self) -> None:
        self.is_possible = True
        self._range: list[float] = []
        self._decimals: list[int] = []
        self._separators: set[str] = set()

    def update(self, values: Sequence[str]) -> None:
        """Add values."""
        matches = [_DECIMAL.fullmatch(value) for value in values]
        found = [match for match in matches if match is not None and len(match[0]) <= 16]  # exact as floats
        self._separators |= {match[1] for match in found if match[1]}
        self.is_possible = len(found) == len(values) and len(self._separators) <= 1
        if self.is_possible:
            decimals = [*(len(match[2] or "") for match in found), *self._decimals]
            self._decimals = [min(decimals), max(decimals)]
            numbers = [*(float(value.replace(",", ".")) for value in values), *self._range]
            if any(number == 0 and value[0] == "-" for number, value in zip(numbers, values, strict=False)):
                numbers.append(-(0.1 ** max(1, self._decimals[1])))  # -0.00 shows that negative ones occur
            self._range = [min(numbers), max(numbers)]

    def spec(self) -> dict[str, Any]:
        """Return the fields of the column."""
        spec = {"kind": "decimal", "min": self._range[0], "max": self._range[1], "decimals": self._decimals}
        return spec | {"separator": ","} if self._separators == {","} else spec


class Numbers:
    """Numbers as JSON has them, with exponents, and their digits."""

    def __init__(self) -> None:
        self.is_possible = True
        self._digits = [1, 1, 1]

    def update(self, values: Sequence[str]) -> None:
        """Add values."""
        matches = [_NUMBER.fullmatch(value) for value in values]
        self.is_possible = None not in matches
        for match in filter(None, matches):
            self._digits = [max(most, len(each or "")) for most, each in zip(self._digits, match.groups(), strict=True)]

    def spec(self) -> dict[str, Any]:
        """Return the fields of the column."""
        return {"kind": "number", "digits": self._digits}


class Addresses:
    """E-mail addresses, with their domains if they are few."""

    def __init__(self) -> None:
        self.is_possible = True
        self._domains: set[str] | None = set()
        self._parts = _Parts(), _Parts()

    def update(self, values: Sequence[str]) -> None:
        """Add values."""
        matches = [_ADDRESS.fullmatch(value) for value in values]
        self.is_possible = None not in matches
        for match in filter(None, matches):
            for parts, text in zip(self._parts, match.groups(), strict=True):
                parts.add(text.split("."))
            if self._domains is not None:
                self._domains.add(match[2])
                if len(self._domains) > _MOST_DOMAINS:
                    self._domains = None

    def spec(self) -> dict[str, Any]:
        """Return the fields of the column."""
        name, domain = self._parts
        domains = one_of(map(literal, sorted(self._domains))) if self._domains else domain.pattern()
        return {"kind": "pattern", "pattern": f"{name.pattern()}@{domains}"}


class _Parts:
    """Texts in parts with dots between them."""

    def __init__(self) -> None:
        self._characters: set[str] = set()
        self._lengths: list[int] = []
        self._counts: list[int] = []

    def add(self, parts: Sequence[str]) -> None:
        self._characters.update(*parts)
        lengths = [*self._lengths, *map(len, parts)]
        self._lengths = [min(lengths), max(lengths)]
        counts = [*self._counts, len(parts)]
        self._counts = [min(counts), max(counts)]

    def pattern(self) -> str:
        part = repeated(char_class(widened(self._characters)), *self._lengths)
        least, most = self._counts
        return part if most == 1 else part + repeated(rf"(?:\.{part})", least - 1, most - 1)
