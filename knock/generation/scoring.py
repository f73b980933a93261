"""Scoring a long text piece by piece, in threads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from knock.choices import Unknown
from knock.config import ModelConfig
from knock.cpus import available_threads
from knock.engine.engine import Engine
from knock.files.text import BYTE_ORDER_MARK
from knock.vocab import TokenArray, Vocab

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
            log_probs = log_probs_from(self._engine, read, len(self._context), progress)
            self._context = read[_reach(len(read), self._engine.config) :]
            bits = 0.0 - log_probs / math.log(2)  # 0 -, not -: there is no -0.0
            surprise[widths > 0] = np.add.reduceat(bits, (np.cumsum(widths) - widths)[widths > 0])
            self.chars += len(bits)
            self._bits += float(bits.sum())
        return surprise

    @property
    def bits_per_char(self) -> float:
        """Mean cross-entropy in bits; NaN before the first character."""
        return self._bits / self.chars if self.chars else math.nan

    @property
    def nats_per_char(self) -> float:
        """Mean cross-entropy in nats."""
        return self.bits_per_char * math.log(2)

    @property
    def perplexity(self) -> float:
        """2 to the power of the mean cross-entropy in bits; infinite if a float cannot hold it."""
        return math.inf if self.bits_per_char >= 1024 else math.exp2(self.bits_per_char)

    def _encode(self, text: str) -> tuple[TokenArray, npt.NDArray[np.intp]]:
        """Return the tokens, and how many of them each character has, [len(text)]."""
        vocab = self._vocab
        is_mark = np.zeros(len(text), np.bool_)
        if BYTE_ORDER_MARK in text and BYTE_ORDER_MARK not in vocab:
            is_mark[:] = [char == BYTE_ORDER_MARK for char in text]
            text = text.replace(BYTE_ORDER_MARK, vocab.characters[vocab.start_id])  # removed below
            self.marks += int(is_mark.sum())
        unknown, changes = vocab.examine(text)
        if unknown.size and self._unknown == "error":
            raise vocab.unknown_error(text, start=self._read, model=repr(self.name))
        self.unknown_chars.update(text[offset] for offset in unknown)
        widths = np.ones(len(text), np.intp)
        widths[unknown] = 0 if self._unknown == "skip" else 1
        for change in changes:
            widths[change.start : change.end] = 0
            widths[change.start] = len(change.text)
        tokens = vocab.encode(text, unknown=self._unknown)[np.repeat(~is_mark, widths)]
        widths[is_mark] = 0
        return tokens, widths


def log_probs_from(
    engine: Engine, tokens: TokenArray, first: int, progress: Callable[[float], None] = lambda share: None
) -> npt.NDArray[np.float64]:
    """Return the log-probability of each token of one sequence from `first` on, in nats, computed in threads.

    Args:
        engine: runs the model.
        tokens: one uninterrupted sequence, [N].
        first: at least 1: a token is predicted from those before it.
        progress: called with the share done so far.
    """
    span = positions_at_once(engine.config)
    parts, starts = [np.empty(0)], range(first, len(tokens), span)
    for part in in_threads(engine, lambda start: log_probs_between(engine, tokens, start, start + span), starts):
        parts.append(part)
        progress((len(parts) - 1) / len(starts))
    return np.concatenate(parts)


def log_probs_between(engine: Engine, tokens: npt.NDArray[np.integer], start: int, end: int) -> npt.NDArray[np.float64]:
    """Return the log-probability of each token of one sequence from `start` up to `end`, in nats, in this thread."""
    reach = _reach(start, engine.config)
    return engine.log_probs(tokens[reach : min(end, len(tokens)) - 1], tokens[reach + 1 : end])[start - reach - 1 :]


def positions_at_once(config: ModelConfig) -> int:
    """Return how many characters of a text a thread scores at a time: a fraction of a second of work.

    Past its window, an absolute model computes a whole window per character.
    """
    return _SPAN if config.position == "relative" else max(1, _SPAN // config.T)


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

    A relative model leaves out whole windows, so that each token keeps its slot in the ring, and sums over the ring
    keep their order: the scores of pieces are those of the whole text, bit for bit.
    """
    extra = max(0, offset - config.receptive_field)
    return extra // config.T * config.T if config.position == "relative" else extra
