"""Patterns of values that are alike: runs of digits, of letters and of other characters, as in C-000123."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any, NamedTuple

from knock.generation.constraints.notation import char_class, literal, one_of, repeated, widened

_MOST_SHAPES = 300  # that differ in the lengths of runs, too
_MOST_KINDS = 4  # shapes of a column that differ in the order of runs
_FEWEST = 10  # values of a column, or of one of several shapes
_LONGEST = 100  # characters of a value

_RUN = "9Aax"  # digits, upper case, lower case; letters and digits
_FINE: Mapping[int, str] = {
    ord(char): name for name, group in (("9", digits), ("A", ascii_uppercase), ("a", ascii_lowercase)) for char in group
}
_COARSE: Mapping[int, str] = dict.fromkeys(_FINE, "x")


class Shapes:
    """The shapes of all values so far, and the characters at each place of those of one shape."""

    def __init__(self) -> None:
        self._fine, self._coarse = _Alphabet(_FINE), _Alphabet(_COARSE)

    @property
    def is_possible(self) -> bool:
        """Whether they are few enough for a pattern."""
        return self._fine.is_possible or self._coarse.is_possible

    def update(self, values: Sequence[str]) -> None:
        """Add further values."""
        for alphabet in (self._fine, self._coarse):
            if alphabet.is_possible:
                alphabet.update(values)

    def spec(self) -> dict[str, Any] | None:
        """Return the fields of a column in a schema; None if there is no pattern, or it would match any word."""
        fine = self._fine.pattern() if self._fine.is_possible else None
        pattern = fine or (self._coarse.pattern(of_parts=True) if self._coarse.is_possible else None)
        return None if pattern is None else {"kind": "pattern", "pattern": pattern}


class _Places(NamedTuple):
    """What is known of one shape: the number of its values, and the characters at each place."""

    values: int
    characters: list[set[str]]


class _Alphabet:
    """Shapes in one classification of characters.

    Args:
        classes: translates a value to its shape.
    """

    def __init__(self, classes: Mapping[int, str]) -> None:
        self.is_possible = True
        self._classes = classes
        self._by_shape: dict[str, _Places] = {}

    def update(self, values: Sequence[str]) -> None:
        by_shape: dict[str, list[str]] = {}
        for value in values:
            by_shape.setdefault(value[: _LONGEST + 1].translate(self._classes), []).append(value)
        self.is_possible = (
            len(by_shape.keys() | self._by_shape.keys()) <= _MOST_SHAPES and max(map(len, by_shape)) <= _LONGEST
        )
        if not self.is_possible:
            return
        for shape, group in by_shape.items():
            count, characters = self._by_shape.get(shape, _Places(0, [set() for _ in shape]))
            for known, found in zip(characters, zip(*group, strict=True), strict=True):
                known.update(found)
            self._by_shape[shape] = _Places(count + len(group), characters)

    def pattern(self, *, of_parts: bool = False) -> str | None:
        """Return the pattern of all values; None if their shapes are too many or too rare.

        Args:
            of_parts: whether each value must have several runs.
        """
        kinds: dict[tuple[str, ...], list[str]] = {}
        for shape in self._by_shape:
            kinds.setdefault(tuple(run[0] if run[0] in _RUN else run for run in _runs(shape)), []).append(shape)
        counts = [sum(self._by_shape[shape].values for shape in shapes) for shapes in kinds.values()]
        if len(kinds) > _MOST_KINDS or min(counts) < _FEWEST or (of_parts and any(len(kind) < 2 for kind in kinds)):
            return None
        return one_of(self._of_kind(kind, shapes) for kind, shapes in kinds.items())

    def _of_kind(self, kind: tuple[str, ...], shapes: Sequence[str]) -> str:
        """Return the pattern of shapes of the same runs."""
        runs = [list(_split(shape, self._by_shape[shape].characters)) for shape in shapes]
        parts = []
        for name, places in zip(kind, zip(*runs, strict=True), strict=True):
            if name not in tuple(_RUN):
                parts.append(literal(name))
                continue
            texts = {"".join(min(place) for place in run) for run in places}
            if len(texts) == 1 and all(len(place) == 1 for run in places for place in run):
                parts.append(literal(texts.pop()))  # the same in all values
                continue
            lengths = [len(run) for run in places]
            found = set().union(*(place for run in places for place in run))
            parts.append(repeated(char_class(_class_of(name, found)), min(lengths), max(lengths)))
        return "".join(parts)


def _class_of(name: str, characters: set[str]) -> set[str]:
    """Return the class of characters of a run; letters and digits that are hexadecimal digits remain so."""
    hexadecimal = [set(digits + known) for known in ("abcdef", "ABCDEF") if characters <= set(digits + known)]
    return hexadecimal[0] if name == "x" and hexadecimal else widened(characters)


def _runs(shape: str) -> Iterator[str]:
    """Yield the runs of a shape; a character that is no letter or digit is one by itself."""
    for char, group in groupby(shape):
        run = "".join(group)
        if char in _RUN:
            yield run
        else:
            yield from run


def _split(shape: str, places: list[set[str]]) -> Iterator[list[set[str]]]:
    """Yield the places of each run of a shape."""
    start = 0
    for run in _runs(shape):
        yield places[start : start + len(run)]
        start += len(run)
