"""Constraint: what a text must match, in characters; compiled for one vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from knock.engine.automaton import FORBIDDEN, Automaton
from knock.errors import SamplingError
from knock.generation.stopping import as_written
from knock.validation import shown, whole_number
from knock.vocab import TokenArray, Vocab

if TYPE_CHECKING:
    from knock.generation.constraints.automaton import Rules


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What a text must match. Immutable, and validated on construction.

    In a model of items, it is the whole item, prompt included; otherwise it is the text after the prompt. While a text
    is drawn, characters after which it could not match are masked, so every text matches; with a limit on its length,
    those after which it could not end in time are masked, too. Masking renormalises at each step: it is not the
    model's distribution given the constraint. `exact` draws from that one.

    Attributes:
        pattern: regular expression in the syntax of `re` that the whole text must match, as a string or compiled
            without flags; None allows any text. Without lookaround, backreferences and word boundaries.
        min_length: fewest characters of the text, without the stop string.
        max_length: most characters; None for any number. A text that can end by itself, at a stop string or with its
            item, does so in time.
        ban: strings that the text must not contain.
        keep_stop: keep the stop string at the end of the text.
        exact: draw whole texts from the model's own distribution, and reject those that do not match.

    Raises:
        SamplingError: if a field is out of range.
    """

    pattern: str | re.Pattern[str] | None = None
    min_length: int = 0
    max_length: int | None = None
    ban: str | Iterable[str] = ()
    keep_stop: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", _expression(self.pattern))
        whole_number("min_length", self.min_length, 0, error=SamplingError)
        if self.max_length is not None:
            whole_number("max_length", self.max_length, 0, error=SamplingError)
            if self.max_length < self.min_length:
                raise SamplingError(
                    f"min_length={self.min_length} is above max_length={self.max_length}; no text has such a length"
                )
        ban = (self.ban,) if isinstance(self.ban, str) else self.ban
        if not isinstance(ban, Iterable) or isinstance(ban, Mapping):
            raise SamplingError(f"ban must be a string or several, got {shown(self.ban)}")
        ban = tuple(ban)
        for string in ban:
            if not isinstance(string, str) or not string:
                raise SamplingError(f"a banned string needs at least one character, got {shown(string)}")
        object.__setattr__(self, "ban", ban)

    @property
    def regex(self) -> str | None:
        """The pattern as a string."""
        return _expression(self.pattern)

    @property
    def banned(self) -> tuple[str, ...]:
        """The banned strings."""
        return tuple(self.ban)

    @property
    def shapes_text(self) -> bool:
        """Whether it says more than what the text may not contain."""
        return self.pattern is not None or self.min_length > 0 or self.max_length is not None


def _expression(pattern: str | re.Pattern[str] | None) -> str | None:
    """Return a pattern as a string.

    Raises:
        SamplingError: if it is neither a string nor compiled from one, or was compiled with flags.
    """
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        added = sorted(
            re.RegexFlag(pattern.flags & ~re.compile(pattern.pattern).flags), key=lambda flag: str(flag.name)
        )
        if added:
            names = " and ".join(f"re.{flag.name}" for flag in added)
            letters = "".join(_LETTERS.get(flag, "") for flag in added)
            instead = f"begin it with (?{letters}) instead" if letters else "compile it without"
            raise SamplingError(f"pattern must be compiled without flags, got one with {names}; {instead}")
        return pattern.pattern
    if pattern is not None and not isinstance(pattern, str):
        raise SamplingError(f"pattern must be a regular expression, got {shown(pattern)}")
    return pattern


