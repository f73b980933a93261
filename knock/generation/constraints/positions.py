"""A regular expression as the positions of its characters, and which position may follow which.

The construction is that of Glushkov 1961, "The abstract theory of automata": an automaton without empty transitions
whose states are the characters of the expression. Python's own parser reads the expression, so its syntax and its
character classes are exactly those of `re`.
"""

from __future__ import annotations

import re
import re._constants as op  # type: ignore[import-not-found]  # the type stubs leave them out
import re._parser as parser  # type: ignore[import-not-found]
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from knock.errors import SamplingError
from knock.validation import quoted, shown

Mask = npt.NDArray[np.bool_]

_MOST_POSITIONS = 100_000
_MOST_LINKS = 5_000_000  # pairs of positions that follow each other

_CATEGORIES = {
    op.CATEGORY_DIGIT: r"\d", op.CATEGORY_NOT_DIGIT: r"\D", op.CATEGORY_SPACE: r"\s", op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w", op.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip
_UNSUPPORTED = {
    op.ASSERT: "lookahead and lookbehind", op.ASSERT_NOT: "lookahead and lookbehind", op.GROUPREF: "backreferences",
    op.GROUPREF_EXISTS: "conditional groups", op.POSSESSIVE_REPEAT: "possessive quantifiers",
    op.ATOMIC_GROUP: "atomic groups",
}  # fmt: skip
_FLAGS = int(re.IGNORECASE | re.ASCII | re.DOTALL)  # those that decide which characters match
_MOST_SHOWN = 5  # parts of a pattern in an error message

# Escapes, classes, quantifiers, and, as a group, what is meant as a quantifier but is none.
_BRACES = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*(?:\d|,\d*)\}|(\{\s*[\d,][^{}]*\})", re.DOTALL
)  # fmt: skip
_AT_START = (op.AT_BEGINNING, op.AT_BEGINNING_STRING)
_AT_END = (op.AT_END, op.AT_END_STRING)


class Positions(NamedTuple):
    """A regular expression as positions; each is one character of the expression.

    Attributes:
        masks: which characters the positions read, one mask over the characters for each distinct one, [M, V].
        mask_of: index into `masks` of each position.
        follow: for each position, those that may come after it.
        first: positions that a text may begin with.
        last: positions that a text may end with.
        is_nullable: whether the empty text matches.
    """

    masks: Mask
    mask_of: list[int]
    follow: list[set[int]]
    first: set[int]
    last: set[int]
    is_nullable: bool


class _Part(NamedTuple):
    """A part of an expression: the positions that it may begin and end with, and whether it may be empty."""

    first: set[int]
    last: set[int]
    is_nullable: bool


_EMPTY = _Part(set(), set(), True)


