"""The two models a user touches: ReweightGPT, over token ids, and LanguageModel, over text."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from knock.backends import Backend
from knock.checkpoint import read_checkpoint, write_checkpoint
from knock.checks import whole_number
from knock.config import HeadType, ModelConfig, Position
from knock.engine import Engine
from knock.errors import CheckpointError, SamplingError
from knock.generation import Generation, Score, TextStream, collect
from knock.models import locate
from knock.sampling import Sampling, SamplingOptions, Stats, resolve_seed, summarize
from knock.stopping import StopStrings
from knock.vocab import TokenArray, Unknown, Vocab, check_tokens
from knock.weights import Weights


class ReweightGPT:
    """A model over token ids.

    Args:
        vocab_size: number of tokens, V.
        T: context window of one layer.
        n_emb: embedding width.
        nodes: width of the MLP's hidden layer.
        n_blocks: number of blocks.
        n_heads: attention heads in a block.
        head_type: `"hybrid"`, `"reweight"` or `"content"`.
        alpha: where the hybrid heads' gates start.
        position: `"relative"` or `"absolute"`; left out, what suits the head type.
        seed: of the random weights.
        backend: what runs the model.

    Raises:
        ConfigError: if the shape cannot be built.
    """

    def __init__(
        self,
        vocab_size: int,
        T: int = 32,
        n_emb: int = 64,
        nodes: int = 64,
        n_blocks: int = 3,
        n_heads: int = 4,
        head_type: HeadType = "hybrid",
        alpha: float = 0.5,
        *,
        position: Position | None = None,
        seed: int = 42,
        backend: Backend = "auto",
    ) -> None:
        config = ModelConfig(
            vocab_size=vocab_size,
            T=T,
            n_emb=n_emb,
            nodes=nodes,
            n_blocks=n_blocks,
            n_heads=n_heads,
            head_type=head_type,
            alpha=alpha,
            **({} if position is None else {"position": position}),
        )
        self.engine = Engine(Weights.random(config, resolve_seed(seed)), backend)

    @classmethod
    def from_weights(cls, weights: Weights, *, backend: Backend = "auto") -> ReweightGPT:
        """The model with these weights."""
        model = cls.__new__(cls)
        model.engine = Engine(weights, backend)
        return model

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, backend: Backend = "auto") -> ReweightGPT:
        """The model in a file.

        Raises:
            CheckpointError: if the file is missing or wrong in any way.
        """
        return cls.from_weights(read_checkpoint(path).weights, backend=backend)

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.engine.config

    @property
    def weights(self) -> Weights:
        """The model's arrays."""
        return self.engine.weights

    def logits(self, tokens: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Logits at every position of one uninterrupted sequence of any length: (N,) -> (N, V).

        Raises:
            VocabError: if a token is not in [0, V).
        """
        return self.engine.logits(tokens)

    def generate(
        self,
        seed_seq: npt.ArrayLike,
        length: int,
        sampling: str | Sampling = "basic",
        *,
        seed: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> tuple[TokenArray, Stats]:
        """Generate tokens.

        Args:
            seed_seq: token ids to go on from; token 0 stands in for an empty sequence.
            length: how many to generate.
            sampling: a `Sampling`, or a preset: `"basic"`, `"top_k"`, `"top_p"` or `"entropy"`.
            seed: decides every draw; None draws one, told in the statistics.
            options: controls of the preset to change, such as `temperature=0.8`.

        Returns:
            The new tokens, int32 of shape (length,), and their statistics, the seed that was used among them.

        Raises:
            VocabError: if a token is not in [0, V).
            SamplingError: if a control or the length is out of range.
        """
        resolved = resolve_seed(seed)
        prompt = check_tokens(seed_seq, self.config.vocab_size)
        self.engine.expect(steps=whole_number("length", length, 0, error=SamplingError))
        stream = self.engine.start(prompt if prompt.size else [0], _controls(sampling, options), resolved)
        tokens, per_token = stream.advance(length)
        return tokens, summarize(per_token, resolved)

    def save(self, path: str | os.PathLike[str], vocab: Vocab | None = None) -> str:
        """Write the model to a `.safetensors` file, and return its digest.

        Args:
            path: where to; a file that is there is replaced in one step.
            vocab: the characters that the tokens stand for, without which the file cannot be used for text.

        Raises:
            CheckpointError: if the file cannot be written or the vocabulary has another size.
        """
        return write_checkpoint(path, self.weights, vocab)

    def __repr__(self) -> str:
        return f"ReweightGPT({self.weights.n_parameters:,} parameters, {self.config})"


class _Request(NamedTuple):
    tokens: TokenArray
    sampling: Sampling
    stop: tuple[str, ...]


class LanguageModel:
    """A model over text: a `ReweightGPT` with the characters its tokens stand for.

    Args:
        model: the model.
        vocab: its characters.
        training: how it was trained, empty if nothing is known.

    Raises:
        CheckpointError: if the two differ in size.
    """

    def __init__(self, model: ReweightGPT, vocab: Vocab, training: Mapping[str, Any] | None = None) -> None:
        if vocab.vocab_size != model.config.vocab_size:
            raise CheckpointError(
                f"the model has {model.config.vocab_size} tokens and the vocabulary {vocab.vocab_size} characters; "
                "a model needs the vocabulary it was made for"
            )
        self.model = model
        self.vocab = vocab
        self.training = dict(training or {})

    def stream(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int = 300,
        sampling: str | Sampling = "basic",
        seed: int | None = None,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        **options: Unpack[SamplingOptions],
    ) -> TextStream:
        """Generate text piece by piece; takes what `generate` takes, and checks it before the first piece.

        Characters that may be part of a stop string are held back until it is clear.
        """
        controls, resolved = _controls(sampling, options), resolve_seed(seed)
        length = whole_number("max_new_tokens", max_new_tokens, 0, error=SamplingError)
        request = self._request(prompt, controls, stop, unknown)
        self.model.engine.expect(steps=length)
        return self._start(request, 0, length, resolved, token_stats)

    def generate(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int = 300,
        sampling: str | Sampling = "basic",
        seed: int | None = None,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        **options: Unpack[SamplingOptions],
    ) -> Generation:
        """Generate text.

        Args:
            prompt: what to go on from. An empty one starts like a new line of the training text.
            max_new_tokens: how many characters to generate.
            sampling: a `Sampling`, or a preset: `"basic"`, `"top_k"`, `"top_p"` or `"entropy"`.
            seed: decides every draw; None draws one, told in the result.
            stop: one or more strings; the text ends where one is complete, and that one is cut off.
            unknown: what to do with characters of the prompt that the model does not know: `"error"`, `"skip"` or
                `"replace"`.
            token_stats: whether to keep the statistics of each character, beside their summary.
            options: controls of the preset to change, such as `temperature=0.8`.

        Raises:
            VocabError: if the prompt has an unknown character.
            SamplingError: if a control or the length is out of range.
        """
        stream = self.stream(
            prompt,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seed=seed,
            stop=stop,
            unknown=unknown,
            token_stats=token_stats,
            **options,
        )
        return collect(stream, prompt)

    def generate_batch(
        self,
        prompts: Iterable[str],
        sampling: str | Sampling | Iterable[str | Sampling] = "basic",
        n: int = 1,
        seed: int | None = 0,
        *,
        max_new_tokens: int = 300,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
    ) -> list[Generation]:
        """Generate a text for each prompt, in the order of the prompts.

        Row i depends on the model, its prompt, its controls, the seed and i, and on no other row.

        Args:
            prompts: what to go on from.
            sampling: the controls of all prompts, or a list with those of each.
            n: texts for each prompt, side by side in the result.
            seed: of the whole batch; None draws one.
            max_new_tokens: how many characters a text.
            stop: as in `generate`.
            unknown: as in `generate`.
            token_stats: as in `generate`.

        Raises:
            VocabError: if a prompt has an unknown character.
            SamplingError: if a control is out of range, or the lists differ in length.
        """
        if isinstance(prompts, str):
            raise SamplingError(f"prompts must be a list of strings, got one string; pass [{prompts[:20]!r}]")
        prompts = list(prompts)
        n = whole_number("n", n, 1, error=SamplingError)
        each = [sampling] * len(prompts) if isinstance(sampling, (str, Sampling)) else list(sampling)
        if len(each) != len(prompts):
            raise SamplingError(f"got {len(each)} controls for {len(prompts)} prompts; give one for all, or as many")
        stop = StopStrings(stop).strings
        resolved = resolve_seed(seed)
        length = whole_number("max_new_tokens", max_new_tokens, 0, error=SamplingError)
        # Every row is checked before the first is generated.
        requests = [
            self._request(prompt, _controls(s, {}), stop, unknown) for prompt, s in zip(prompts, each, strict=True)
        ]
        self.model.engine.expect(steps=length * n * len(prompts))
        streams = deque(
            self._start(requests[i // n], i, length, resolved, token_stats) for i in range(n * len(prompts))
        )
        # A row that is done leaves the queue, and its memory.
        return [collect(streams.popleft(), prompt) for prompt in prompts for _ in range(n)]

    def score(self, text: str, *, unknown: Unknown = "error") -> Score:
        """How well the model predicts a text, the first character as after an empty prompt.

        Raises:
            VocabError: if the text has an unknown character.
        """
        tokens = self.vocab.encode(text, unknown=unknown)
        before = np.append(self.vocab.start_id, tokens)[: len(tokens)]
        return Score(text=self.vocab.decode(tokens), log_probs=self.model.engine.log_probs(before, tokens))

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the model, its vocabulary and its training record to a `.safetensors` file; return its digest.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        return write_checkpoint(path, self.model.weights, self.vocab, self.training)

    def __repr__(self) -> str:
        return f"LanguageModel({self.model!r}, {self.vocab!r})"

    def _request(self, prompt: str, sampling: Sampling, stop: str | Iterable[str] | None, unknown: Unknown) -> _Request:
        """What is to be generated, checked."""
        if sampling.logit_bias:
            bias = {self._token(key): value for key, value in sampling.logit_bias.items()}
            sampling = replace(sampling, logit_bias=bias)
        stop_strings = StopStrings(stop).strings
        if self.vocab.lowercase:
            stop_strings = StopStrings([self.vocab.normalize(string) for string in stop_strings]).strings
        tokens = self.vocab.encode(prompt, unknown=unknown)
        if not tokens.size:
            tokens = np.array([self.vocab.start_id], np.int32)
        return _Request(tokens=tokens, sampling=sampling, stop=stop_strings)

    def _start(self, request: _Request, row: int, length: int, seed: int, token_stats: bool) -> TextStream:
        started = self.model.engine.start(request.tokens, request.sampling, seed, row)
        return TextStream(started, self.vocab, length, StopStrings(request.stop), token_stats)

    def _token(self, key: object) -> object:
        if not isinstance(key, str):
            return key
        char = self.vocab.normalize(key)
        if char not in self.vocab:
            raise SamplingError(f"logit_bias names {key!r}, which is not one of the model's {self.vocab.describe()}")
        return self.vocab.characters.index(char)


def load(model: str | os.PathLike[str], *, backend: Backend = "auto") -> LanguageModel:
    """A model by the name of a shipped one, the path of a file, or the path of a folder that holds one file.

    Raises:
        CheckpointError: if there is no such model, or its file is wrong in any way.
    """
    path = locate(model)
    checkpoint = read_checkpoint(path)
    if checkpoint.vocab is None:
        raise CheckpointError(
            f"{str(path)!r} has no vocabulary, so it cannot be used for text; load it with ReweightGPT.load"
        )
    gpt = ReweightGPT.from_weights(checkpoint.weights, backend=backend)
    return LanguageModel(gpt, checkpoint.vocab, checkpoint.training)


def _controls(sampling: str | Sampling, options: SamplingOptions) -> Sampling:
    if isinstance(sampling, Sampling):
        return Sampling.of({**vars(sampling), **options}) if options else sampling
    return Sampling.preset(sampling, options)
