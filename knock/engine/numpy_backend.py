"""The NumPy backend: the float64 reference, run a token at a time."""

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

_LOGITS_AT_ONCE = 4096  # positions a forward pass works on at a time, which bounds its memory


class NumpyBackend:
    """A model, in float64."""

    name: Backend = "numpy"

    def __init__(self, weights: Weights) -> None:
        self.config: ModelConfig = weights.config
        self.arrays = {name: array.astype(np.float64) for name, array in weights.items()}

    def logits(self, ids: TokenArray) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        """Logits of a sequence in pieces (n, V), each with where it starts.

        Pieces overlap by what can reach back over their start, which makes them exact.
        """
        history = self.config.receptive_field - 1
        for start in range(0, len(ids), _LOGITS_AT_ONCE):
            first = max(0, start - history)
            with np.errstate(all="ignore"):
                piece = reference.forward(ids[first : start + _LOGITS_AT_ONCE], self.arrays, self.config)
            yield start, piece[start - first :]

    def log_probs(self, ids: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]:
        """Natural logarithm of the probability that each target follows its token: (N,), (N,) -> (N,)."""
        out = np.empty(len(ids))
        for start, logits in self.logits(ids):
            part = slice(start, start + len(logits))
            finite = np.isfinite(logits).all(-1)
            if not finite.all():
                raise GenerationError.not_finite(start + int(finite.argmin()))
            shifted = logits - logits.max(-1, keepdims=True)
            out[part] = shifted[np.arange(len(logits)), targets[part]] - np.log(np.exp(shifted).sum(-1))
        return out

    def start(
        self, prompts: Sequence[TokenArray], samplings: Sequence[Sampling], seed: int, streams: Sequence[int]
    ) -> NumpyLanes:
        """Sequences that go on from prompts of at least one token each."""
        lanes = [
            _Lane(self, prompt, sampling, seed, stream)
            for prompt, sampling, stream in zip(prompts, samplings, streams, strict=True)
        ]
        return NumpyLanes(lanes)

    def job(self, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int) -> NumpyJob:
        """Requests to work on."""
        return NumpyJob(self, requests, seed, keep_stats)

    def decoder(self) -> NumpyDecoder:
        """A sequence that is fed a token at a time."""
        return NumpyDecoder(self)


class NumpyLanes:
    """Sequences being generated, one after the other."""

    def __init__(self, lanes: list[_Lane]) -> None:
        self._lanes = lanes

    def advance(self, length: int) -> list[tuple[TokenArray, TokenStats]]:
        """The next tokens of each sequence, with their statistics."""
        return [lane.advance(length) for lane in self._lanes]


class _Lane:
    def __init__(self, backend: NumpyBackend, tokens: TokenArray, sampling: Sampling, seed: int, stream: int) -> None:
        self._backend = backend
        self._sampling = sampling
        self._seed = seed
        self._stream = stream
        self._bias = sampling.bias_array(backend.config.vocab_size)
        self._mu = 2 * sampling.mirostat if sampling.mirostat is not None else 0.0
        self._steps = 0
        self._cache = reference.empty_cache(backend.arrays, backend.config)
        self._unread = tokens[-backend.config.receptive_field :]  # earlier tokens cannot reach what comes next

    def advance(self, length: int) -> tuple[TokenArray, TokenStats]:
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
        u = reference.uniform(self._seed, self._stream, self._steps)
        drawn = reference.sample(logits, self._sampling, u, self._mu, self._bias)
        self._mu = drawn.mu
        self._steps += 1
        self._unread = np.array([drawn.token], np.int32)
        return drawn


class NumpyDecoder:
    """A sequence that is fed a token at a time."""

    def __init__(self, backend: NumpyBackend) -> None:
        self._backend = backend
        self._cache = reference.empty_cache(backend.arrays, backend.config)

    def step(self, token: int) -> npt.NDArray[np.float32]:
        """Logits after one more token, (V,)."""
        with np.errstate(all="ignore"):
            logits, self._cache = reference.step(token, self._cache, self._backend.arrays, self._backend.config)
        return logits.astype(np.float32)


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
        lanes = self._backend.start([request.tokens], [request.sampling], self._seed, [request.stream])
        for step in range(request.limit):
            if self._stopped:
                return
            try:
                (token,), stats = lanes.advance(1)[0]
            except GenerationError:
                rows.finish(i, step, step, NOT_FINITE)
                return
            place = rows.starts[i] + step
            rows.tokens[place] = token
            if rows.stats is not None:
                rows.stats[place] = [value[0] for value in vars(stats).values()]
            if request.automaton is not None:
                state = int(request.automaton[state, token])
                cut = int(request.automaton[state, -1])
                if cut:
                    rows.finish(i, step + 1, step + 1 - cut, STOP)
                    return
        rows.finish(i, request.limit, request.limit, LENGTH)

    def stop(self) -> None:
        """Make those that work return at their next step."""
        self._stopped = True

    def done(self) -> int:
        """How many rows have come to their ends."""
        return int(np.count_nonzero(self._rows.reasons))

    def rows(self) -> Rows:
        """What came of it so far."""
        return self._rows
