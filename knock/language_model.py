"""LanguageModel: the model over text, and `load`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from knock.choices import Backend, Unknown
from knock.engine.batch import NOT_DONE, Request, groups
from knock.errors import CheckpointError, GenerationError, SamplingError, TooFewError
from knock.files.checkpoint import model_digest, read_checkpoint, write_checkpoint
from knock.generation.constraints.constraint import (
    NO_CONSTRAINT,
    Constraint,
    ConstraintOptions,
    compile_constraint,
    split,
)
from knock.generation.requests import (
    LAST_INDEX,
    RequestBuilder,
    banned_tokens,
    prompt_tokens,
    several,
    with_token_bias,
)
from knock.generation.results import Generation, Interrupted, Prompt, Score, TextStream, collect, generations
from knock.generation.stopping import StopStrings, as_written, warn_of_impossible
from knock.gpt import ReweightGPT
from knock.hints import COUNTS, LENGTHS, STOPS, hint_at
from knock.models import locate
from knock.sampling import Sampling, SamplingOptions, each_sampling, resolve_seed
from knock.validation import whole_number
from knock.vocab import Vocab

if TYPE_CHECKING:
    from knock.generation.filters import Accept, Source

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
}


_ITEMS = {**_ONE, **dict.fromkeys(COUNTS, "count"), "n": "count"}
_MOST_TRIES = 10_000  # texts drawn for one exact one


class TextOptions(SamplingOptions, ConstraintOptions, total=False):
    """The controls of sampling and the constraints on a text, as keyword arguments."""


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
        **options: Unpack[TextOptions],
    ) -> TextStream:
        """Generate text piece by piece. Takes the arguments of `generate`, and validates them at once.

        Characters that may belong to a stop string are held back until that is decided. A stream cannot be `exact`,
        because its beginning would be out before it is known whether the text matches.
        """
        given, constraint = split(options)
        if constraint.exact:
            raise SamplingError("a stream cannot be exact, since a text is rejected as a whole; use generate")
        return self._stream(prompt, max_new_tokens, sampling, seed, stop, unknown, token_stats, given, constraint)

    def _stream(
        self,
        prompt: str,
        max_new_tokens: int,
        sampling: str | Sampling,
        seed: int | None,
        stop: str | Iterable[str] | None,
        unknown: Unknown,
        token_stats: bool,
        options: SamplingOptions,
        constraint: Constraint,
        index: int = 0,
    ) -> TextStream:
        controls, resolved = Sampling.resolve(sampling, options), resolve_seed(seed)
        length = whole_number("max_new_tokens", max_new_tokens, 0, LAST_INDEX, error=SamplingError)
        tokens, controls = prompt_tokens(prompt, self.vocab, unknown), with_token_bias(controls, self.vocab)
        stops = StopStrings(stop, lambda string: as_written(string, self.vocab))
        warn_of_impossible(stops.strings, length, self.vocab)
        if constraint == NO_CONSTRAINT and not self.vocab.has_boundary:  # the stream itself looks for stop strings
            started = self.model.engine.start(tokens, controls, resolved, index, length=length)
            return TextStream(started, self.vocab, length, stops, token_stats)
        compiled = compile_constraint(constraint, stops.strings, self.vocab, banned_tokens(controls))
        state, length, is_over = compiled.begin(tokens[1:] if self.vocab.has_boundary else tokens, length)
        started = self.model.engine.start(
            tokens, controls, resolved, index, length=length, automaton=compiled.automaton, state=state,
            is_masked=compiled.is_masked,
        )  # fmt: skip
        return TextStream(
            started, self.vocab, 0 if is_over else length, stops, token_stats, keep_stop=constraint.keep_stop,
            is_over=is_over,
        )  # fmt: skip

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
        **options: Unpack[TextOptions],
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
            options: controls that override those of the preset, such as `temperature=0.8`, and the fields of
                `Constraint`, such as `pattern=r"[A-Z][a-z]+"`.

        Raises:
            VocabError: if the prompt has an unknown character.
            SamplingError: if a control or the length is out of range, or no text matches.
            GenerationError: if `exact` is set, and none of 10,000 texts matched.
        """
        given, constraint = split(options)
        seed = resolve_seed(seed)
        for index in range(_MOST_TRIES):
            stream = self._stream(
                prompt, max_new_tokens, sampling, seed, stop, unknown, token_stats, given, constraint, index
            )
            text = collect(stream, prompt, index)
            if text.finish_reason != "rejected":
                return text
        raise GenerationError(
            f"none of {_MOST_TRIES:,} texts that were drawn matches the constraint; relax it, or drop exact"
        )

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
        **options: Unpack[TextOptions],
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
            options: as in `generate`, for prompts whose controls are not given as a list. With `exact`, texts that do
                not match are returned with the finish reason `"rejected"`.

        Raises:
            VocabError: if a prompt has an unknown character.
            SamplingError: if a control is out of range, or the lists differ in length.
            Interrupted: on Ctrl-C; it holds the texts that were finished by then.
        """
        prompts, n, resolved = list(several(prompts)), whole_number("n", n, 1, error=SamplingError), resolve_seed(seed)
        given, constraint = split(options)
        sampling = _overridden(sampling, given)
        builder = RequestBuilder(self.vocab, "basic", stop, max_new_tokens, unknown, keep_errors, constraint)
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
        **options: Unpack[TextOptions],
    ) -> Iterator[Generation]:
        """Generate a text for each of any number of prompts: in order, as they are finished, in bounded memory.

        Takes the arguments of `generate_batch`, except that `sampling` is for all prompts and `prompts` may be endless.
        `first` is the index of the first row, to resume a batch. An error raised by the iterable, or by an invalid
        prompt, is raised after the texts of the prompts before it.
        """
        n, first = (whole_number(*each, error=SamplingError) for each in (("n", n, 1), ("first", first, 0, LAST_INDEX)))
        given, constraint = split(options)
        sampling = Sampling.resolve(sampling, given)
        builder = RequestBuilder(self.vocab, sampling, stop, max_new_tokens, unknown, keep_errors, constraint)
        requests = (
            request for i, prompt in enumerate(several(prompts)) for request in builder.rows(prompt, first + i * n, n)
        )
        return self._sample(requests, resolve_seed(seed), token_stats, threads, progress)

    @hint_at(_ITEMS)
    def items(
        self,
        count: int,
        prompt: str = "",
        *,
        unique: bool = True,
        novel: Source | None = None,
        max_overlap: tuple[int, Source] | None = None,
        accept: Accept | None = None,
        keep_cut: bool = False,
        tries: int | None = None,
        max_new_tokens: int = 300,
        sampling: str | Sampling = "basic",
        seed: int | None = None,
        stop: str | Iterable[str] | None = None,
        threads: int | None = None,
        **options: Unpack[TextOptions],
    ) -> list[str]:
        """Generate texts until there are as many as wanted that pass the filters: names, lines, rows of a table.

        They are the first ones in the order of their index, whatever the number of threads. In a model of items, each
        is a whole item, with the prompt; otherwise it is the text after the prompt, and `stop` says where it ends.

        Args:
            count: number of texts.
            prompt: what each text begins with.
            unique: drop texts that equal an earlier one.
            novel: texts that are not new: a file with one per line, or an iterable of texts.
            max_overlap: a number of characters, and texts of which no run of that length may be copied: a file or an
                iterable. Needs 8 bytes of memory per character of theirs.
            accept: regular expression that a text must match as a whole, in all of Python's syntax, or a function that
                returns whether to keep a text.
            keep_cut: keep texts that were cut at the limit of their length.
            tries: most texts to draw; by default 100 for each one that is wanted, and at least 10,000.
            max_new_tokens: as in `generate`.
            sampling: as in `generate`.
            seed: seed of the batch; None draws one.
            stop: as in `generate`.
            threads: as in `generate_batch`.
            options: as in `generate`.

        Raises:
            TooFewError: if there are fewer after `tries` texts; it has those that there are.
            VocabError: if the prompt has an unknown character.
            SamplingError: if an argument is out of range, or no text matches the constraint.
        """
        from knock.generation.filters import Filters, KnownRuns, KnownTexts, describe  # a single text needs none

        count = whole_number("count", count, 0, error=SamplingError)
        most = max(10_000, 100 * count) if tries is None else whole_number("tries", tries, 1, error=SamplingError)
        filters = Filters(
            unique=unique,
            novel=None if novel is None else KnownTexts(novel),
            overlap=None if max_overlap is None else KnownRuns(*max_overlap),
            accept=accept,
            keep_cut=keep_cut,
        )
        prefix, found = prompt if self.vocab.has_boundary else "", list[str]()
        texts = self.sample_iter(
            itertools.repeat(prompt, most if count else 0), sampling, seed=seed, max_new_tokens=max_new_tokens,
            stop=stop, threads=threads, **options,
        )  # fmt: skip
        for text in texts:
            if filters.keep(prefix + text.text, text.finish_reason):
                found.append(prefix + text.text)
                if len(found) == count:
                    return found
        if count:
            raise TooFewError(found, count, describe(filters))
        return found

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

        In a model of items, the text is one item, and the last log-probability is that of its end.

        Raises:
            VocabError: if the text has an unknown character.
        """
        tokens = self.vocab.encode(text, unknown=unknown)
        targets = tokens if self.vocab.boundary is None else np.append(tokens, np.int32(self.vocab.boundary))
        before = np.append(np.int32(self.vocab.start_id), tokens)[: len(targets)]
        return Score(text=self.vocab.decode(tokens), log_probs=self.model.engine.log_probs(before, targets))

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


def _overridden(
    sampling: str | Sampling | Iterable[str | Sampling], options: SamplingOptions
) -> str | Sampling | Iterable[str | Sampling]:
    """Return the controls of a batch with some of them overridden, in each if they are given as a list."""
    if not options:
        return sampling
    if isinstance(sampling, (str, Sampling)) or not isinstance(sampling, Iterable):
        return Sampling.resolve(sampling, options)
    return [Sampling.resolve(each, options) for each in sampling]


def _counting_from(progress: Callable[[int], None], done: int) -> Callable[[int], None]:
    """Return a progress callback that counts from the rows that were finished before."""
    return lambda rows: progress(done + rows)
