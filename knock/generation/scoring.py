"""Scoring a long text piece by piece, in threads."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from knock.choices import Unknown
from knock.cpus import available_threads
from knock.engine.engine import Engine
from knock.vocab import TokenArray, Vocab

_SPAN = 2**14  # characters that a thread scores at a time


class Scorer:
    """Measures the surprise of a model at a text that arrives in pieces. The result does not depend on the pieces.

    Args:
        name: name of the model, for messages.
        engine: runs the model.
        vocab: its characters.
        unknown: how to handle characters that it does not know.

    Attributes:
        chars: number of characters scored.
        unknown_chars: characters that the model does not know, with their counts.
    """

    def __init__(self, name: str, engine: Engine, vocab: Vocab, unknown: Unknown) -> None:
        self.name = name
        self._engine = engine
        self._vocab = vocab
        self.chars = 0
        self.unknown_chars: Counter[str] = Counter()
        self._unknown = unknown
        self._known = frozenset(vocab.characters)
        self._read = 0
        self._bits = 0.0
        # Tokens that the next character can depend on; the first one is scored as after an empty prompt.
        self._context: TokenArray = np.array([vocab.start_id], np.int32)

    def feed(self, text: str) -> npt.NDArray[np.float64]:
        """Return the surprise of each character in bits, float64 [len(text)]; NaN for skipped characters.

        Raises:
            VocabError: if the model does not know a character and `unknown` is `"error"`.
        """
        tokens, is_scored = self._encode(text)
        self._read += len(text)
        surprise = np.full(len(text), math.nan)
        if len(tokens):
            read = np.concatenate((self._context, tokens))
            log_probs = self._log_probs(read, len(self._context))
            self._context = read[self._reach(len(read)) :]
            surprise[is_scored] = bits = 0.0 - log_probs / math.log(2)  # 0 -, not -: there is no -0.0
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

    def _encode(self, text: str) -> tuple[TokenArray, npt.NDArray[np.bool_]]:
        """Return the tokens, and which characters have one."""
        vocab = self._vocab
        strangers = {char for char in set(text) if vocab.normalize(char) not in self._known}
        if strangers and self._unknown == "error":
            raise vocab.unknown_error(text, start=self._read, model=repr(self.name))
        is_scored = np.ones(len(text), np.bool_)
        if strangers:
            self.unknown_chars.update(char for char in text if char in strangers)
            if self._unknown == "skip":
                is_scored = np.array([char not in strangers for char in text])
        return vocab.encode(text, unknown=self._unknown), is_scored

    def _log_probs(self, read: TokenArray, first: int) -> npt.NDArray[np.float64]:
        """Return the log-probability of each token from `first` on, in nats, computed in threads."""
        engine = self._engine

        def of_span(start: int) -> npt.NDArray[np.float64]:
            end, reach = min(start + _SPAN, len(read)), self._reach(start)
            return engine.log_probs(read[reach : end - 1], read[reach + 1 : end])[start - reach - 1 :]

        starts = range(first, len(read), _SPAN)
        if len(starts) == 1 or engine.backend != "compiled":  # NumPy has threads of its own
            return np.concatenate([of_span(start) for start in starts])
        with ThreadPoolExecutor(available_threads()) as pool:
            return np.concatenate(list(pool.map(of_span, starts)))

    def _reach(self, offset: int) -> int:
        """Return the offset of the first token that the logits at an offset depend on.

        A relative model leaves out whole windows, so that each token keeps its slot in the ring, and sums over the ring
        keep their order: the scores of pieces are those of the whole text, bit for bit.
        """
        config = self._engine.config
        extra = max(0, offset - config.receptive_field)
        return extra // config.T * config.T if config.position == "relative" else extra
