"""The compiled backend: state of the sequences, and calls of the kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.choices import Backend
from knock.config import ModelConfig
from knock.engine.batch import Job, Request
from knock.engine.packing import aligned, pack
from knock.errors import GenerationError
from knock.sampling import Sampling, TokenStats
from knock.vocab import TokenArray
from knock.weights import FloatArray, Weights
from knock_kernels.cache.store import SPAN, At, Control, Lane, Stat

_POSITIONS_AT_ONCE = 4096  # bounds the memory of one call


class CompiledBackend:
    """A model, packed for the kernels.

    Args:
        weights: the model.
        kernels: the compiled entry points.
    """

    name: Backend = "compiled"

    def __init__(self, weights: Weights, kernels: SimpleNamespace) -> None:
        self.config: ModelConfig = weights.config
        self._kernels = kernels
        self.plan, self.weights = pack(weights)
        if self.plan[At.table] >= 0:
            self.call("tabulate", self.weights, self.scratch(0), self.plan)

    def call(self, entry_point: str, *arguments: npt.NDArray[Any] | int) -> int:
        """Call a kernel with arrays and numbers."""
        given = [each.ctypes.data if isinstance(each, np.ndarray) else each for each in arguments]
        return int(getattr(self._kernels, entry_point)(*given) or 0)

    def scratch(self, caches: int) -> FloatArray:
        """Scratch for one caller at a time, with room for that many sequences' caches behind it."""
        return aligned(self.cache_offset(caches))

    def cache_offset(self, index: int) -> int:
        """Where the cache of a sequence begins in the scratch."""
        return int(_whole(self.plan[At.scratch_size]) + index * _whole(self.plan[At.cache_size]))

    def logits(self, ids: TokenArray) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        """Logits of a sequence in pieces (n, V), each with where it starts."""
        for start, length, out in self._score(ids, ids, self.config.vocab_size):
            yield start, out.reshape(length, -1)

    def log_probs(self, ids: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]:
        """Natural logarithm of the probability that each target follows its token: (N,), (N,) -> (N,)."""
        return np.concatenate([np.empty(0), *(out for _, _, out in self._score(ids, targets, 1))])

    def _score(
        self, ids: TokenArray, targets: TokenArray, width: int
    ) -> Iterator[tuple[int, int, npt.NDArray[np.float64]]]:
        tokens, after = ids.astype(np.int64), targets.astype(np.int64)
        scratch, rows = self.scratch(1), np.zeros(3 * SPAN, np.int64)
        # An absolute model's window needs the tokens before it, so its positions go in one call.
        at_once = _POSITIONS_AT_ONCE if self.config.position == "relative" else max(1, len(tokens))
        for start in range(0, len(tokens), at_once):
            part = slice(start, start + at_once)
            length = len(tokens[part])
            out = np.empty(length * width)
            done = self.call(
                "score", tokens[part], after[part], length, start, self.cache_offset(0), rows, self.weights, scratch,
                self.plan, out, targets is ids,
            )  # fmt: skip
            if done < length:
                raise GenerationError.not_finite(start + done)
            yield start, length, out

    def job(self, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int) -> Job:
        """Requests to work on."""
        from knock.engine.compiled_batch import CompiledJob

        return CompiledJob(self, requests, seed, keep_stats, threads)

    def decoder(self) -> CompiledDecoder:
        """A sequence that is fed a token at a time."""
        return CompiledDecoder(self)

    def start(
        self, prompts: Sequence[TokenArray], samplings: Sequence[Sampling], seed: int, streams: Sequence[int]
    ) -> CompiledLanes:
        """Up to ROWS sequences that advance together."""
        return CompiledLanes(self, prompts, samplings, seed, streams)


