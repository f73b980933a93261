"""Engine: runs one model. Checks what it is given, and hands it to the backend that does the maths.

Token ids in, token ids and statistics out; text is the business of `knock.language_model`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from knock.choices import Backend
from knock.config import ModelConfig
from knock.cpus import available_threads
from knock.engine.backends import chosen, kernels
from knock.engine.batch import NOT_FINITE, Job, Request, Rows, Stopped, work_together
from knock.errors import GenerationError, SamplingError, VocabError
from knock.sampling import Sampling, TokenStats
from knock.validation import whole_number
from knock.vocab import TokenArray, check_tokens
from knock.weights import Weights

MAX_LANES = 8
MAX_THREADS = 1024

# What the NumPy reference takes, roughly: a step for its calls and for each weight, a position of many at once.
_STEP_BLOCK, _STEP_PARAMETER, _POSITION_PARAMETER = 100e-6, 4e-10, 3e-10  # seconds


class Engine:
    """One model, ready to run.

    Args:
        weights: the model.
        backend: `"numpy"` runs the float64 reference, `"compiled"` runs fused kernels in float32. `"auto"` runs the
            kernels where they are compiled already; where they are not, short work runs on NumPy while they are
            compiled in the background, and long work waits for them. The environment variable KNOCK_BACKEND says
            what `"auto"` is to mean.

    Raises:
        KnockError: if there is no such backend, or the kernels were asked for and cannot be run.
    """

    def __init__(self, weights: Weights, backend: Backend = "auto") -> None:
        self.weights = weights
        self._wanted = chosen(backend)
        self._prepared: _Runner | None = None
        self._preparing = threading.Lock()
        if self._wanted == "compiled":
            self.expect()

    def expect(self, steps: int = 0, positions: int = 0) -> None:
        """Tell what is about to be done, so that `"auto"` can choose; what has been started goes on as it was.

        Args:
            steps: tokens to generate, in all sequences together.
            positions: tokens to read or to score.
        """
        if self.backend == "compiled":
            return
        blocks, parameters = self.config.n_blocks, self.weights.n_parameters
        seconds = steps * (_STEP_BLOCK * blocks + _STEP_PARAMETER * parameters)
        compiled = kernels(self._wanted, seconds + positions * _POSITION_PARAMETER * parameters)
        with self._preparing:
            if compiled is not None and (self._prepared is None or self._prepared.name != "compiled"):
                from knock.engine.compiled_backend import CompiledBackend

                self._prepared = CompiledBackend(self.weights, compiled)
            elif self._prepared is None:
                from knock.engine.numpy_backend import NumpyBackend

                self._prepared = NumpyBackend(self.weights)

    def __reduce__(self) -> tuple[type[Engine], tuple[Weights, Backend]]:
        # Packed weights, compiled code and locks belong to this process; a copy prepares its own when it is first used.
        return Engine, (self.weights, self._wanted)

    @property
    def backend(self) -> Backend | None:
        """What runs the model, `"numpy"` or `"compiled"`; None while nothing does yet."""
        return None if self._prepared is None else self._prepared.name

    @property
    def _runner(self) -> _Runner:
        if self._prepared is None:
            self.expect()
        assert self._prepared is not None
        return self._prepared

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.weights.config

    def logits(self, tokens: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Logits at every position of one uninterrupted sequence: (N,) -> (N, V).

        Raises:
            VocabError: if a token is not in [0, V).
        """
        ids = check_tokens(tokens, self.config.vocab_size)
        self.expect(positions=len(ids))
        out = np.empty((len(ids), self.config.vocab_size), np.float32)
        for start, piece in self._runner.logits(ids):
            out[start : start + len(piece)] = piece
        return out

    def log_probs(self, tokens: npt.ArrayLike, targets: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Natural logarithm of the probability that each target follows its token: (N,), (N,) -> (N,).

        Args:
            tokens: one uninterrupted sequence.
            targets: what comes after each of its positions.

        Raises:
            VocabError: if a token is not in [0, V), or the two differ in length.
            GenerationError: if the logits of a position are not finite.
        """
        ids, after = (check_tokens(each, self.config.vocab_size) for each in (tokens, targets))
        if len(ids) != len(after):
            raise VocabError(f"there must be a target for each token, got {len(ids)} tokens and {len(after)} targets")
        self.expect(positions=len(ids))
        return self._runner.log_probs(ids, after)

    def start(self, tokens: npt.ArrayLike, sampling: Sampling, seed: int, stream: int = 0) -> TokenStream:
        """A stream of tokens that goes on from `tokens`.

        Args:
            tokens: at least one; of shape (N,).
            sampling: the controls.
            seed: with `stream` and the step, decides every draw.
            stream: the row's index in its batch.

        Raises:
            VocabError: if there is no token, or one is not in [0, V).
            SamplingError: if the controls do not fit the vocabulary.
        """
        return TokenStream(self.start_lanes([tokens], [sampling], seed, [stream]), seed)

    def start_lanes(
        self, prompts: Sequence[npt.ArrayLike], samplings: Sequence[Sampling], seed: int, streams: Sequence[int]
    ) -> Lanes:
        """Up to `MAX_LANES` streams that advance together, each as it would alone.

        Args:
            prompts: for each lane at least one token.
            samplings: the controls of each lane.
            seed: of all lanes.
            streams: for each lane the row's index in its batch.

        Raises:
            VocabError: if there is no token in a prompt, or one is not in [0, V).
            SamplingError: if there are too many lanes, the arguments differ in length, or controls do not fit.
        """
        if not 1 <= len(prompts) <= MAX_LANES or not len(prompts) == len(samplings) == len(streams):
            raise SamplingError(
                f"lanes take 1 to {MAX_LANES} prompts with as many samplings and streams, got {len(prompts)}, "
                f"{len(samplings)} and {len(streams)}"
            )
        checked = [check_tokens(tokens, self.config.vocab_size) for tokens in prompts]
        if any(tokens.size == 0 for tokens in checked):
            raise VocabError("generation needs at least one token to start from, got none")
        return self._runner.start(checked, samplings, seed, streams)

    def run(
        self,
        requests: Sequence[Request],
        seed: int,
        *,
        threads: int | None = None,
        keep_stats: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Rows:
        """Generate sequences to their ends, each as it would be alone.

        Args:
            requests: what to generate, checked.
            seed: of all.
            threads: how many work on it; None for as many as there are CPUs.
            keep_stats: whether to keep the statistics of each token.
            progress: told now and then how many sequences are done.

        Raises:
            SamplingError: if the number of threads is out of range.
            GenerationError: if the logits of a step are not finite.
            Stopped: on Ctrl-C, as soon as the threads have stopped.
        """
        if threads is None:
            threads = available_threads()
        threads = whole_number("threads", threads, 1, MAX_THREADS, error=SamplingError)
        threads = max(1, min(threads, len(requests)))
        job = self._runner.job(requests, seed, keep_stats, threads)
        try:
            work_together(job, threads, progress)
        except KeyboardInterrupt as interrupt:
            raise Stopped(job.rows()) from interrupt
        rows = job.rows()
        broken = np.flatnonzero(rows.reasons == NOT_FINITE)
        if broken.size:
            raise GenerationError.not_finite(int(rows.lengths[broken[0]]))
        return rows

    def decoder(self) -> Decoder:
        """One sequence, fed a token at a time, for callers with sampling of their own."""
        return Decoder(self._runner.decoder(), self.config.vocab_size)


class TokenStream:
    """One sequence being generated."""

    def __init__(self, lanes: Lanes, seed: int) -> None:
        self.seed = seed
        self._lanes = lanes

    def advance(self, length: int) -> tuple[TokenArray, TokenStats]:
        """The next `length` tokens and their statistics. How the calls are cut up changes nothing.

        Raises:
            SamplingError: if `length` is not a whole number of at least 0.
            GenerationError: if the logits of a step are not finite; no token is drawn from them.
        """
        return self._lanes.advance(whole_number("length", length, 0, error=SamplingError))[0]


class Decoder:
    """One sequence, fed a token at a time: token in, logits out."""

    def __init__(self, runner: _Decoder, vocab_size: int) -> None:
        self._runner = runner
        self._vocab_size = vocab_size

    def step(self, token: int) -> npt.NDArray[np.float32]:
        """Logits after one more token: [] -> (V,).

        Raises:
            VocabError: if the token is not in [0, V).
        """
        return self._runner.step(whole_number("token", token, 0, self._vocab_size - 1, error=VocabError))


class Lanes(Protocol):
    """Streams that advance together."""

    def advance(self, length: int) -> list[tuple[TokenArray, TokenStats]]:
        """The next `length` tokens of each lane, with their statistics."""


class _Decoder(Protocol):
    def step(self, token: int) -> npt.NDArray[np.float32]: ...


class _Runner(Protocol):
    """What a backend does; everything is checked already."""

    name: Backend

    def logits(self, ids: TokenArray) -> Iterator[tuple[int, npt.NDArray[np.float64]]]: ...

    def log_probs(self, ids: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]: ...

    def start(
        self, prompts: Sequence[TokenArray], samplings: Sequence[Sampling], seed: int, streams: Sequence[int]
    ) -> Lanes: ...

    def job(self, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int) -> Job: ...

    def decoder(self) -> _Decoder: ...
