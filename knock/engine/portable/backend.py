"""The portable backend: the NumPy twin of the kernels, a token at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from knock import reference
from knock.choices import Backend, Precision
from knock.engine.batch import Request
from knock.engine.numpy_backend import NumpyJob, NumpyStream
from knock.engine.portable.arithmetic import Floats
from knock.engine.portable.model import Cache, PortableModel
from knock.engine.portable.sampler import log_probabilities, sample
from knock.errors import GenerationError
from knock.vocab import TokenArray
from knock.weights import Weights

_LOGITS_AT_ONCE = 256  # positions of one forward pass, which bounds its memory


@dataclass
class Reading:
    """A sequence that has been read.

    Attributes:
        cache: of its keys and values.
        tokens: in an absolute model, the last ones, at most T.
    """

    cache: Cache
    tokens: list[int] = field(default_factory=list)


class PortableBackend:
    """A model run by NumPy on codes, to the same bits as the kernels.

    Args:
        weights: the model.
        precision: `"int16"` or `"int8"`.
    """

    name: Backend = "numpy"

    def __init__(self, weights: Weights, precision: Precision) -> None:
        self.config = weights.config
        self._model = PortableModel(weights, precision)

    def logits(self, ids: TokenArray) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        """Yield the logits of a sequence in pieces of [n, V], each with its first position."""
        config = self.config
        if config.position == "absolute" and len(ids) > config.longest_window:
            T = config.longest_window
            yield 0, self._model.forward(ids[:T]).astype(np.float64)
            for start in range(T, len(ids)):  # each position needs a window of its own
                yield start, self._model.forward(ids[start - T + 1 : start + 1])[-1:].astype(np.float64)
            return
        history = config.receptive_field - 1
        for start in range(0, len(ids), _LOGITS_AT_ONCE):
            first = max(0, start - history) if config.position == "relative" else 0
            piece = self._model.forward(ids[first : start + _LOGITS_AT_ONCE])
            yield start, piece[start - first :].astype(np.float64)

    def log_probs(self, ids: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]:
        """Return the log-probability of each target after its token, in nats: [N], [N] -> [N]."""
        out = np.empty(len(ids))
        for start, logits in self.logits(ids):
            finite = np.isfinite(logits).all(-1)
            if not finite.all():
                raise GenerationError.not_finite(start + int(finite.argmin()))
            part = slice(start, start + len(logits))
            out[part] = log_probabilities(logits.astype(np.float32), targets[part])
        return out

    def empty_cache(self) -> Reading:
        """Return the cache of an empty sequence."""
        return Reading(self._model.empty_cache())

    def read(self, tokens: TokenArray, cache: Reading) -> tuple[Floats, Reading]:
        """Return the logits after more tokens, and the updated cache: [N] -> [V]."""
        logits = np.empty(0, np.float32)
        for token in tokens.tolist():
            if self.config.position == "absolute":
                is_full = len(cache.tokens) == self.config.longest_window
                cache.tokens = [*cache.tokens[is_full:], token]
                if is_full:  # all slots have shifted
                    logits = self._model.forward(np.array(cache.tokens))[-1]
                    continue
            logits = self._model.step(token, cache.cache)
        return logits, cache

    def draw(
        self,
        logits: Floats,
        request: Request,
        u: float,
        mu: float,
        bias: npt.NDArray[np.float64] | None,
        allowed: npt.NDArray[np.bool_] | None,
        context: npt.NDArray[np.int64] | None,
    ) -> reference.Draw:
        """Draw the next token of a sequence."""
        narrow = None if bias is None else bias.astype(np.float32)
        return sample(logits, request.sampling, u, mu, narrow, allowed, context)

    def stream(self, request: Request, seed: int) -> NumpyStream:
        """Return the sequence that a request begins."""
        return NumpyStream(self, request, seed)

    def job(self, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int) -> NumpyJob:
        """Return a job that generates requests."""
        return NumpyJob(self, requests, seed, keep_stats)