class CompiledLanes:
    """Up to ROWS sequences being generated, a token of each at a time. None depends on another."""

    def __init__(
        self,
        backend: CompiledBackend,
        prompts: Sequence[TokenArray],
        samplings: Sequence[Sampling],
        seed: int,
        streams: Sequence[int],
    ) -> None:
        config = backend.config
        count, V, T = len(prompts), config.vocab_size, config.T
        self._backend = backend
        self._prompts: list[TokenArray] | None = [kept_prompt(prompt, config) for prompt in prompts]
        self._scratch = np.empty(0, np.float32)  # made when it is first needed: a batch may wait in line
        self._lanes = np.zeros((count, len(Lane)), np.int64)
        self._controls = np.array([control_row(sampling) for sampling in samplings])
        self._history = np.zeros((count, T), np.int64)
        self._rows = np.zeros(3 * SPAN, np.int64)
        self._biases = np.zeros((count, V), np.float32)
        for i, (sampling, stream) in enumerate(zip(samplings, streams, strict=True)):
            bias = sampling.bias_array(V)
            if bias is not None:
                self._biases[i] = bias
            lane = self._lanes[i]
            lane[Lane.bias] = -1 if bias is None else i * V
            lane[Lane.cache] = backend.cache_offset(i)
            lane[Lane.seed] = np.uint64(seed).astype(np.int64)
            lane[Lane.stream] = stream

    def advance(self, length: int) -> list[tuple[TokenArray, TokenStats]]:
        """The next tokens of each sequence, with their statistics.

        Raises:
            GenerationError: if logits were not finite.
        """
        backend, count = self._backend, len(self._lanes)
        if self._prompts is not None and length > 0:
            self._scratch = backend.scratch(count)
            self._prefill(self._prompts)
            self._prompts = None
        tokens = np.zeros((count, length), np.int64)
        stats = np.zeros((count, length, len(Stat)))
        first = int(self._lanes[0, Lane.step])
        done = backend.call(
            "decode", self._lanes, count, length, self._controls, self._biases, self._history, self._rows,
            backend.weights, self._scratch, backend.plan, tokens, stats,
        )  # fmt: skip
        if done < length:
            raise GenerationError.not_finite(first + done)
        return [
            (tokens[i].astype(np.int32), TokenStats(**{stat.name: stats[i, :, stat] for stat in Stat}))
            for i in range(count)
        ]

    def _prefill(self, prompts: list[TokenArray]) -> None:
        backend = self._backend
        for i, prompt in enumerate(prompts):
            lane, before = self._lanes[i], prompt[:-1].astype(np.int64)
            if len(before):
                backend.call(
                    "read", before, 0, len(before), int(lane[Lane.cache]), self._rows, backend.weights, self._scratch,
                    backend.plan,
                )  # fmt: skip
            if backend.config.position == "absolute":
                self._history[i, : len(before)] = before
            lane[Lane.token] = prompt[-1]
            lane[Lane.position] = len(before)


class CompiledDecoder:
    """A sequence that is fed a token at a time."""

    def __init__(self, backend: CompiledBackend) -> None:
        self._backend = backend
        self._scratch = backend.scratch(1)
        self._rows = np.zeros(3 * SPAN, np.int64)
        self._window = np.empty(0, np.int64)  # of an absolute model: the tokens in its slots
        self._position = 0

    def step(self, token: int) -> npt.NDArray[np.float32]:
        """Logits after one more token, (V,)."""
        backend, config = self._backend, self._backend.config
        tokens, position = np.array([token], np.int64), self._position
        self._position += 1
        if config.position == "absolute":
            self._window = np.append(self._window, token)[-config.T :]
            if position >= config.T:  # every slot has shifted
                tokens, position = self._window, 0
        out = np.empty(len(tokens) * config.vocab_size)
        backend.call(
            "score", tokens, tokens, len(tokens), position, backend.cache_offset(0), self._rows, backend.weights,
            self._scratch, backend.plan, out, True,
        )  # fmt: skip
        return out[-config.vocab_size :].astype(np.float32)


def kept_prompt(prompt: TokenArray, config: ModelConfig) -> TokenArray:
    """The tokens of a prompt that can reach what comes next.

    What a relative model drops is a whole number of windows, so that each token keeps its slot in the ring and sums
    over the ring their order.
    """
    extra = max(0, len(prompt) - config.receptive_field)
    return prompt[extra // config.T * config.T if config.position == "relative" else extra :]


def control_row(sampling: Sampling) -> list[float]:
    """The controls as the sampler reads them."""
    row = {
        Control.temperature: sampling.temperature,
        Control.top_n_sigma: sampling.top_n_sigma,
        Control.top_k: sampling.top_k,
        Control.typical_p: sampling.typical_p,
        Control.top_p: sampling.top_p,
        Control.min_p: sampling.min_p,
        Control.target_entropy: -1.0 if sampling.target_entropy is None else sampling.target_entropy,
        Control.ratio_rule: sampling.entropy_rule == "ratio",
        Control.min_temp: sampling.min_temp,
        Control.max_temp: sampling.max_temp,
        Control.mirostat: -1.0 if sampling.mirostat is None else sampling.mirostat,
        Control.mirostat_eta: sampling.mirostat_eta,
        Control.mu: 2 * (sampling.mirostat or 0.0),
    }
    return [float(row[control]) for control in Control]


def _whole(size: np.int64) -> int:
    """The next multiple of 16 floats, 64 bytes."""
    return -(-int(size) // 16) * 16
