"""Candidates for the next word or line of a text, drawn from the model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass

from knock.cli.repl.settings import CONSTRAINTS, Settings
from knock.generation.results import Generation
from knock.language_model import LanguageModel

MOST_DRAWS = 1000  # texts drawn for one step; the texts of the next step have indices of their own
_AT_ONCE = 2  # texts drawn for each candidate that is missing
_TRIES = 50  # most texts drawn for each candidate

# The beginning of a text that makes a piece, with the white space before it; and the most characters that are drawn to
# find its end.
_PIECES = {"word": (re.compile(r"\s*\S+"), 24), "line": (re.compile(r"\n*[^\n]+"), 200)}
_ENDS = {"word": re.compile(r"\s|$"), "line": re.compile(r"\n|$")}  # what may follow a whole piece
UNITS = tuple(_PIECES)


@dataclass(frozen=True)
class Candidate:
    """What may come next in a text.

    Attributes:
        text: The characters.
        surprise: Surprise of each of them in bits, by the model's own distribution.
        ends: Whether the item ends after them.
        is_whole: Whether they are a whole word or line, after which something else begins, not the beginning of a
            longer one.
    """

    text: str
    surprise: tuple[float, ...]
    ends: bool = False
    is_whole: bool = True

    @property
    def bits(self) -> float:
        """Surprise of all characters together."""
        return sum(self.surprise)


@dataclass(frozen=True)
class Draws:
    """Candidates that were drawn, and what it took.

    Attributes:
        candidates: The candidates, the least surprising first.
        next_draw: Number of the step's first text that was not drawn.
    """

    candidates: tuple[Candidate, ...]
    next_draw: int


def draw(
    model: LanguageModel, settings: Settings, unit: str, before: str, written: str, seed: int, step: int, *,
    count: int, first: int = 0, ended: str | None = None, known: Collection[Candidate] = (),
) -> Draws:  # fmt: skip
    """Draw candidates for the next piece of a text: the first different ones in the order of their draws.

    They depend on the arguments and on nothing else.

    Args:
        model: The model.
        settings: The controls. Of the constraints, a text without items heeds the banned strings alone.
        unit: `"word"` or `"line"`.
        before: The prompt.
        written: The text after it, so far.
        seed: The seed.
        step: How many pieces were chosen before.
        count: How many candidates to draw.
        first: Number of the first text to draw, of those of this step.
        ended: The unit that the text so far ends with, which candidates must not lengthen; None if they may.
        known: Candidates that are not to be drawn again.

    Raises:
        VocabError: if the text has an unknown character.
        SamplingError: if no text matches the constraints.
        Interrupted: on Ctrl-C.
    """
    pattern, length = _PIECES[unit]
    found: dict[tuple[str, bool], Candidate] = {}
    excluded = {(each.text, each.ends) for each in known}
    names = CONSTRAINTS if model.vocab.has_boundary else ("ban",)
    texts = model.sample_iter(
        itertools.repeat(before + written, max(0, min(MOST_DRAWS - first, _TRIES * count))),
        settings.controls(), seed=seed, first=step * MOST_DRAWS + first, max_new_tokens=length,
        unknown=settings.unknown, token_stats=True, at_once=lambda: _AT_ONCE * (count - len(found)),
        **{name: getattr(settings, name) for name in names},
    )  # fmt: skip
    drawn = first
    for text in texts:
        drawn += 1
        candidate = _cut(text, pattern)
        key = candidate.text, candidate.ends
        may_follow = ended is None or _ENDS[ended].match(candidate.text)
        if any(key) and key not in excluded and may_follow and not _has_banned(written, candidate.text, settings.ban):
            found.setdefault(key, candidate)
        if len(found) == count:
            break
    ranked = sorted(found.values(), key=lambda each: each.bits)
    return Draws(tuple(ranked), drawn)


def _cut(text: Generation, pattern: re.Pattern[str]) -> Candidate:
    """Return the beginning of a text up to the end of its first piece."""
    match = pattern.match(text.text)
    end = match.end() if match else len(text.text)
    assert text.token_stats is not None
    surprise = tuple(text.token_stats.surprise[:end].tolist())
    ends = text.finish_reason == "end" and end == len(text.text)
    return Candidate(text.text[:end], surprise, ends, is_whole=ends or end < len(text.text))


def _has_banned(written: str, text: str, banned: Iterable[str]) -> bool:
    """Whether a piece completes a banned string, which may begin in the text before it."""
    return any(string in written[len(written) - min(len(written), len(string) - 1) :] + text for string in banned)


def joint(text: str, addition: str, unit: str, known: Container[str]) -> str:
    """Return what belongs between a text and words that the user adds to it: a space, a newline or nothing.

    Args:
        text: The text so far.
        addition: What is added. If it begins with white space or punctuation, it is added as it is.
        unit: `"word"` or `"line"`.
        known: The characters that the model knows.
    """
    between = {"word": " ", "line": "\n"}[unit]
    is_open = text != "" and not text[-1].isspace()
    is_word = addition[:1].isalnum() or (unit == "line" and not addition[:1].isspace())
    return between if is_open and is_word and between in known else ""
