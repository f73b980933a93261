"""The likeliest whole texts of a model, found by best-first search."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from knock.choices import Unknown
from knock.engine.automaton import Automaton
from knock.engine.engine import Engine
from knock.errors import GenerationError, SamplingError
from knock.generation.constraints.constraint import Compiled, Constraint, compile_constraint
from knock.generation.requests import beginning, prompt_tokens, stopless
from knock.generation.stopping import StopStrings, warn_of_impossible
from knock.validation import LONGEST, whole_number
from knock.vocab import TokenArray, Vocab

_REPORTED = 256  # prefixes between two reports of the progress


class LikelyText(NamedTuple):
    """A text with its probability.

    Attributes:
        text: the text.
        log_prob: natural logarithm of its probability after the prompt, its end included.
    """

    text: str
    log_prob: float

    @property
    def bits(self) -> float:
        """Its surprise: -log2 of its probability."""
        return abs(self.log_prob) / math.log(2)

    @property
    def probability(self) -> float:
        """Its probability."""
        return math.exp(self.log_prob)


@dataclass(frozen=True)
class MostLikely(Sequence[LikelyText]):
    """The most probable texts of a model, the likeliest first: a sequence of `LikelyText`.

    Attributes:
        texts: the texts.
        proved: how many of them are proved to be the most probable ones, in this order. The others are the most
            probable ones that the search had met by then.
        is_exact: whether the search was not stopped at its limit: all texts are proved, and if there are fewer than
            were wanted, there are no others.
        prefixes: number of beginnings of texts that were looked at.
    """

    texts: tuple[LikelyText, ...]
    proved: int
    is_exact: bool
    prefixes: int

    @overload
    def __getitem__(self, index: int) -> LikelyText: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[LikelyText, ...]: ...
    def __getitem__(self, index: int | slice) -> LikelyText | tuple[LikelyText, ...]:
        return self.texts[index]

    def __len__(self) -> int:
        return len(self.texts)


class Found(NamedTuple):
    """A whole text in tokens.

    Attributes:
        tokens: its tokens after the prompt, without the boundary or the stop string.
        log_prob: natural logarithm of its probability, its end included.
        is_proved: whether all texts that are more probable came before it.
    """

    tokens: list[int]
    log_prob: float
    is_proved: bool


class _Whole(NamedTuple):
    """A whole text that waits until no other can be more probable: its tokens without its end."""

    tokens: tuple[int, ...]


class _Prefix(NamedTuple):
    """A beginning of texts whose continuations wait in the order of their probability.

    Attributes:
        tokens: its tokens after the prompt.
        state: state of the automaton.
        log_probs: log-probability of the prefix with each token that may follow and does not end it, descending, [K].
        following: these tokens, [K].
    """

    tokens: tuple[int, ...]
    state: int
    log_probs: npt.NDArray[np.float64]
    following: TokenArray


class Search:
    """Iterates over whole texts in the order of their probability, the likeliest first.

    A prefix is at least as probable as any text that begins with it. So once a whole text is the most probable of all
    that wait, no other can be more probable: the order is exact (Hart, Nilsson and Raphael 1968, A* search). Of equal
    ones, the one that was met first comes first.

    Once the limit is reached, the whole texts that wait follow, which are not proved.

    Args:
        engine: the model.
        prompt: the prompt, [N] with N >= 1.
        automaton: what texts must match and where they end.
        state: its state after the prompt.
        length: most tokens of a text, at least 1.
        limit: number of prefixes to look at. Each takes about a kilobyte of memory.
        progress: called periodically with the number of prefixes.

    Attributes:
        prefixes: number of prefixes that were looked at.
        is_exact: whether the search was not stopped at its limit.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: TokenArray,
        automaton: Automaton,
        state: int,
        length: int,
        limit: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.prefixes = 0
        self.is_exact = True
        self._engine = engine
        self._prompt = prompt
        self._automaton = automaton
        self._state = state
        self._length = length
        self._limit = limit
        self._progress = progress
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, _Prefix | _Whole, int]] = []

    def __iter__(self) -> Iterator[Found]:
        """Yield the texts.

        Raises:
            GenerationError: if the logits are not finite.
        """
        self._expand((), self._state, 0.0)
        while self._waiting:
            cost, _, entry, rank = heapq.heappop(self._waiting)
            if isinstance(entry, _Whole):
                yield Found(list(entry.tokens), -cost, self.is_exact)
            elif self.is_exact:
                self._wait(entry, rank + 1)
                self.is_exact = self.prefixes < self._limit
                if self.is_exact:
                    token = int(entry.following[rank])
                    after = int(self._automaton.table[entry.state, token])
                    self._expand((*entry.tokens, token), after, -cost)

    def _wait(self, prefix: _Prefix, rank: int) -> None:
        """Queue the continuation of a rank, if there is one."""
        if rank < len(prefix.following):
            heapq.heappush(self._waiting, (-float(prefix.log_probs[rank]), next(self._numbers), prefix, rank))

    def _expand(self, tokens: tuple[int, ...], state: int, log_prob: float) -> None:
        """Queue the texts that end after one more token than a prefix, and the likeliest longer prefix."""
        automaton, left = self._automaton, self._length - len(tokens)
        before = np.append(self._prompt, np.array(tokens, np.int32))
        logits = self._engine.logits(before[-self._engine.config.receptive_field :])[-1].astype(np.float64)
        if not np.isfinite(logits).all():
            raise GenerationError.not_finite(len(tokens))
        allowed = np.flatnonzero(automaton.allowed(state, left)).astype(np.int32)
        shifted = logits - logits.max()
        log_probs = log_prob + (shifted - np.log(np.exp(shifted).sum()))[allowed]
        ends = automaton.ends(automaton.table[state, allowed], left - 1)
        for token, end in zip(allowed[ends].tolist(), log_probs[ends].tolist(), strict=True):
            _, _, cut = automaton.follow(state, token, left - 1)
            whole = _Whole((*tokens, token)[: len(tokens) + 1 - cut])
            heapq.heappush(self._waiting, (-end, next(self._numbers), whole, 0))
        log_probs, following = log_probs[~ends], allowed[~ends]
        order = np.argsort(-log_probs, kind="stable")
        self._wait(_Prefix(tokens, state, log_probs[order], following[order]), 0)
        self.prefixes += 1
        if self._progress is not None and self.prefixes % _REPORTED == 0:
            self._progress(self.prefixes)


