"""Engine: validates token-level calls and runs them on the backend that suits the work.

Token ids in, token ids and statistics out; text is the business of `knock.language_model`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from knock.choices import DEFAULT_PRECISION, PRECISIONS, Backend, Precision
from knock.config import ModelConfig
from knock.engine.backends import chosen, kernels
from knock.engine.batch import NOT_FINITE, Job, Request, Rows, work_together
from knock.errors import GenerationError, KnockError, SamplingError, VocabError
from knock.sampling import Sampling, TokenStats
from knock.validation import is_one_of, shown, whole_number
from knock.vocab import TokenArray, check_tokens
from knock.weights import Weights

if TYPE_CHECKING:
    from knock.engine.automaton import Automaton

MAX_THREADS = 1024

# Rough cost of the NumPy backend: per step for each block and each weight, per position when many are read at once.
_STEP_BLOCK, _STEP_PARAMETER, _POSITION_PARAMETER = 100e-6, 4e-10, 3e-10  # seconds


class Engine:
    """One model, ready to run. Threads may share it.

    Args:
        weights: the model.
        backend: `"numpy"` runs on NumPy, `"compiled"` runs fused kernels. `"auto"` runs the kernels if they are already
            compiled; otherwise short work runs on NumPy while they are compiled in the background, and long work waits
            for them. The environment variable KNOCK_BACKEND overrides `"auto"`.
        precision: `"int16"` multiplies integers: weights are rounded to 12 bits and activations to 13. A seed gives the
            same text on every CPU and backend. `"int8"` does the same with 7 and 8 bits, which is faster and less
            accurate; its texts are its own. `"float32"` adds products with fused multiply-adds in float32. A seed
            gives the same text on every CPU that has them; NumPy runs the float64 reference instead, which in rare
            cases draws another character.

    Raises:
        KnockError: if there is no such backend or precision, or the kernels were requested and cannot be run.
    """

    def __init__(self, weights: Weights, backend: Backend = "auto", precision: Precision = DEFAULT_PRECISION) -> None:
        if not is_one_of(precision, PRECISIONS):
            raise KnockError(f"precision must be one of {', '.join(PRECISIONS)}, got {shown(precision)}")
        self.weights = weights
        self.precision = precision
        self._requested = chosen(backend)
        self._backend: _Backend | None = None
        self._preparing = threading.Lock()
        if self._requested == "compiled":
            self._ready()

    def __reduce__(self) -> tuple[type[Engine], tuple[Weights, Backend, Precision]]:
        # Packed weights, compiled code and locks belong to this process; a copy prepares its own on first use.
        return Engine, (self.weights, self._requested, self.precision)

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.weights.config

    @property
    def backend(self) -> Backend | None:
        """The name of the backend in use, `"numpy"` or `"compiled"`; None before the first call."""
        return None if self._backend is None else self._backend.name

    def settle(self, *, steps: int = 0, positions: int = 0) -> Backend:
        """Choose the backend for work that must not change it halfway, and keep it from now on.

        Args:
            steps: tokens to generate, in all sequences together.
            positions: tokens to read or to score.
        """
        self._requested = self._ready(steps=steps, positions=positions).name
        return self._requested

    def logits(self, tokens: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the logits at every position of one uninterrupted sequence: [N] -> [N, V].

        Raises:
            VocabError: if a token is not in [0, V).
        """
        ids = check_tokens(tokens, self.config.vocab_size)
        out = np.empty((len(ids), self.config.vocab_size), np.float32)
        for start, piece in self._ready(positions=len(ids)).logits(ids):
            out[start : start + len(piece)] = piece
        return out

    def log_probs(self, tokens: npt.ArrayLike, targets: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the log-probability of each target after its token, in nats: [N], [N] -> [N].

        Args:
            tokens: one uninterrupted sequence.
            targets: what follows each of its positions.

        Raises:
            VocabError: if a token is not in [0, V), or the lengths differ.
            GenerationError: if the logits of a position are not finite.
        """
        ids, after = (check_tokens(each, self.config.vocab_size) for each in (tokens, targets))
        if len(ids) != len(after):
            raise VocabError(f"there must be a target for each token, got {len(ids)} tokens and {len(after)} targets")
        return self._ready(positions=len(ids)).log_probs(ids, after)

    def start(
        self,
        tokens: npt.ArrayLike,
        sampling: Sampling,
        seed: int,
        index: int = 0,
        *,
        length: int = 0,
        automaton: Automaton | None = None,
        state: int = 0,
        is_masked: bool = True,
    ) -> TokenStream:
        """Return a stream of tokens that continues `tokens`.

        Args:
            tokens: the prompt, [N] with N >= 1.
            sampling: the controls.
            seed: with `index` and the step, decides every draw.
            index: the row's number in its batch.
            length: how many tokens the caller is about to draw, by which `"auto"` chooses; with an automaton, the
                most that it may draw.
            automaton: what the text must match and where it ends; None if nothing restricts it.
            state: state of the automaton after the prompt.
            is_masked: whether forbidden tokens are masked; otherwise a text that does not match is rejected.

        Raises:
            VocabError: if there is no token, or one is not in [0, V).
            SamplingError: if the controls do not fit the vocabulary.
        """
        ids = check_tokens(tokens, self.config.vocab_size)
        if ids.size == 0:
            raise VocabError("generation needs at least one token to start from, got none")
        request = Request(ids, sampling, automaton, length, index, state=state, is_masked=is_masked)
        return TokenStream(self._ready(steps=length).stream(request, seed), seed)

    def run(
        self,
        requests: Sequence[Request],
        seed: int,
        *,
        threads: int | None = None,
        keep_stats: bool = False,
        progress: Callable[[int], None] | None = None,
        total_steps: int | None = None,
    ) -> Rows:
        """Generate sequences to their ends, each as it would be alone.

        Ctrl-C stops the threads; what was generated by then is returned, marked as interrupted.

        Args:
            requests: validated requests.
            seed: of all of them.
            threads: number of threads; None for one for each CPU.
            keep_stats: whether to keep the statistics of each token.
            progress: called periodically with the number of finished sequences.
            total_steps: tokens of this call and of those that follow, by which `"auto"` chooses; None if only this
                one is known.

        Raises:
            SamplingError: if the number of threads is out of range.
            GenerationError: if the logits of a step are not finite.
        """
        if threads is None:
            from knock.cpus import available_threads  # a single text does not need it

            threads = available_threads()
        threads = whole_number("threads", threads, 1, MAX_THREADS, error=SamplingError)
        threads = max(1, min(threads, len(requests)))
        steps = sum(request.max_new_tokens for request in requests) if total_steps is None else total_steps
        job = self._ready(steps=steps).job(requests, seed, keep_stats, threads)
        try:
            work_together(job, threads, progress)
        except KeyboardInterrupt:
            return replace(job.rows(), is_interrupted=True)
        rows = job.rows()
        broken = np.flatnonzero(rows.finish_reasons == NOT_FINITE)
        if broken.size:
            raise GenerationError.not_finite(int(rows.lengths[broken[0]]))
        return rows

    def _ready(self, *, steps: int = 0, positions: int = 0) -> _Backend:
        """Return the backend for a piece of work; work that has started keeps its own."""
        backend = self._backend
        if backend is not None and (backend.name == "compiled" or self._requested == "numpy"):
            return backend
        blocks, parameters = self.config.n_blocks, self.weights.n_parameters
        if self.config.position == "absolute" and positions > self.config.longest_window:
            positions *= self.config.longest_window  # the window slides: each position is computed from a whole one
        seconds = steps * (_STEP_BLOCK * blocks + _STEP_PARAMETER * parameters)
        compiled = kernels(self._requested, seconds + positions * _POSITION_PARAMETER * parameters)
        with self._preparing:
            if compiled is not None and (self._backend is None or self._backend.name != "compiled"):
                from knock.engine.compiled_backend import CompiledBackend

                self._backend = CompiledBackend(self.weights, compiled, self.precision)
            elif self._backend is None:
                self._backend = self._on_numpy()
            return self._backend

    def _on_numpy(self) -> _Backend:
        if self.precision == "float32":
            from knock.engine.numpy_backend import NumpyBackend

            return NumpyBackend(self.weights)
        from knock.engine.portable.backend import PortableBackend

        return PortableBackend(self.weights, self.precision)


class TokenStream:
    """One sequence being generated.

    Args:
        stream: the backend's own.
        seed: the seed in use.
    """

    def __init__(self, stream: _Stream, seed: int) -> None:
        self.seed = seed
        self._stream = stream

    def advance(self, length: int) -> tuple[TokenArray, TokenStats]:
        """Return the next `length` tokens and their statistics, fewer if the text ends.

        They do not depend on how the calls are cut.

        Raises:
            SamplingError: if `length` is not a whole number of at least 0.
            GenerationError: if the logits of a step are not finite; no token is drawn from them.
        """
        return self._stream.advance(whole_number("length", length, 0, error=SamplingError))

    @property
    def finish_reason(self) -> int:
        """Why the text ended, an index into `FINISH_REASONS`; `NOT_DONE` if it continues."""
        return self._stream.finish_reason

    @property
    def cut(self) -> int:
        """Number of tokens to cut from the end of a text that ended: its stop string or boundary."""
        return self._stream.cut


class _Stream(Protocol):
    finish_reason: int
    cut: int

    def advance(self, length: int) -> tuple[TokenArray, TokenStats]: ...


class _Backend(Protocol):
    """What runs a model. Everything has been validated."""

    name: Backend

    def logits(self, ids: TokenArray) -> Iterator[tuple[int, npt.NDArray[np.float64]]]: ...

    def log_probs(self, ids: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]: ...

    def stream(self, request: Request, seed: int) -> _Stream: ...

    def job(self, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int) -> Job: ...
