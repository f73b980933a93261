"""Scoring a long text piece by piece, in threads."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from knock.choices import Unknown
from knock.config import ModelConfig
from knock.cpus import available_threads
from knock.engine.engine import Engine
from knock.files.text import BYTE_ORDER_MARK
from knock.generation.loss import Loss
from knock.vocab import TokenArray, Vocab

_LARGEST_PERIOD = 2**14  # of the slots in the rings
_SPAN = 2**14  # positions that a thread computes at a time

Result = TypeVar("Result")


class Scorer:
    """Measures the surprise of a model at a text that arrives in pieces. The result does not depend on the pieces.

    Pieces must not separate a combining mark from the character before it: see `knock.normal_forms.unbroken`. What the
    model knows only in its other Unicode normal form is scored in that form, and the surprise of the form counts at its
    first character. Byte-order marks that the model does not know are skipped.

    Args:
        name: name of the model, for messages.
        engine: runs the model.
        vocab: its characters.
        unknown: how to handle characters that it does not know.

    Attributes:
        chars: number of characters scored.
        unknown_chars: characters that the model does not know, with their counts.
        marks: number of byte-order marks (U+FEFF) skipped.
    """

    def __init__(self, name: str, engine: Engine, vocab: Vocab, unknown: Unknown) -> None:
        self.name = name
        self._engine = engine
        self._vocab = vocab
        self.chars = 0
        self.unknown_chars: Counter[str] = Counter()
        self._unknown = unknown
        self.marks = 0
        self._read = 0
        self._bits = 0.0
        # Tokens that the next character can depend on; the first one is scored as after an empty prompt.
        self._context: TokenArray = np.array([vocab.start_id], np.int32)

    def feed(self, text: str, progress: Callable[[float], None] = lambda share: None) -> npt.NDArray[np.float64]:
        """Return the surprise of each character in bits, float64 [len(text)]; NaN for skipped characters.

        Args:
            text: the next piece.
            progress: called with the share of the piece done so far.

        Raises:
            VocabError: if the model does not know a character and `unknown` is `"error"`.
        """
        tokens, widths = self._encode(text)
        self._read += len(text)
        surprise = np.full(len(text), math.nan)
        if len(tokens):
            read = np.concatenate((self._context, tokens))
            surprise = self._surprise(log_probs_from(self._engine, read, len(self._context), progress), widths)
            self._context = read[_reach(len(read), self._engine.config) :]
        return surprise

    def _surprise(self, log_probs: npt.NDArray[np.float64], widths: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Add up the surprise of tokens, and return that of the characters in bits, NaN for those without a token.

        Args:
            log_probs: log-probabilities of the tokens in nats, [N].
            widths: number of tokens of each character.
        """
        surprise = np.full(len(widths), math.nan)
        bits = 0.0 - log_probs / math.log(2)  # 0 -, not -: there is no -0.0
        surprise[widths > 0] = np.add.reduceat(bits, (np.cumsum(widths) - widths)[widths > 0])
        self.chars += len(bits)
        self._bits += float(bits.sum())
        return surprise

    @property
    def loss(self) -> Loss:
        """Mean cross-entropy so far; NaN before the first character."""
        return Loss(self._bits * math.log(2) / self.chars if self.chars else math.nan, self.chars)

    def _encode(self, text: str, source: str = "") -> tuple[TokenArray, npt.NDArray[np.intp]]:
        """Return the tokens, and how many of them each character has, [len(text)]."""
        vocab = self._vocab
        is_mark = np.zeros(len(text), np.bool_)
        if BYTE_ORDER_MARK in text and BYTE_ORDER_MARK not in vocab:
            is_mark[:] = [char == BYTE_ORDER_MARK for char in text]
            known = vocab.characters[0 if vocab.has_boundary else vocab.start_id]
            text = text.replace(BYTE_ORDER_MARK, known)  # removed below
            self.marks += int(is_mark.sum())
        unknown, changes = vocab.examine(text)
        if unknown.size and self._unknown == "error":
            raise vocab.unknown_error(text, start=self._read, source=source, model=repr(self.name))
        self.unknown_chars.update(text[offset] for offset in unknown)
        widths = np.ones(len(text), np.intp)
        widths[unknown] = 0 if self._unknown == "skip" else 1
        for change in changes:
            widths[change.start : change.end] = 0
            widths[change.start] = len(change.text)
        tokens = vocab.encode(text, unknown=self._unknown)[np.repeat(~is_mark, widths)]
        widths[is_mark] = 0
        return tokens, widths


