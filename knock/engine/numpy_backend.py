"""The NumPy backend: the float64 reference, a token at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from knock import reference
from knock.choices import Backend
from knock.config import ModelConfig
from knock.engine.batch import LENGTH, NOT_FINITE, STOP, Request, Rows
from knock.errors import GenerationError
from knock.sampling import Sampling, TokenStats
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

    def stream(self, prompt: TokenArray, sampling: Sampling, seed: int, index: int) -> NumpyStream:
        """Return the sequence that continues a prompt of at least one token."""
        return NumpyStream(self, prompt, sampling, seed, index)

    def job(self, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int) -> NumpyJob:
        """Return a job that generates requests."""
        return NumpyJob(self, requests, seed, keep_stats)


class NumpyStream:
    """One sequence being generated."""

    def __init__(self, backend: NumpyBackend, prompt: TokenArray, sampling: Sampling, seed: int, index: int) -> None:
        self._backend = backend
        self._sampling = sampling
        self._seed = seed
        self._index = index
        self._bias = sampling.bias_array(backend.config.vocab_size)
        self._mu = 2 * sampling.mirostat if sampling.mirostat is not None else 0.0
        self._steps = 0
        self._cache = reference.empty_cache(backend.arrays, backend.config)
        self._unread = prompt[-backend.config.receptive_field :]  # the next token depends on no earlier one

    def advance(self, length: int) -> tuple[TokenArray, TokenStats]:
        """Return the next tokens and their statistics.

        Raises:
            GenerationError: if logits are not finite.
        """
        with np.errstate(all="ignore"):
            draws = [self._next() for _ in range(length)]
        table = np.array(draws, np.float64).reshape(length, len(reference.Draw._fields))
        columns = dict(zip(reference.Draw._fields, table.T, strict=True))
        tokens = columns.pop("token").astype(np.int32)
        del columns["mu"]
        return tokens, TokenStats(**columns)

    def _next(self) -> reference.Draw:
        backend = self._backend
        logits, self._cache = reference.prefill(self._unread, self._cache, backend.arrays, backend.config)
        if not np.isfinite(logits).all():
            raise GenerationError.not_finite(self._steps)
        u = reference.uniform(self._seed, self._index, self._steps)
        drawn = reference.sample(logits, self._sampling, u, self._mu, self._bias)
        self._mu = drawn.mu
        self._steps += 1
        self._unread = np.array([drawn.token], np.int32)
        return drawn


class NumpyJob:
    """Requests, one after the other; threads take turns."""

    def __init__(self, backend: NumpyBackend, requests: Sequence[Request], seed: int, keep_stats: bool) -> None:
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
        request, rows, state = self._requests[i], self._rows, 0
        stream = self._backend.stream(request.tokens, request.sampling, self._seed, request.index)
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
            if request.automaton is not None:
                state = int(request.automaton[state, token])
                cut = int(request.automaton[state, -1])
                if cut:
                    rows.finish(i, step + 1, step + 1 - cut, STOP)
                    return
        rows.finish(i, request.max_new_tokens, request.max_new_tokens, LENGTH)

    def stop(self) -> None:
        """Make the working threads return at their next step."""
        self._stopped = True

    def done(self) -> int:
        """Return the number of finished rows."""
        return int(np.count_nonzero(self._rows.finish_reasons))

    def rows(self) -> Rows:
        """Return what has been generated so far."""
        return self._rows
