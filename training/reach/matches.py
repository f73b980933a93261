"""Earlier occurrences of what was just read: where they are, and a cache that copies what followed them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SHORTEST, LONGEST = 5, 32  # characters of a match
Floats = npt.NDArray[np.float64]


class Matches(NamedTuple):
    """For each position of a text, the longest earlier occurrence of the characters before it.

    Attributes:
        length: characters of the match, [N]; 0 if there is none of `SHORTEST` or more, and at most `LONGEST`.
        copied: the token that followed its latest earlier occurrence, [N]; -1 without a match.
    """

    length: npt.NDArray[np.int64]
    copied: npt.NDArray[np.int64]


def find_matches(tokens: npt.NDArray[np.integer], window: int, block: int | None = None) -> Matches:
    """Find the longest match of the characters before each position, within the window before it.

    Args:
        tokens: a text, [N].
        window: number of characters back from the position that a match and what followed it may begin.
        block: length of independent blocks, across which nothing matches; None for one stream.
    """
    text = tokens.tolist()
    length, copied = np.zeros(len(text), np.int64), np.full(len(text), -1)
    step = block or max(1, len(text))
    for start in range(0, len(text), step):
        end = min(len(text), start + step)
        latest: dict[tuple[int, ...], int] = {}  # where the characters before a position were last seen
        earlier = [-1] * (end - start)  # the occurrence before that
        for t in range(start + SHORTEST, end):
            key = tuple(text[t - SHORTEST : t])
            place = earlier[t - start] = latest.get(key, -1)
            while place >= 0 and t - place + SHORTEST <= window:
                size = SHORTEST
                while size < LONGEST and place - size > start and text[place - size - 1] == text[t - size - 1]:
                    size += 1
                if size > length[t]:
                    length[t], copied[t] = size, text[place]
                place = earlier[place - start]
            latest[key] = t
    return Matches(length, copied)


def with_copies(surprise: Floats, tokens: npt.NDArray[np.integer], matches: Matches) -> Floats:
    """Return the surprise of each character with a copy cache, in nats, [N].

    The cache expects what followed the longest match. Its share of the mixture depends on the length of the match
    alone. The shares for one half of the text are those that suit the other half.

    Args:
        surprise: surprise of each character without the cache, in nats, [N].
        tokens: the text, [N].
        matches: the matches of each position.
    """
    alone, is_hit = np.exp(-surprise), matches.copied == tokens
    mixed = alone.copy()
    halves = np.arange(len(tokens)) < len(tokens) // 2
    for length in range(SHORTEST, LONGEST + 1):
        for half in (halves, ~halves):
            fitted, used = ((matches.length == length) & each for each in (~half, half))
            share = _share(alone[fitted], is_hit[fitted])
            mixed[used] = (1 - share) * alone[used] + share * is_hit[used]
    return -np.log(mixed)


def _share(alone: Floats, is_hit: npt.NDArray[np.bool_], steps: int = 30) -> float:
    """Return the share of the cache with the highest likelihood, by expectation maximisation; 0 without any data."""
    share = 0.5
    for _ in range(steps):
        cached = share * is_hit
        # One miss that the model expected with certainty keeps the share below 1 where there are few data.
        share = float((cached / (cached + (1 - share) * alone)).sum() / (len(alone) + 1))
    return share
