"""The compiled backend: scores, and one sequence at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from knock.choices import Backend, Precision
from knock.engine.batch import NOT_DONE, NOT_FINITE, Job, Request
from knock.engine.packed_model import PackedModel
from knock.engine.packing import Table, controls_of, reachable
from knock.errors import GenerationError
from knock.sampling import TokenStats
from knock.vocab import TokenArray
from knock.weights import Weights
from knock_kernels.cache.store import Decoder, EntryPoints, Lane, point

_POSITIONS_AT_ONCE = 4096  # bounds the memory of one call
_STATS = len(fields(TokenStats))


class CompiledBackend:
    """A model run by compiled kernels.

    Args:
        weights: the model.
        kernels: the compiled functions.
        precision: of its products.
        table: of what the first blocks compute; see `pack`.
    """

    name: Backend = "compiled"

    def __init__(self, weights: Weights, kernels: EntryPoints, precision: Precision, *, table: Table = "pairs") -> None:
        self._model = PackedModel(weights, kernels, precision, table=table)

    def logits(self, ids: TokenArray) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        """Yield the logits of a sequence in pieces of [n, V], each with its first position."""
        for start, out in self._score(ids, ids, every_logit=True):
            yield start, out.reshape(-1, self._model.config.vocab_size)

    def log_probs(self, ids: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]:
        """Return the log-probability of each target after its token, in nats: [N], [N] -> [N]."""
        return np.concatenate([np.empty(0), *(out for _, out in self._score(ids, targets, every_logit=False))])

    def _score(
        self, ids: TokenArray, targets: TokenArray, *, every_logit: bool
    ) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        model = self._model
        tokens, after = ids.astype(np.int64), targets.astype(np.int64)
        scratch, (cache,) = model.scratch(), model.caches(1)
        # An absolute model's window needs the tokens before it, so its positions go in one call.
        at_once = _POSITIONS_AT_ONCE if model.config.position == "relative" else max(1, len(tokens))
        for start in range(0, len(tokens), at_once):
            part = slice(start, start + at_once)
            length, previous = len(tokens[part]), int(tokens[start - 1]) if start else -1
            out = np.empty(length * (model.config.vocab_size if every_logit else 1))
            done = model.kernels.score(
                tokens[part], after[part], length, previous, start, cache, model.record, scratch.state, out,
                every_logit=every_logit,
            )  # fmt: skip
            if done < length:
                raise GenerationError.not_finite(start + done)
            yield start, out

    def stream(self, request: Request, seed: int) -> CompiledStream:
        """Return the sequence that a request begins."""
        return CompiledStream(self._model, request, seed)

    def job(self, requests: Sequence[Request], seed: int, keep_stats: bool, threads: int) -> Job:
        """Return a job that generates requests."""
        from knock.engine.compiled_batch import CompiledJob  # a single text does not need it

        return CompiledJob(self._model, requests, seed, keep_stats, threads)


class CompiledStream:
    """One sequence being generated, in a lane of its own."""

    def __init__(self, model: PackedModel, request: Request, seed: int) -> None:
        sampling, automaton = request.sampling, request.automaton
        self.finish_reason = NOT_DONE
        self.cut = 0  # tokens to cut from the end of the text
        self._model = model
        self._prompt = reachable(request.tokens, model.config)
        self._decode: Decoder | None = None  # made when it is needed: a stream may never be read
        self._scratch, (self._cache,) = model.scratch(), model.caches(1)
        self._history = np.zeros(model.config.longest_window, np.int64)
        self._context = request.tokens.astype(np.int32)
        self._controls = controls_of(sampling)
        bias = sampling.bias_array(model.config.vocab_size)
        self._bias = None if bias is None else bias.astype(np.float32)
        self._automaton = None if automaton is None else automaton.table
        self._lane = lane = Lane.array()
        point(Lane, lane, cache=self._cache, history=self._history, controls=self._controls, bias=self._bias,
              automaton=self._automaton, context=self._context if sampling.penalizes_repetition else None)  # fmt: skip
        lane["context_size"] = len(self._context)
        lane["seed"], lane["index"] = np.uint64(seed).astype(np.int64), request.index
        lane["state"], lane["is_masked"] = request.state, automaton is not None and request.is_masked
        lane["left"] = request.max_new_tokens

    def advance(self, length: int) -> tuple[TokenArray, TokenStats]:
        """Return the next tokens and their statistics, fewer if the text ends.

        Raises:
            GenerationError: if logits are not finite.
        """
        if length == 0 or self.finish_reason != NOT_DONE:
            return np.empty(0, np.int32), TokenStats.from_array(np.empty((0, _STATS)))
        if self._decode is None:
            self._prefill()
            self._decode = self._decoder()
        self._make_room(length)
        tokens, stats = np.empty(length, np.int64), np.empty((length, _STATS))
        first = int(self._lane["step"][0])
        done = self._decode(length, tokens, stats)
        self.finish_reason = int(self._lane["finish_reason"][0])
        if self.finish_reason == NOT_FINITE:
            raise GenerationError.not_finite(first + done)
        self.cut = int(self._lane["cut"][0])
        return tokens[:done].astype(np.int32), TokenStats.from_array(stats[:done])

    def _prefill(self) -> None:
        """Read all tokens of the prompt but the last, which is read by the first step."""
        model, lane = self._model, self._lane
        before = self._prompt[:-1].astype(np.int64)
        if len(before):
            model.kernels.read(before, -1, 0, len(before), self._cache, model.record, self._scratch.state)
        if model.config.position == "absolute":
            self._history[: len(before)] = before
        lane["token"], lane["position"] = self._prompt[-1], len(before)
        lane["previous"] = before[-1] if len(before) else -1

    def _decoder(self) -> Decoder:
        """Return the function that draws tokens."""
        model = self._model
        return model.kernels.decoder(self._lane, 1, model.record, self._scratch.state)

    def _make_room(self, length: int) -> None:
        """Enlarge the text so far if it has no room for that many tokens."""
        lane = self._lane
        if lane["context"][0] and lane["context_size"][0] + length > len(self._context):
            self._context = np.concatenate([self._context, np.zeros(len(self._context) + length, np.int32)])
            point(Lane, lane, context=self._context)