_ANY_LENGTH = 2**30  # characters
_LETTERS = {re.ASCII: "a", re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x"}  # flags in a pattern

NO_CONSTRAINT = Constraint()
_WRONG_PROMPT = "no text that matches the constraints begins with this prompt; change one of them"


class Compiled(NamedTuple):
    """A constraint for one vocabulary, with stop strings.

    Attributes:
        automaton: what a text must match and where it ends; None if nothing restricts it.
        is_masked: whether forbidden tokens are masked.
        max_tokens: most tokens of a text, its end included; None for any number.
        from_start: whether the prompt is a part of the text.
        has_prompt: whether the automaton begins after the prompt.
    """

    automaton: Automaton | None
    is_masked: bool
    max_tokens: int | None
    from_start: bool
    has_prompt: bool = False

    def begin(self, prompt: TokenArray, limit: int) -> tuple[int, int, bool]:
        """Return where a text begins that may draw at most `limit` tokens.

        Args:
            prompt: tokens of the prompt, without the token that stands for an empty one.
            limit: most tokens to draw.

        Returns:
            The state of the automaton, the most tokens to draw, and whether the text is over before it begins.

        Raises:
            SamplingError: if the prompt does not match, or no text that matches is as short as the limit.
        """
        automaton, state = self.automaton, 0
        if automaton is None:
            return 0, limit, False
        used = len(prompt) if self.from_start else 0
        if self.from_start and not self.has_prompt:
            state = automaton.after(prompt.tolist())
            if state == FORBIDDEN:
                raise SamplingError(_WRONG_PROMPT)
        if self.max_tokens is not None:
            if self.from_start and used >= self.max_tokens:
                raise SamplingError(f"the prompt has {used:,} characters, more than max_length allows; raise it")
            limit = min(limit, self.max_tokens - used)
        shortest = automaton.shortest(state)
        if shortest > limit:
            raise SamplingError(
                f"the shortest text that matches the constraints takes {shortest:,} characters, its end included, and "
                f"the length limit is {limit:,}; raise it"
            )
        return state, limit, limit > 0 and automaton.is_over(state, limit)


@lru_cache(maxsize=8)  # as `re` keeps the patterns that were used last
def compile_constraint(
    constraint: Constraint | None, stop: tuple[str, ...], vocab: Vocab, forbidden: tuple[int, ...] = (), *,
    must_end: bool = False, prompt: tuple[int, ...] = (),
) -> Compiled:  # fmt: skip
    """Compile a constraint. The automata that were compiled last are kept.

    Args:
        constraint: the constraint; None if there is none.
        stop: stop strings.
        vocab: the model's characters.
        forbidden: tokens that are never drawn, because a bias of -inf bans them.
        must_end: whether texts that can end by themselves must do so within the limit of their length, even if nothing
            else is asked of them.
        prompt: tokens of the prompt of an item, in which no stop string is looked for. Without stop strings, an
            automaton can follow any prompt.

    Raises:
        SamplingError: if the pattern is not supported, the automaton would be too large, or nothing matches.
    """
    constraint = constraint or NO_CONSTRAINT
    stops, bans = (_tokens(strings, vocab) for strings in (stop, constraint.banned))
    if not (stops or bans or constraint.shapes_text or vocab.has_boundary):
        return Compiled(None, False, None, False)
    from knock.generation.constraints.automaton import Rules, build
    from knock.generation.constraints.positions import positions

    # All ends of a text are of one length, or the characters have to be counted state by state.
    lengths = {len(string) for string in stops} | ({1} if vocab.has_boundary else set())
    counts = constraint.max_length is not None and len(lengths) > 1
    rules = Rules(
        pattern=None if constraint.regex is None else positions(constraint.regex, vocab.characters),
        stop=stops,
        keep_stop=constraint.keep_stop,
        ban=[*bans, *([token] for token in forbidden)] if bans or constraint.shapes_text else [],
        min_length=constraint.min_length,
        max_length=constraint.max_length if counts else None,
        boundary=vocab.boundary,
        must_end=must_end or constraint.shapes_text,
        prompt=prompt,
    )
    automaton = build(rules, vocab.vocab_size)
    if automaton is None:
        raise SamplingError(_why_nothing_matches(rules, constraint, vocab))
    leaves_nothing = automaton.is_over(0, _ANY_LENGTH)
    if vocab.has_boundary and not prompt:  # an item could still be empty
        leaves_nothing = bool(bans) and build(rules._replace(min_length=1), vocab.vocab_size) is None
    if bans and constraint.pattern is None and constraint.max_length != 0 and leaves_nothing:
        raise SamplingError("the banned characters leave nothing to write; ban fewer")
    most = constraint.max_length
    return Compiled(
        automaton=automaton,
        is_masked=not constraint.exact,
        max_tokens=None if most is None else most + max(lengths, default=0),
        from_start=vocab.has_boundary,
        has_prompt=bool(prompt),
    )


def _tokens(strings: tuple[str, ...], vocab: Vocab) -> list[list[int]]:
    """Return strings in tokens, without those that have a character the model never writes."""
    written = [as_written(string, vocab) for string in strings]
    return [vocab.encode(string).tolist() for string in written if all(char in vocab for char in string)]


def _why_nothing_matches(rules: Rules, constraint: Constraint, vocab: Vocab) -> str:
    """Return the error for rules that no text matches."""
    from knock.generation.constraints.automaton import build

    def matches(**changes: Any) -> bool:
        return build(rules._replace(**changes), vocab.vocab_size) is not None

    if rules.prompt:
        return (
            _WRONG_PROMPT if matches(prompt=()) else _why_nothing_matches(rules._replace(prompt=()), constraint, vocab)
        )
    if rules.stop and matches(stop=()):
        return "the stop strings end every text before it matches; change one of them"
    if constraint.regex is not None and not matches(ban=(), min_length=0, max_length=None):
        from knock.generation.constraints.positions import why_unwritable

        why = why_unwritable(constraint.regex, vocab.characters)
        reason = f"; {why}" if why else ""
        return f"no text that the model can write matches the pattern {shown(constraint.regex)}{reason}"
    if rules.ban and matches(ban=()):
        return "the banned characters and strings leave no text that matches; ban fewer"
    most = "" if constraint.max_length is None else f" and at most {constraint.max_length:,}"
    return (
        f"no text that matches the pattern has at least {constraint.min_length:,}{most} characters; change the lengths"
    )
