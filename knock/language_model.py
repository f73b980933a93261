"""LanguageModel: the model over text, and `load`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Unpack

import numpy as np

from knock.choices import Backend, Unknown
from knock.engine.batch import NOT_DONE, Request, groups
from knock.errors import CheckpointError, SamplingError
from knock.files.checkpoint import model_digest, read_checkpoint, write_checkpoint
from knock.generation.requests import LAST_INDEX, RequestBuilder, prompt_tokens, several, with_token_bias
from knock.generation.results import Generation, Interrupted, Prompt, Score, TextStream, collect, generations
from knock.generation.stopping import StopStrings, as_written, warn_of_impossible
from knock.gpt import ReweightGPT
from knock.hints import COUNTS, LENGTHS, STOPS, hint_at
from knock.models import locate
from knock.sampling import Sampling, SamplingOptions, each_sampling, resolve_seed
from knock.validation import whole_number
from knock.vocab import Vocab

# What other libraries call the arguments of generation.
_ONE = {
    **dict.fromkeys(LENGTHS, "max_new_tokens"),
    **dict.fromkeys(COUNTS, "generate_batch(prompts, n=...)"),
    **dict.fromkeys(STOPS, "stop"),
    "temp": "temperature",
}
_MANY = {
    **_ONE,
    **dict.fromkeys(COUNTS, "n"),
    **{name: f"sampling=Sampling({name}=...)" for name in SamplingOptions.__annotations__},
    "temp": "sampling=Sampling(temperature=...)",
}


class LanguageModel:
    """A model over text: a `ReweightGPT` with the characters of its tokens. Threads may share it; it can be pickled.

    Args:
        model: the model.
        vocab: its characters.
        training: the record of its training, empty if unknown.

    Raises:
        CheckpointError: if model and vocabulary differ in size.
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

    @property
    def digest(self) -> str:
        """SHA-256 of shape, vocabulary and weights, which identifies the model: 64 hex digits."""
        return model_digest(self.model.weights, self.vocab)

    @hint_at(_ONE)
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
        """Generate text piece by piece. Takes the arguments of `generate`, and validates them at once.

        Characters that may belong to a stop string are held back until that is decided.
        """
        controls, resolved = Sampling.resolve(sampling, options), resolve_seed(seed)
        length = whole_number("max_new_tokens", max_new_tokens, 0, LAST_INDEX, error=SamplingError)
        tokens, controls = prompt_tokens(prompt, self.vocab, unknown), with_token_bias(controls, self.vocab)
        stops = StopStrings(stop, lambda string: as_written(string, self.vocab))
        warn_of_impossible(stops.strings, length, self.vocab)
        started = self.model.engine.start(tokens, controls, resolved, length=length)
        return TextStream(started, self.vocab, length, stops, token_stats)

    @hint_at(_ONE)
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
            prompt: the text to continue. An empty prompt begins a new line.
            max_new_tokens: number of characters to generate.
            sampling: a `Sampling`, or a preset: `"basic"`, `"top_k"`, `"top_p"` or `"entropy"`.
            seed: decides every draw. The same seed gives the same text on the same type of CPU and backend. If None, a
                seed is drawn and reported in the result.
            stop: one or more strings; the text ends before the first that is completed. The prompt does not count. One
                that can never be completed gets a warning.
            unknown: how to handle characters of the prompt that the model does not know: `"error"`, `"skip"` or
                `"replace"`.
            token_stats: whether to keep the statistics of each character, besides their summary.
            options: controls that override those of the preset, such as `temperature=0.8`.

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

    @hint_at(_MANY)
    def generate_batch(
        self,
        prompts: Iterable[str | Prompt],
        sampling: str | Sampling | Iterable[str | Sampling] = "basic",
        n: int = 1,
        seed: int | None = None,
        *,
        max_new_tokens: int = 300,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        keep_errors: bool = False,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Generation]:
        """Generate a text for each prompt, in the order of the prompts.

        Row i depends on the model, its prompt, its controls, the seed and i, and on no other row.

        Args:
            prompts: the texts to continue; a `Prompt` has controls of its own.
            sampling: the controls of all prompts, or a list with those of each.
            n: texts for each prompt, adjacent in the result.
            seed: seed of the batch. If None, a seed is drawn and reported in each result.
            max_new_tokens: number of characters of each text.
            stop: as in `generate`.
            unknown: as in `generate`.
            token_stats: as in `generate`.
            keep_errors: If True, an invalid prompt yields a row with an error instead of raising.
            threads: number of threads; None for one for each CPU.
            progress: called periodically with the number of finished texts.

        Raises:
            VocabError: if a prompt has an unknown character.
            SamplingError: if a control is out of range, or the lists differ in length.
            Interrupted: on Ctrl-C; it holds the texts that were finished by then.
        """
        prompts, n, resolved = list(several(prompts)), whole_number("n", n, 1, error=SamplingError), resolve_seed(seed)
        builder = RequestBuilder(self.vocab, "basic", stop, max_new_tokens, unknown, keep_errors)
        # Every row is validated before the first is generated.
        requests = [
            request
            for i, (prompt, controls) in enumerate(zip(prompts, each_sampling(sampling, len(prompts)), strict=True))
            for request in builder.rows(prompt, i * n, n, controls)
        ]
        total = sum(request.max_new_tokens for request in requests)
        done: list[Generation] = []
        try:
            done.extend(self._sample(requests, resolved, token_stats, threads, progress, total))
        except Interrupted as interrupt:
            raise Interrupted([*done, *interrupt.finished], interrupt.first_missing) from None
        except KeyboardInterrupt:
            missing = requests[len(done)].index if len(done) < len(requests) else len(requests)
            raise Interrupted(done, missing) from None
        return done

    @hint_at(_MANY)
    def sample_iter(
        self,
        prompts: Iterable[str | Prompt],
        sampling: str | Sampling = "basic",
        n: int = 1,
        seed: int | None = None,
        *,
        max_new_tokens: int = 300,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        keep_errors: bool = False,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> Iterator[Generation]:
        """Generate a text for each of any number of prompts: in order, as they are finished, in bounded memory.

        Takes the arguments of `generate_batch`, except that `sampling` is for all prompts and `prompts` may be endless.
        `first` is the index of the first row, to resume a batch. An error raised by the iterable, or by an invalid
        prompt, is raised after the texts of the prompts before it.
        """
        n, first = (whole_number(*each, error=SamplingError) for each in (("n", n, 1), ("first", first, 0, LAST_INDEX)))
        builder = RequestBuilder(self.vocab, sampling, stop, max_new_tokens, unknown, keep_errors)
        requests = (
            request for i, prompt in enumerate(several(prompts)) for request in builder.rows(prompt, first + i * n, n)
        )
        return self._sample(requests, resolve_seed(seed), token_stats, threads, progress)

    def _sample(
        self,
        requests: Iterable[Request],
        seed: int,
        token_stats: bool,
        threads: int | None,
        progress: Callable[[int], None] | None,
        total_steps: int | None = None,
    ) -> Iterator[Generation]:
        done = 0
        for group in groups(requests):
            counted = None if progress is None else _counting_from(progress, done)
            rows = self.model.engine.run(
                group, seed, threads=threads, keep_stats=True, progress=counted, total_steps=total_steps
            )
            given = 0
            try:
                if rows.is_interrupted:
                    raise KeyboardInterrupt
                for text in generations(rows, group, self.vocab, seed, token_stats):
                    given += 1
                    yield text
            except KeyboardInterrupt:
                finished = list(generations(rows, group, self.vocab, seed, token_stats))
                indices = [*(request.index for request in group), group[-1].index + 1]
                first_missing = indices[int(np.append(rows.finish_reasons != NOT_DONE, False).argmin())]
                raise Interrupted(finished[given:], first_missing) from None
            done += len(group)

    def score(self, text: str, *, unknown: Unknown = "error") -> Score:
        """Measure how well the model predicts a text; the first character is predicted as after an empty prompt.

        Raises:
            VocabError: if the text has an unknown character.
        """
        tokens = self.vocab.encode(text, unknown=unknown)
        before = np.append(self.vocab.start_id, tokens)[: len(tokens)]
        return Score(text=self.vocab.decode(tokens), log_probs=self.model.engine.log_probs(before, tokens))

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write model, vocabulary and training record to a `.safetensors` or `.npz` file and return the digest.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        return write_checkpoint(path, self.model.weights, self.vocab, self.training)

    def __repr__(self) -> str:
        return f"LanguageModel({self.model!r}, {self.vocab!r})"


def load(model: str | os.PathLike[str], *, backend: Backend = "auto") -> LanguageModel:
    """Load a model.

    Args:
        model: the name of a shipped model, a file, or a folder that holds one model file.
        backend: `"auto"`, `"numpy"` or `"compiled"`, as in `knock.engine.engine.Engine`.

    Raises:
        CheckpointError: if there is no such model, or the file is not a valid model file.
    """
    path = locate(model)
    checkpoint = read_checkpoint(path)
    if checkpoint.vocab is None:
        raise CheckpointError(
            f"{str(path)!r} has no vocabulary, so it cannot be used for text; load it with ReweightGPT.load, "
            "or give it one: knock convert IN OUT --vocab corpus.txt"
        )
    gpt = ReweightGPT.from_weights(checkpoint.weights, backend=backend)
    return LanguageModel(gpt, checkpoint.vocab, checkpoint.training)


def _counting_from(progress: Callable[[int], None], done: int) -> Callable[[int], None]:
    """Return a progress callback that counts from the rows that were finished before."""
    return lambda rows: progress(done + rows)