def positions(pattern: str, characters: Sequence[str]) -> Positions:
    """Read a regular expression, in the syntax of `re`, that is to match whole texts.

    Args:
        pattern: the expression.
        characters: the characters of texts, V of them.

    Raises:
        SamplingError: if it is not a regular expression, or uses what is not supported: lookaround, backreferences,
            conditional and atomic groups, possessive quantifiers, word boundaries, and anchors inside the pattern.
    """
    if not isinstance(pattern, str):
        raise SamplingError(f"a pattern must be a regular expression, got {shown(pattern)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about brackets that may change their meaning one day
            tree = parser.parse(pattern)
        builder = _Builder(pattern, characters)
        whole = builder.sequence(tree, int(tree.state.flags), is_start=True, is_end=True)
    except (re.error, OverflowError) as error:
        raise SamplingError(f"the pattern {shown(pattern)} is not a regular expression: {error}") from error
    except RecursionError as error:
        raise SamplingError(f"the pattern {shown(pattern)} has groups nested too deeply; simplify it") from error
    return builder.result(whole)


def why_unwritable(pattern: str, characters: Sequence[str]) -> str:
    """Return what texts of some characters lack to match an expression; empty if they lack nothing.

    It names characters and classes that stand for none of the characters, and quantifiers that are none: `re` reads
    `a{2,n}` as an `a` and these five characters. The expression is one that `positions` reads.
    """
    slips = [match[1] for match in _BRACES.finditer(pattern) if match[1]]
    slips = [slip for slip in slips if _unknown_parts(re.escape(slip), characters)]
    rest = _BRACES.sub(lambda match: "(?:)" if match[1] in slips else match[0], pattern)
    unknown = _unknown_parts(rest, characters)[:_MOST_SHOWN]
    reasons = [f"it does not know {', '.join(unknown)}"] if unknown else []
    return "; ".join(
        reasons + [f"{slip} is not a quantifier such as {{2,5}} but stands for itself" for slip in slips[:1]]
    )


def _unknown_parts(pattern: str, characters: Sequence[str]) -> list[str]:
    """Return the parts of an expression that stand for none of the characters, in the order in which they occur."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = parser.parse(pattern)
    builder = _Builder(pattern, characters)
    builder.sequence(tree, int(tree.state.flags), is_start=True, is_end=True)
    return builder.unknown_parts()


class _Builder:
    def __init__(self, pattern: str, characters: Sequence[str]) -> None:
        self._pattern = pattern
        self._characters = characters
        self._masks: list[Mask] = []
        self._mask_ids: dict[tuple[Any, Any, int], int] = {}
        self._mask_of: list[int] = []
        self._follow: list[set[int]] = []
        self._links = 0

    def result(self, whole: _Part) -> Positions:
        masks = np.array(self._masks, bool).reshape(len(self._masks), len(self._characters))
        return Positions(masks, self._mask_of, self._follow, whole.first, whole.last, whole.is_nullable)

    def unknown_parts(self) -> list[str]:
        parts = zip(self._mask_ids, self._masks, strict=True)
        unknown = [(kind, value) for (kind, value, _), mask in parts if not mask.any()]
        return [quoted(chr(value)) if kind is op.LITERAL else _as_class(kind, value) for kind, value in unknown]

    def sequence(self, nodes: Iterable[Any], flags: int, *, is_start: bool = False, is_end: bool = False) -> _Part:
        """Return the part for nodes one after the other.

        Args:
            nodes: nodes of the parse tree.
            flags: of `re`, in force here.
            is_start: whether a text begins with this part.
            is_end: whether a text ends with it.
        """
        nodes, whole = list(nodes), _EMPTY
        while is_start and nodes and nodes[0][0] is op.AT and nodes[0][1] in _AT_START:
            del nodes[0]
        while is_end and nodes and nodes[-1][0] is op.AT and nodes[-1][1] in _AT_END:
            del nodes[-1]
        for i, (kind, value) in enumerate(nodes):
            edge = {"is_start": is_start and i == 0, "is_end": is_end and i == len(nodes) - 1}
            whole = self._join(whole, self._node(kind, value, flags, **edge))
        return whole

    def _node(self, kind: Any, value: Any, flags: int, *, is_start: bool, is_end: bool) -> _Part:
        if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            return self._character(kind, value, flags)
        if kind is op.SUBPATTERN:
            _, added, removed, nodes = value
            return self.sequence(nodes, (flags | added) & ~removed, is_start=is_start, is_end=is_end)
        if kind is op.BRANCH:
            parts = [self.sequence(nodes, flags, is_start=is_start, is_end=is_end) for nodes in value[1]]
            return _Part(
                set().union(*(part.first for part in parts)),
                set().union(*(part.last for part in parts)),
                any(part.is_nullable for part in parts),
            )
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):  # greedy or lazy makes no difference to what matches as a whole
            least, most, nodes = value
            return self._repeat(least, most, nodes, flags)
        what = _UNSUPPORTED.get(kind, "word boundaries and anchors inside the pattern")
        raise SamplingError(f"the pattern {shown(self._pattern)} uses {what}, which constraints do not support")

    def _repeat(self, least: int, most: int, nodes: Any, flags: int) -> _Part:
        """Return the part for `least` to `most` copies: after the required ones, each copy needs the one before it."""
        whole, is_bounded = _EMPTY, most is not op.MAXREPEAT
        last: set[int] = set()
        for copy in range(1, (most if is_bounded else max(1, least)) + 1):
            part = self.sequence(nodes, flags)
            if not part.first:
                return _EMPTY  # copies of the empty text, or of none that can match
            whole = self._join(whole, part) if copy > 1 else part
            if copy >= least or part.is_nullable:
                last |= part.last
        if not is_bounded:
            self._link(part.last, part.first)
        if most == 0:
            return _EMPTY
        return _Part(whole.first, last, least == 0 or part.is_nullable)

    def _character(self, kind: Any, value: Any, flags: int) -> _Part:
        key = kind, tuple(value) if kind is op.IN else value, flags & _FLAGS
        if key not in self._mask_ids:
            matches = re.compile(_as_class(kind, value), key[2]).fullmatch
            self._mask_ids[key] = len(self._masks)
            self._masks.append(np.array([matches(char) is not None for char in self._characters], bool))
        if len(self._follow) == _MOST_POSITIONS:
            raise SamplingError(
                f"the pattern {shown(self._pattern)} stands for more than {_MOST_POSITIONS:,} characters; lower its "
                "repetition counts"
            )
        self._mask_of.append(self._mask_ids[key])
        self._follow.append(set())
        here = {len(self._follow) - 1}
        return _Part(here, here, False)

    def _join(self, before: _Part, after: _Part) -> _Part:
        self._link(before.last, after.first)
        return _Part(
            before.first | after.first if before.is_nullable else before.first,
            before.last | after.last if after.is_nullable else after.last,
            before.is_nullable and after.is_nullable,
        )

    def _link(self, last: set[int], first: set[int]) -> None:
        self._links += len(last) * len(first)
        if self._links > _MOST_LINKS:
            raise SamplingError(f"the pattern {shown(self._pattern)} has too many optional parts in a row; simplify it")
        for position in last:
            self._follow[position] |= first


def _as_class(kind: Any, value: Any) -> str:
    """Return the expression for one character of the parse tree."""
    if kind is op.ANY:
        return "."
    if kind is op.LITERAL:
        return re.escape(chr(value))
    if kind is op.NOT_LITERAL:
        return f"[^{re.escape(chr(value))}]"
    parts = []
    if len(value) == 1 and value[0][0] is op.CATEGORY:
        return _CATEGORIES[value[0][1]]
    for item, content in value:
        if item is op.NEGATE:
            parts.append("^")
        elif item is op.LITERAL:
            parts.append(re.escape(chr(content)))
        elif item is op.RANGE:
            parts.append("-".join(re.escape(chr(end)) for end in content))
        else:
            parts.append(_CATEGORIES[content])
    return f"[{''.join(parts)}]"
