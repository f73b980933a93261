"""Engine: runs one model. Checks what it is given, keeps the state of each sequence, and calls the maths.

Token ids in, token ids and statistics out; text is the business of `knock.model`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from knock import reference
from knock.checks import whole_number
from knock.config import ModelConfig
from knock.errors import GenerationError, KnockError, SamplingError, VocabError
from knock.sampling import Sampling, TokenStats
from knock.vocab import check_tokens
from knock.weights import Weights

Backend = Literal["numpy"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

TokenArray = npt.NDArray[np.int32]

_LOGITS_AT_ONCE = 4096  # positions a forward pass works on at a time, which bounds its memory


class Engine:
    """One model, ready to run.

    Args:
        weights: the model.
        backend: `"numpy"` runs the float64 reference.

    Raises:
        KnockError: if there is no such backend.
    """

    def __init__(self, weights: Weights, backend: Backend = "numpy") -> None:
        if backend not in BACKENDS:
            raise KnockError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
        self.backend = backend
        self.weights = weights
        self._arrays = {name: array.astype(np.float64) for name, array in weights.items()}

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
        out = np.empty((len(ids), self.config.vocab_size), np.float32)
        for start, piece in self._forward(ids):
            out[start : start + len(piece)] = piece
        return out

    def log_probs(self, tokens: npt.ArrayLike, targets: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Natural logarithm of the probability that each target follows its token: (N,), (N,) -> (N,).

        Args:
            tokens: one uninterrupted sequence.
            targets: what comes after each of its positions.

        Raises:
            VocabError: if a token is not in [0, V), or the two differ in length.
        """
        ids, after = (check_tokens(each, self.config.vocab_size) for each in (tokens, targets))
        if len(ids) != len(after):
            raise VocabError(f"there must be a target for each token, got {len(ids)} tokens and {len(after)} targets")
        out = np.empty(len(ids))
        for start, logits in self._forward(ids):
            part = slice(start, start + len(logits))
            shifted = logits - logits.max(-1, keepdims=True)
            out[part] = shifted[np.arange(len(logits)), after[part]] - np.log(np.exp(shifted).sum(-1))
        return out

    def _forward(self, ids: TokenArray) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        """Logits of a sequence in pieces (n, V), each with where it starts.

        Pieces overlap by what can reach back over their start, which makes them exact.
        """
        history = self.config.receptive_field - 1
        for start in range(0, len(ids), _LOGITS_AT_ONCE):
            first = max(0, start - history)
            with np.errstate(all="ignore"):
                piece = reference.forward(ids[first : start + _LOGITS_AT_ONCE], self._arrays, self.config)
            yield start, piece[start - first :]

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
        ids = check_tokens(tokens, self.config.vocab_size)
        if ids.size == 0:
            raise VocabError("generation needs at least one token to start from, got none")
        return TokenStream(self._arrays, self.config, ids, sampling, seed, stream)


class TokenStream:
    """One sequence being generated: its cache, its controls, its place among the random numbers."""

    def __init__(
        self,
        arrays: Mapping[str, npt.NDArray[np.float64]],
        config: ModelConfig,
        tokens: TokenArray,
        sampling: Sampling,
        seed: int,
        stream: int,
    ) -> None:
        self._arrays = arrays
        self._config = config
        self._sampling = sampling
        self.seed = seed
        self._stream = stream
        self._bias = sampling.bias_array(config.vocab_size)
        self._mu = 2 * sampling.mirostat if sampling.mirostat is not None else 0.0
        self._steps = 0
        self._cache = reference.empty_cache(arrays, config)
        self._unread = tokens[-config.receptive_field :]  # earlier tokens cannot reach what comes next

    def advance(self, length: int) -> tuple[TokenArray, TokenStats]:
        """The next `length` tokens and their statistics. How the calls are cut up changes nothing.

        Raises:
            SamplingError: if `length` is not a whole number of at least 0.
            GenerationError: if the logits of a step are not finite; no token is drawn from them.
        """
        length = whole_number("length", length, 0, error=SamplingError)
        with np.errstate(all="ignore"):
            draws = [self._next() for _ in range(length)]
        table = np.array(draws, np.float64).reshape(length, len(reference.Draw._fields))
        columns = dict(zip(reference.Draw._fields, table.T, strict=True))
        tokens = columns.pop("token").astype(np.int32)
        del columns["mu"]
        return tokens, TokenStats(**columns)

    def _next(self) -> reference.Draw:
        logits, self._cache = reference.prefill(self._unread, self._cache, self._arrays, self._config)
        if not np.isfinite(logits).all():
            raise GenerationError(
                f"the model's logits at step {self._steps} are not finite numbers; its weights are too large to run"
            )
        u = reference.uniform(self.seed, self._stream, self._steps)
        drawn = reference.sample(logits, self._sampling, u, self._mu, self._bias)
        self._mu = drawn.mu
        self._steps += 1
        self._unread = np.array([drawn.token], np.int32)
        return drawn
