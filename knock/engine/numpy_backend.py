"""The NumPy backend: the float64 reference, a token at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from knock import reference
from knock.choices import Backend
from knock.config import ModelConfig
from knock.engine.batch import LENGTH, MATCH, NOT_DONE, NOT_FINITE, Request, Rows
from knock.errors import GenerationError
from knock.sampling import TokenStats
from knock.vocab import TokenArray
from knock.weights import Weights

_LOGITS_AT_ONCE = 4096  # positions of one forward pass, which bounds its memory


class NumpyBackend:
    """A model run by the reference, in float64.

    Args:
        weights: the model.
    """

    name: Backend = "numpy"

    def __init__(self, weights: Weights) -> None:
        self.config: ModelConfig = weights.config
        self.arrays = {name: array.astype(np.float64) for name, array in weights.items()}

    def logits(self, ids: TokenArray) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        """Yield the logits of a sequence in pieces of [n, V], each with its first position.

        Pieces overlap by the receptive field, which makes them exact.
        """
        history = self.config.receptive_field - 1
        for start in range(0, len(ids), _LOGITS_AT_ONCE):
            first = max(0, start - history)
            with np.errstate(all="ignore"):
                piece = reference.forward(ids[first : start + _LOGITS_AT_ONCE], self.arrays, self.config)
            yield start, piece[start - first :]

    def log_probs(self, ids: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]:
        """Return the log-probability of each target after its token, in nats: [N], [N] -> [N]."""
        out = np.empty(len(ids))
        for start, logits in self.logits(ids):
            part = slice(start, start + len(logits))
            finite = np.isfinite(logits).all(-1)
            if not finite.all():
                raise GenerationError.not_finite(start + int(finite.argmin()))
            out[part] = reference.log_softmax(logits)[np.arange(len(logits)), targets[part]]
        return out

    def empty_cache(self) -> reference.Cache:
        """Return the cache of an empty sequence."""
        return reference.empty_cache(self.arrays, self.config)

    def read(self, tokens: TokenArray, cache: reference.Cache) -> tuple[npt.NDArray[np.float64], reference.Cache]:
        """Return the logits after more tokens, and the updated cache: [N] -> [V]."""
        return reference.prefill(tokens, cache, self.arrays, self.config)

    def draw(
        self,
        logits: npt.NDArray[np.float64],
        request: Request,
        u: float,
        mu: float,
        bias: npt.NDArray[np.float64] | None,
        allowed: npt.NDArray[np.bool_] | None,
        context: npt.NDArray[np.int64] | None,
    ) -> reference.Draw:
        """Draw the next token of a sequence."""
        return reference.sample(logits, request.sampling, u, mu, bias, allowed, context)

    def stream(self, request: Request, seed: int) -> NumpyStream:
        """Return the sequence that a request begins."""
        return NumpyStream(self, request, seed)

    def job(self, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int) -> NumpyJob:
        """Return a job that generates requests."""
        return NumpyJob(self, requests, seed, keep_stats)


class Stepwise(Protocol):
    """A backend that computes one token at a time."""

    config: ModelConfig

    def empty_cache(self) -> Any:
        """Return the cache of an empty sequence."""

    def read(self, tokens: TokenArray, cache: Any) -> tuple[Any, Any]:
        """Return the logits after more tokens, and the updated cache: [N] -> [V]."""

    def draw(
        self, logits: Any, request: Request, u: float, mu: float, bias: Any, allowed: Any, context: Any
    ) -> reference.Draw:
        """Draw the next token of a sequence."""

    def stream(self, request: Request, seed: int) -> NumpyStream:
        """Return the sequence that a request begins."""


class NumpyStream:
    """One sequence being generated."""

    def __init__(self, backend: Stepwise, request: Request, seed: int) -> None:
        sampling = request.sampling
        self.finish_reason = NOT_DONE
        self._backend = backend
        self._request = request
        self._seed = seed
        self._state = request.state
        self._left = request.max_new_tokens
        self.cut = 0  # tokens to cut from the end of the text
        self._bias = sampling.bias_array(backend.config.vocab_size)
        self._mu = 2 * sampling.mirostat if sampling.mirostat is not None else 0.0
        self._steps = 0
        self._cache = backend.empty_cache()
        self._context = request.tokens.tolist()
        self._unread = request.tokens[-backend.config.receptive_field :]  # the next token depends on no earlier one

    def advance(self, length: int) -> tuple[TokenArray, TokenStats]:
        """Return the next tokens and their statistics, fewer if the text ends.

        Raises:
            GenerationError: if logits are not finite.
        """
        draws: list[reference.Draw] = []
        with np.errstate(all="ignore"):
            while len(draws) < length and self.finish_reason == NOT_DONE:
                draws.append(self._next())
        table = np.array(draws, np.float64).reshape(len(draws), len(reference.Draw._fields))
        columns = dict(zip(reference.Draw._fields, table.T, strict=True))
        tokens = columns.pop("token").astype(np.int32)
        del columns["mu"]
        return tokens, TokenStats(**columns)

    def _next(self) -> reference.Draw:
        backend = self._backend
        logits, self._cache = backend.read(self._unread, self._cache)
        if not np.isfinite(logits).all():
            raise GenerationError.not_finite(self._steps)
        request, automaton = self._request, self._request.automaton
        allowed = None
        if automaton is not None and request.is_masked and automaton.forbids(self._state):
            allowed = automaton.allowed(self._state, self._left)
        u = reference.uniform(self._seed, request.index, self._steps)
        context = np.array(self._context) if request.sampling.penalizes_repetition else None
        drawn = backend.draw(logits, request, u, self._mu, self._bias, allowed, context)
        self._mu = drawn.mu
        self._steps += 1
        self._left -= 1
        self._context.append(drawn.token)
        if automaton is not None:
            self._state, self.finish_reason, self.cut = automaton.follow(self._state, drawn.token, self._left)
        self._unread = np.array([drawn.token], np.int32)
        return drawn


class NumpyJob:
    """Requests, one after the other; threads take turns."""

    def __init__(self, backend: Stepwise, requests: Sequence[Request], seed: int, keep_stats: bool) -> None:
        self._backend = backend
        self._requests = requests
        self._seed = seed
        self._rows = Rows.empty(requests, keep_stats)
        self._left = iter(range(len(requests)))
        self._lock = threading.Lock()
        self._stopped = False

    def work(self) -> None:
        """Generate rows until none is left."""
        while not self._stopped:
            with self._lock:
                i = next(self._left, None)
            if i is None:
                return
            self._generate(i)

    def _generate(self, i: int) -> None:
        request, rows = self._requests[i], self._rows
        stream = self._backend.stream(request, self._seed)
        for step in range(request.max_new_tokens):
            if self._stopped:
                return
            try:
                (token,), stats = stream.advance(1)
            except GenerationError:
                rows.finish(i, step, step, NOT_FINITE)
                return
            offset = rows.starts[i] + step
            rows.tokens[offset] = token
            if rows.stats is not None:
                rows.stats[offset] = [value[0] for value in vars(stats).values()]
            if stream.finish_reason != NOT_DONE:
                rows.finish(i, step + 1, step + 1 - stream.cut, stream.finish_reason)
                return
        rows.finish(i, request.max_new_tokens, request.max_new_tokens, MATCH if request.is_over else LENGTH)

    def stop(self) -> None:
        """Make the working threads return at their next step."""
        self._stopped = True

    def done(self) -> int:
        """Return the number of finished rows."""
        return int(np.count_nonzero(self._rows.finish_reasons))

    def rows(self) -> Rows:
        """Return what has been generated so far."""
        return self._rows