class ItemScorer(Scorer):
    """Measures the surprise of a model of items, at whole items. Each is scored alone, with its end.

    The end counts as a character of its item. Arguments and further attributes are those of `Scorer`.

    Attributes:
        items: number of items scored.
    """

    def __init__(self, name: str, engine: Engine, vocab: Vocab, unknown: Unknown) -> None:
        super().__init__(name, engine, vocab, unknown)
        self.items = 0

    def feed_items(
        self,
        items: Sequence[str],
        progress: Callable[[float], None] = lambda share: None,
        names: Sequence[str] = (),
    ) -> npt.NDArray[np.float64]:
        """Return the surprise of each character and, after those of each item, of its end, in bits.

        Args:
            items: the next items.
            progress: called with the share of them done so far.
            names: how error messages call the items; by default, by their numbers.

        Raises:
            VocabError: if the model does not know a character and `unknown` is `"error"`.
        """
        if not items:
            return np.empty(0)
        boundary = np.array([self._vocab.boundary], np.int32)
        end = np.ones(1, np.intp)
        tokens: list[TokenArray] = [boundary]
        widths: list[npt.NDArray[np.intp]] = []
        for name, item in zip(names or self._numbered(len(items)), items, strict=True):
            of_item, of_chars = self._encode(item, name)
            tokens += [of_item, boundary]
            widths += [of_chars, end]
        log_probs = log_probs_from(self._engine, np.concatenate(tokens), 1, progress, boundary=self._vocab.boundary)
        self.items += len(items)
        return self._surprise(log_probs, np.concatenate(widths))

    def _numbered(self, count: int) -> Iterator[str]:
        return (f"item {number:,}" for number in range(self.items + 1, self.items + count + 1))

    @property
    def loss(self) -> Loss:
        """Mean cross-entropy so far; NaN before the first item."""
        return replace(super().loss, items=self.items)


def log_probs_from(
    engine: Engine,
    tokens: TokenArray,
    first: int,
    progress: Callable[[float], None] = lambda share: None,
    *,
    boundary: int | None = None,
) -> npt.NDArray[np.float64]:
    """Return the log-probability of each token of one sequence from `first` on, in nats, computed in threads.

    Args:
        engine: runs the model.
        tokens: one uninterrupted sequence, or items separated by boundaries, [N].
        first: at least 1: a token is predicted from those before it.
        progress: called with the share done so far.
        boundary: the token that starts an item, which is scored as if it were alone; None for plain text.
    """
    span = positions_at_once(engine.config)
    starts_of_items = None if boundary is None else np.flatnonzero(tokens == boundary)

    def between(start: int) -> npt.NDArray[np.float64]:
        if starts_of_items is None:
            return log_probs_between(engine, tokens, start, start + span)
        return log_probs_of_items(engine, tokens, starts_of_items, start, start + span)

    parts, starts = [np.empty(0)], range(first, len(tokens), span)
    for part in in_threads(engine, between, starts):
        parts.append(part)
        progress((len(parts) - 1) / len(starts))
    return np.concatenate(parts)


def log_probs_between(engine: Engine, tokens: npt.NDArray[np.integer], start: int, end: int) -> npt.NDArray[np.float64]:
    """Return the log-probability of each token of one sequence from `start` up to `end`, in nats, in this thread."""
    reach = _reach(start, engine.config)
    return engine.log_probs(tokens[reach : min(end, len(tokens)) - 1], tokens[reach + 1 : end])[start - reach - 1 :]


def log_probs_of_items(
    engine: Engine, tokens: npt.NDArray[np.integer], boundaries: npt.NDArray[np.intp], start: int, end: int
) -> npt.NDArray[np.float64]:
    """Return the same of items separated by boundaries: a token depends on its item alone.

    Args:
        engine: runs the model.
        tokens: the items, [N].
        boundaries: offsets of the boundaries, ascending. What precedes the first one is the rest of an item.
        start: offset of the first token to score, at least 1.
        end: offset after the last one.
    """
    end = min(end, len(tokens))
    # The items that begin before a token to score; the first of them may have begun before the tokens.
    since, until = np.searchsorted(boundaries, [start, end - 1])
    begins = [int(boundaries[since - 1]) if since else 0, *boundaries[since:until].tolist()]
    parts = [np.empty(0)]
    for begin, following in itertools.pairwise([*begins, end - 1]):
        item = tokens[begin : following + 1]
        parts.append(log_probs_between(engine, item, max(1, start - begin), len(item)))
    return np.concatenate(parts)


def positions_at_once(config: ModelConfig) -> int:
    """Return how many characters of a text a thread scores at a time: a fraction of a second of work.

    Past its window, an absolute model computes a whole window per character.
    """
    return _SPAN if config.position == "relative" else max(1, _SPAN // config.longest_window)


def in_threads(engine: Engine, work: Callable[[int], Result], items: Sequence[int]) -> Iterator[Result]:
    """Yield the result of `work` for each item, in order; a caller that stops early cancels the rest."""
    threads = min(available_threads(), len(items))
    if threads <= 1 or engine.backend != "compiled":  # NumPy has threads of its own
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, items)


def _reach(offset: int, config: ModelConfig) -> int:
    """Return the offset of the first token that the logits at an offset depend on.

    A relative model leaves out whole windows, so that each token keeps its slot in the rings of all blocks, and sums
    over the rings keep their order: the scores of pieces are those of the whole text, bit for bit. If windows share no
    small multiple, that would be too much to compute, and last bits may differ.
    """
    extra = max(0, offset - config.receptive_field)
    period = math.lcm(*config.windows)
    return extra // period * period if config.position == "relative" and period <= _LARGEST_PERIOD else extra
