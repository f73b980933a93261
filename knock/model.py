"""The two models a user touches: ReweightGPT, over token ids, and LanguageModel, over text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from knock.backends import Backend
from knock.batch import Request, windows
from knock.checkpoint import read_checkpoint, write_checkpoint
from knock.checks import whole_number
from knock.config import HeadType, ModelConfig, Position
from knock.engine import Engine
from knock.errors import CheckpointError, SamplingError
from knock.generation import Generation, Prompt, Score, TextStream, collect, generations
from knock.models import locate
from knock.requests import Requests, prompt_tokens, with_token_bias
from knock.sampling import (
    Sampling,
    SamplingOptions,
    Stats,
    TokenStats,
    resolve_seed,
    summarize,
    summarize_rows,
)
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

    def generate_batch(
        self,
        prompts: Sequence[npt.ArrayLike],
        length: int,
        sampling: str | Sampling | Sequence[str | Sampling] = "basic",
        *,
        seed: int | None = 0,
        threads: int | None = None,
    ) -> tuple[TokenArray, list[Stats]]:
        """Generate tokens for each prompt. Row i depends on its prompt, its controls, the seed and i alone.

        Args:
            prompts: token ids to go on from; token 0 stands in for an empty sequence.
            length: how many to generate for each.
            sampling: the controls of all prompts, or as many as there are prompts.
            seed: of the whole batch; None draws one, told in the statistics.
            threads: how many work on it; None for as many as there are CPUs.

        Returns:
            The new tokens, int32 of shape (rows, length), and the statistics of each row.

        Raises:
            VocabError: if a token is not in [0, V).
            SamplingError: if a control is out of range, or the lists differ in length.
        """
        length, resolved = whole_number("length", length, 0, error=SamplingError), resolve_seed(seed)
        checked = [check_tokens(prompt, self.config.vocab_size) for prompt in prompts]
        start = np.zeros(1, np.int32)
        requests = [
            Request(tokens if tokens.size else start, controls, None, length, i)
            for i, (tokens, controls) in enumerate(zip(checked, _controls_of_each(sampling, len(checked)), strict=True))
        ]
        self.engine.expect(steps=length * len(requests))
        rows = self.engine.run(requests, resolved, threads=threads, keep_stats=True)
        assert rows.stats is not None
        stats = summarize_rows(TokenStats.from_array(rows.stats), rows.lengths, resolved)
        return rows.tokens.reshape(len(requests), length), stats

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
        tokens, controls = prompt_tokens(prompt, self.vocab, unknown), with_token_bias(controls, self.vocab)
        strings = [self.vocab.normalize(string) for string in StopStrings(stop).strings]
        self.model.engine.expect(steps=length)
        started = self.model.engine.start(tokens, controls, resolved)
        return TextStream(started, self.vocab, length, StopStrings(strings), token_stats)

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
        prompts: Iterable[str | Prompt],
        sampling: str | Sampling | Iterable[str | Sampling] = "basic",
        n: int = 1,
        seed: int | None = 0,
        *,
        max_new_tokens: int = 300,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Generation]:
        """Generate a text for each prompt, in the order of the prompts.

        Row i depends on the model, its prompt, its controls, the seed and i, and on no other row.

        Args:
            prompts: what to go on from; a `Prompt` has controls of its own.
            sampling: the controls of all prompts, or a list with those of each.
            n: texts for each prompt, side by side in the result.
            seed: of the whole batch; None draws one.
            max_new_tokens: how many characters a text.
            stop: as in `generate`.
            unknown: as in `generate`.
            token_stats: as in `generate`.
            threads: how many work on it; None for as many as there are CPUs.
            progress: told now and then how many texts are done.

        Raises:
            VocabError: if a prompt has an unknown character.
            SamplingError: if a control is out of range, or the lists differ in length.
        """
        if isinstance(prompts, str):
            raise SamplingError(f"prompts must be a list of strings, got one string; pass [{prompts[:20]!r}]")
        prompts, n, resolved = list(prompts), whole_number("n", n, 1, error=SamplingError), resolve_seed(seed)
        each = _controls_of_each(sampling, len(prompts))
        requests = Requests(self.vocab, "basic", stop, max_new_tokens, unknown)
        # Every row is checked before the first is generated.
        asked = [
            requests.request(prompt, i * n + k, controls)
            for i, (prompt, controls) in enumerate(zip(prompts, each, strict=True))
            for k in range(n)
        ]
        self.model.engine.expect(steps=sum(request.limit for request in asked))
        return list(self._sample(asked, resolved, token_stats, threads, progress))

    def sample_iter(
        self,
        prompts: Iterable[str | Prompt],
        sampling: str | Sampling = "basic",
        n: int = 1,
        seed: int | None = 0,
        *,
        max_new_tokens: int = 300,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        threads: int | None = None,
        first: int = 0,
    ) -> Iterator[Generation]:
        """`generate_batch` for any number of prompts: texts in order, as they come, in memory that does not grow.

        Takes what `generate_batch` takes, but one `sampling` for all prompts without their own, and `prompts` that may
        never end. `first` is the index of the first row, to go on with a batch that was begun before.

        Raises:
            VocabError: when it comes to a prompt with an unknown character.
            SamplingError: if a control is out of range.
        """
        n, first = (whole_number(*each, error=SamplingError) for each in (("n", n, 1), ("first", first, 0)))
        requests = Requests(self.vocab, sampling, stop, max_new_tokens, unknown)
        asked = (requests.request(prompt, first + i * n + k) for i, prompt in enumerate(prompts) for k in range(n))
        return self._sample(asked, resolve_seed(seed), token_stats, threads, is_expected=False)

    def _sample(
        self,
        asked: Iterable[Request],
        seed: int,
        token_stats: bool,
        threads: int | None,
        progress: Callable[[int], None] | None = None,
        is_expected: bool = True,
    ) -> Iterator[Generation]:
        done = 0
        for part in windows(asked):
            if not is_expected:
                self.model.engine.expect(steps=sum(request.limit for request in part))
            told = None if progress is None else _counting_on(progress, done)
            rows = self.model.engine.run(part, seed, threads=threads, keep_stats=True, progress=told)
            yield from generations(rows, [request.prompt for request in part], self.vocab, seed, token_stats)
            done += len(part)

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


def _controls_of_each(sampling: str | Sampling | Iterable[str | Sampling], count: int) -> list[Sampling]:
    """The controls of so many prompts; those that are the same are one object."""
    if isinstance(sampling, (str, Sampling)):
        return [_controls(sampling, {})] * count
    given = list(sampling)
    if len(given) != count:
        raise SamplingError(f"got {len(given)} controls for {count} prompts; give one for all, or as many")
    presets = {name: Sampling.preset(name, {}) for name in given if isinstance(name, str)}
    return [presets[each] if isinstance(each, str) else _controls(each, {}) for each in given]


def _counting_on(progress: Callable[[int], None], done: int) -> Callable[[int], None]:
    """Progress that counts on from the rows that were done before."""
    return lambda rows: progress(done + rows)