def most_likely(
    engine: Engine,
    vocab: Vocab,
    n: int,
    prompt: str,
    constraint: Constraint | None,
    stop: str | Iterable[str] | None,
    max_new_tokens: int,
    limit: int,
    unknown: Unknown,
    progress: Callable[[int], None] | None,
) -> MostLikely:
    """Do what `LanguageModel.most_likely` documents."""
    n = whole_number("n", n, 1, error=SamplingError)
    limit = whole_number("limit", limit, 1, error=SamplingError)
    length = whole_number("max_new_tokens", max_new_tokens, 1, LONGEST, error=SamplingError)
    tokens, stops = prompt_tokens(prompt, vocab, unknown), StopStrings(stop).strings
    warn_of_impossible(stops, length, vocab)
    compiled = compile_constraint(constraint, stops, vocab, must_end=True, prompt=stopless(tokens, stops, vocab))
    automaton = _ending(compiled, vocab)
    state, length, is_over = compiled.begin(tokens[1:] if vocab.has_boundary else tokens, length)
    before = beginning(prompt, vocab, unknown)
    if is_over or length == 0:
        return MostLikely((LikelyText(before, 0.0),), 1, True, 0)
    search = Search(engine, tokens, automaton, state, length, limit, progress)
    found = list(itertools.islice(search, n))
    texts = tuple(LikelyText(before + vocab.decode(each.tokens), each.log_prob) for each in found)
    proved = sum(each.is_proved for each in found)
    return MostLikely(texts, proved, search.is_exact, search.prefixes)


def _ending(compiled: Compiled, vocab: Vocab) -> Automaton:
    """Return the automaton of a constraint.

    Raises:
        SamplingError: if only the limit of its length would end a text, and it is not a limit that was set as such.
    """
    automaton = compiled.automaton
    if automaton is not None:
        is_last = (automaton.table[:, : automaton.vocab_size] < 0).all(1)  # the end, or where a text cannot go on
        if compiled.max_tokens is not None or is_last.any():
            return automaton
    raise SamplingError(
        "nothing says where a text ends; give a stop string, a maximum length, or a pattern whose texts cannot become "
        "ever longer"
    )
