"""Random regular expressions, and texts drawn from an automaton without a model."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from knock.engine.automaton import Automaton
from knock.engine.batch import FINISH_REASONS, LENGTH, NOT_DONE

CHARACTERS = "\n abcABC01-.é"
V = len(CHARACTERS)

_ATOMS = st.sampled_from(
    ["a", "b", "c", "é", " ", "0", r"\.", ".", r"\d", r"\w", r"\s", r"\W", "[abc]", "[^a\n]", "[A-C]", "[0-1-]", r"\n",
     "(?i:a)", "(?s:.)", r"[\w.]"]
)  # fmt: skip


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quantifiers = st.sampled_from(["*", "+", "?", "*?", "{2}", "{0}", "{1,3}", "{2,}", "{,2}"])
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, quantifiers).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        inner.map(lambda text: f"({text})"),
    )


PATTERNS = st.recursive(_ATOMS, _larger, max_leaves=8)


def tokens(text: str) -> list[int]:
    """Return the tokens of a text."""
    return [CHARACTERS.index(char) for char in text]


def draw(automaton: Automaton, seed: int, limit: int) -> tuple[str, str]:
    """Draw tokens that the automaton allows, all equally likely; return the text and why it ended."""
    rng, state, drawn, reason, cut = random.Random(seed), 0, [], NOT_DONE, 0
    if automaton.is_over(0, limit):
        return "", "match"
    for left in range(limit, 0, -1):
        allowed = automaton.allowed(state, left).nonzero()[0].tolist()
        drawn.append(rng.choice(allowed))  # raises if the text has run into a dead end
        state, reason, cut = automaton.follow(state, drawn[-1], left - 1)
        if reason != NOT_DONE:
            break
    kept = drawn[: len(drawn) - cut]
    return "".join(CHARACTERS[token] for token in kept), FINISH_REASONS[reason or LENGTH]
