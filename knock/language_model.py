"""LanguageModel: the model over text, and `load`."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from knock.choices import DEFAULT_PRECISION, Backend, Precision, Unknown
from knock.errors import CheckpointError, OutputError, SamplingError, SchemaError
from knock.files.checkpoint import model_digest, read_checkpoint, write_checkpoint
from knock.generation.batches import collected, sample
from knock.generation.options import TextOptions, split
from knock.generation.picking import first_kept
from knock.generation.requests import (
    LAST_INDEX,
    RequestBuilder,
    beginning,
    check_count,
    default_length,
    several,
)
from knock.generation.results import Generation, Prompt, Score, TextStream, collect
from knock.generation.stopping import StopStrings
from knock.generation.streams import start_stream
from knock.gpt import ReweightGPT
from knock.hints import COUNTS, LENGTHS, OF_BATCHES, OF_ITEMS, PATTERNS, STOPS, hint_at
from knock.models import SAFETENSORS, locate, shipped
from knock.sampling import Sampling, each_sampling, resolve_seed
from knock.validation import whole_number
from knock.vocab import Vocab

if TYPE_CHECKING:
    from knock.generation.constraints.constraint import Constraint
    from knock.generation.filters import Accept, Source
    from knock.generation.search import MostLikely
    from knock.sampling import SamplingOptions

# What other libraries call the arguments of generation.
_ONE = {
    **dict.fromkeys(LENGTHS, "max_new_tokens"),
    **dict.fromkeys(COUNTS, "generate_batch(prompts, n=...)"),
    **dict.fromkeys(STOPS, "stop"),
    **dict.fromkeys(PATTERNS, "pattern"),
    **dict.fromkeys(OF_BATCHES, "generate_batch, which has it"),
    **dict.fromkeys(OF_ITEMS, "items, which has it"),
    "temp": "temperature",
}
_MANY = {
    **_ONE,
    **dict.fromkeys(COUNTS, "n"),
}


_LIKELIEST = {**dict.fromkeys(LENGTHS, "max_new_tokens"), **dict.fromkeys(COUNTS, "n"), **dict.fromkeys(STOPS, "stop")}
_ITEMS = {**_ONE, **dict.fromkeys(COUNTS, "count"), "n": "count"}
_TRIED_ALONE = 8  # texts drawn for one exact one, before others are drawn as a batch
_MOST_PREFIXES = 100_000  # beginnings of texts that are looked at for the likeliest


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

    @property
    def schema(self) -> dict[str, Any] | None:
        """What the columns of a table hold, of a model of its rows; None otherwise. Every text matches its pattern.

        It is a part of the training record, as in `knock.generation.constraints.schema`, and can be replaced.

        Raises:
            SchemaError: if a new one is invalid, or the model is not one of items.
        """
        return self.training.get("schema")

    @schema.setter
    def schema(self, schema: dict[str, Any]) -> None:
        from knock.generation.constraints.schema import check

        check(schema)
        if not self.vocab.has_boundary:
            raise SchemaError("this model writes text, not rows of a table, so it takes no schema; train with --rows")
        self.training["schema"] = schema

    @property
    def default_length(self) -> int:
        """The number of characters that a text may have if nothing else is said: enough for any row of a table."""
        length = default_length(self.vocab)
        if self.schema is None:
            return length
        from knock.generation.constraints.schema import longest_row

        return max(length, longest_row(self.schema) + 1)

    def length_limit(self, max_new_tokens: int | None) -> int:
        """Return the most characters that a text may have; None stands for a whole item, and `default_length`.

        Raises:
            SamplingError: if it is None and the model is not one of items.
        """
        if max_new_tokens is not None:
            return max_new_tokens
        if not self.vocab.has_boundary:
            raise SamplingError(
                "max_new_tokens=None generates up to the end of an item, but this model writes plain text without "
                "items; pass a number"
            )
        return self.default_length

    def constrained(self, constraint: Constraint | None) -> Constraint | None:
        """Return a constraint on texts of this model: with the pattern of the schema, if there is one.

        None stands for no constraint.

        Raises:
            SamplingError: if the constraint has a pattern of its own, too.
            SchemaError: if the schema is invalid.
        """
        if self.schema is None:
            return constraint
        from knock.generation.constraints.constraint import NO_CONSTRAINT

        constraint = constraint or NO_CONSTRAINT
        if constraint.pattern is not None:
            raise SamplingError("the schema of the table is the pattern of its rows; change the schema instead")
        from knock.generation.constraints.schema import pattern_of

        pattern = pattern_of(self.schema)
        return replace(constraint, pattern=f"(?i:{pattern})" if self.vocab.lowercase else pattern)

    def _split(self, options: Mapping[str, Any]) -> tuple[SamplingOptions, Constraint | None]:
        given, constraint = split(options)
        return given, self.constrained(constraint)

    @hint_at(_ONE, TextOptions)
    def stream(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int | None = 300,
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
        given, constraint = self._split(options)
        if constraint is not None and constraint.exact:
            raise SamplingError("a stream cannot be exact, since a text is rejected as a whole; use generate")
        return start_stream(
            self.model.engine, self.vocab, prompt, Sampling.resolve(sampling, given), resolve_seed(seed),
            max_new_tokens=self.length_limit(max_new_tokens), stop=stop, unknown=unknown, token_stats=token_stats,
            constraint=constraint,
        )  # fmt: skip

    @hint_at(_ONE, TextOptions)
    def generate(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int | None = 300,
        sampling: str | Sampling = "basic",
        seed: int | None = None,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        **options: Unpack[TextOptions],
    ) -> Generation:
        """Generate text.

        Args:
            prompt: the text to continue. An empty prompt begins a new line. In a model of items, it is the beginning of
                an item, which ends the text.
            max_new_tokens: number of characters to generate, unless the text ends before. In a model of items, None
                stands for the whole item: up to 1,000 characters, or as many as a row of its table may have.
            sampling: a `Sampling`, or a preset: `"balanced"`, `"basic"`, `"top_k"`, `"top_p"` or `"entropy"`.
            seed: decides every draw. The same seed gives the same text, on every CPU unless the model was loaded with
                `precision="float32"`. If None, a seed is drawn and reported in the result.
            stop: one or more strings; the text ends before the first that is completed. The prompt does not count. One
                that can never be completed gets a warning.
            unknown: how to handle characters of the prompt that the model does not know: `"error"`, `"skip"` or
                `"replace"`.
            token_stats: whether to keep the statistics of each character, besides their summary.
            options: controls that override those of the preset, such as `temperature=0.8` or `no_repeat_ngram=12`, and
                what the text must match: `pattern`, a regular expression for the whole text in the syntax of `re`,
                `min_length`, `max_length`, and `ban`, one or more strings; `keep_stop` keeps the stop string.
                Characters after which the text could not match are never drawn, which changes how probable texts are
                among themselves. With `exact`, whole texts are drawn freely until one matches, at most 10,000.
                `Sampling` and `Constraint` describe each of them.

        Raises:
            VocabError: if the prompt has an unknown character.
            SamplingError: if a control or the length is out of range, or no text matches.
            GenerationError: if `exact` is set, and none of 10,000 texts matched.
        """
        given, constraint = self._split(options)
        controls, seed, length = (
            Sampling.resolve(sampling, given),
            resolve_seed(seed),
            self.length_limit(max_new_tokens),
        )
        for index in range(_TRIED_ALONE):
            stream = start_stream(
                self.model.engine, self.vocab, prompt, controls, seed, index, max_new_tokens=length, stop=stop,
                unknown=unknown, token_stats=token_stats, constraint=constraint,
            )  # fmt: skip
            text = collect(stream, prompt)
            if text.finish_reason != "rejected":
                return text
        from knock.generation.rejection import sample_exact

        builder = RequestBuilder(self.vocab, controls, stop, length, unknown, constraint=constraint)
        texts = sample_exact(
            self.model.engine, self.vocab, builder.rows(prompt, 0, 1), seed, token_stats=token_stats, threads=None,
            progress=None, tried=_TRIED_ALONE,
        )  # fmt: skip
        return next(texts)

    @hint_at(_MANY, TextOptions)
    def generate_batch(
        self,
        prompts: Iterable[str | Prompt],
        sampling: str | Sampling | Iterable[str | Sampling] = "basic",
        n: int = 1,
        seed: int | None = None,
        *,
        max_new_tokens: int | None = 300,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        keep_errors: bool = False,
        keep_rejected: bool = False,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
        **options: Unpack[TextOptions],
    ) -> list[Generation]:
        """Generate a text for each prompt, in the order of the prompts.

        Row i depends on the model, its prompt, its controls, the seed and i, and on no other row. With `exact`, texts
        are drawn for each row until one matches, as in `generate`; that of row 0 is the same.

        Args:
            prompts: the texts to continue; a `Prompt` has controls of its own.
            sampling: the controls of all prompts, or a list with those of each.
            n: texts for each prompt, adjacent in the result.
            seed: seed of the batch. If None, a seed is drawn and reported in each result.
            max_new_tokens: number of characters of each text, as in `generate`.
            stop: as in `generate`.
            unknown: as in `generate`.
            token_stats: as in `generate`.
            keep_errors: If True, an invalid prompt, or one of which no `exact` text matches, yields a row with an error
                instead of raising.
            keep_rejected: If True, one text is drawn for each row of `exact`, and one that does not match is returned
                with the finish reason `"rejected"`.
            threads: number of threads; None for one for each CPU.
            progress: called periodically with the number of finished texts.
            options: as in `generate`, for prompts whose controls are not given as a list.

        Raises:
            VocabError: if a prompt has an unknown character.
            SamplingError: if a control is out of range, or the lists differ in length.
            GenerationError: if `exact` is set, and none of 10,000 texts of a row matched.
            Interrupted: on Ctrl-C; it holds the texts that were finished by then.
        """
        prompts, n, resolved = list(several(prompts)), whole_number("n", n, 1, error=SamplingError), resolve_seed(seed)
        check_count("n", n, len(prompts))
        given, constraint = self._split(options)
        sampling = _overridden(sampling, given)
        length = self.length_limit(max_new_tokens)
        draw, last = _drawing(constraint, keep_rejected, keep_errors)
        builder = RequestBuilder(self.vocab, "basic", stop, length, unknown, keep_errors, constraint, last)
        # Every row is validated before the first is generated.
        requests = [
            request
            for i, (prompt, controls) in enumerate(zip(prompts, each_sampling(sampling, len(prompts)), strict=True))
            for request in builder.rows(prompt, i * n, n, controls)
        ]
        texts = draw(
            self.model.engine, self.vocab, requests, resolved, token_stats=token_stats, threads=threads,
            progress=progress, total_steps=sum(request.max_new_tokens for request in requests),
        )  # fmt: skip
        return collected(texts, requests)

    @hint_at(_MANY, TextOptions)
    def sample_iter(
        self,
        prompts: Iterable[str | Prompt],
        sampling: str | Sampling = "basic",
        n: int = 1,
        seed: int | None = None,
        *,
        max_new_tokens: int | None = 300,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
        token_stats: bool = False,
        keep_errors: bool = False,
        keep_rejected: bool = False,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
        at_once: Callable[[], int] | None = None,
        **options: Unpack[TextOptions],
    ) -> Iterator[Generation]:
        """Generate a text for each of any number of prompts: in order, as they are finished, in bounded memory.

        Takes the arguments of `generate_batch`, except that `sampling` is for all prompts and `prompts` may be endless.
        `first` is the index of the first row, to resume a batch. An error raised by the iterable, or by an invalid
        prompt, is raised after the texts of the prompts before it. Texts are generated in groups; `at_once`, called
        before each, returns how many it may have, so that a caller who needs only the first few wastes little.
        """
        given, constraint = self._split(options)
        draw, last = _drawing(constraint, keep_rejected, keep_errors)
        n, first = (whole_number(*each, error=SamplingError) for each in (("n", n, 1), ("first", first, 0, last)))
        sampling, length = Sampling.resolve(sampling, given), self.length_limit(max_new_tokens)
        builder = RequestBuilder(self.vocab, sampling, stop, length, unknown, keep_errors, constraint, last)
        requests = (
            request for i, prompt in enumerate(several(prompts)) for request in builder.rows(prompt, first + i * n, n)
        )
        return draw(
            self.model.engine, self.vocab, requests, resolve_seed(seed), token_stats=token_stats, threads=threads,
            progress=progress, at_once=at_once,
        )  # fmt: skip

    @hint_at(_ITEMS, TextOptions)
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
        max_new_tokens: int | None = None,
        sampling: str | Sampling = "basic",
        seed: int | None = None,
        stop: str | Iterable[str] | None = None,
        unknown: Unknown = "error",
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
            novel: texts that are not new: an iterable, or a file of lines, or of whatever an item was in training.
            max_overlap: a number of characters, and texts of which no run of that length may be copied, given as for
                `novel`. Needs about 12 bytes of memory per character of theirs.
            accept: regular expression that a text must match as a whole, in all of Python's syntax, or a function that
                returns whether to keep a text.
            keep_cut: keep texts that were cut at the limit of their length. A text that nothing else can end, neither
                `stop` nor the end of an item, is not cut.
            tries: most texts to draw, those included that `exact` rejects; by default 100 for each one that is wanted,
                and at least 10,000.
            max_new_tokens: number of characters of each text; None for the whole item, as in `generate`, and for 300
                characters of plain text.
            sampling: as in `generate`.
            seed: seed of the batch; None draws one.
            stop: as in `generate`.
            unknown: as in `generate`.
            threads: as in `generate_batch`.
            options: as in `generate`.

        Raises:
            TooFewError: if there are fewer after `tries` texts; its `items` are those that there are.
            VocabError: if the prompt has an unknown character.
            SamplingError: if an argument is out of range, or no text matches the constraint.
            Interrupted: on Ctrl-C; its `items` are those that there are by then.
        """
        from knock.files.known_items import known_items
        from knock.generation.filters import (  # a single text needs none
            Filters,
            KnownRuns,
            KnownTexts,
            default_tries,
            is_open_ended,
        )

        def known(source: Source) -> list[Source]:
            return known_items(source, self.training, self.schema)

        count = whole_number("count", count, 0, error=SamplingError)
        check_count("count", count)
        most = default_tries(count) if tries is None else whole_number("tries", tries, 1, error=SamplingError)
        strings = StopStrings(stop).strings
        filters = Filters(
            unique=unique,
            novel=None if novel is None else KnownTexts(*known(novel)),
            overlap=None if max_overlap is None else KnownRuns.of(max_overlap, known),
            accept=accept,
            keep_cut=keep_cut or is_open_ended(self.vocab, strings),
        )
        prefix = beginning(prompt, self.vocab, unknown)
        texts = self.sample_iter(
            itertools.repeat(prompt, most if count else 0), sampling, seed=seed,
            max_new_tokens=self.default_length if max_new_tokens is None else max_new_tokens, stop=strings,
            unknown=unknown, threads=threads, keep_rejected=True, at_once=lambda: filters.ahead(count), **options,
        )  # fmt: skip
        whole = None if self.vocab.has_boundary else prompt  # as knock sample writes it
        return first_kept(texts, filters, count, prefix=prefix, prompt=whole)

    @hint_at(_LIKELIEST)
    def most_likely(
        self,
        n: int,
        prompt: str = "",
        *,
        pattern: str | re.Pattern[str] | None = None,
        min_length: int = 0,
        max_length: int | None = None,
        ban: str | Iterable[str] = (),
        stop: str | Iterable[str] | None = None,
        keep_stop: bool = False,
        max_new_tokens: int | None = 300,
        limit: int = _MOST_PREFIXES,
        unknown: Unknown = "error",
        progress: Callable[[int], None] | None = None,
    ) -> MostLikely:
        """Find the most probable whole texts by the model's own distribution; nothing is drawn.

        In a model of items, each is a whole item, with the prompt; otherwise it is the text after the prompt, and a
        stop string, `max_length` or a pattern says where it ends. The end is a part of the text's probability: with
        several stop strings, a text counts once for each that ends it.

        The search looks at beginnings of texts, the most probable first. A text cannot be more probable than its
        beginning, so the result is exact, unless the search stops at its limit: then `is_exact` is False.

        Args:
            n: number of texts.
            prompt: the text to continue, or the beginning of an item.
            pattern: as in `Constraint`.
            min_length: as in `Constraint`.
            max_length: as in `Constraint`.
            ban: as in `Constraint`.
            stop: as in `generate`.
            keep_stop: as in `Constraint`.
            max_new_tokens: most characters of a text, as in `generate`; longer ones are left out.
            limit: most beginnings of texts to look at. Each takes about a kilobyte of memory.
            unknown: as in `generate`.
            progress: called periodically with the number of beginnings that were looked at.

        Returns:
            A sequence of texts, each with its `log_prob`, `bits` and `probability`; fewer than `n` if there are fewer.

        Raises:
            VocabError: if the prompt has an unknown character.
            SamplingError: if an argument is out of range, no text matches, or nothing says where a text ends.
            GenerationError: if the model's logits are not finite.
        """
        from knock.generation.constraints.constraint import Constraint
        from knock.generation.search import most_likely

        constraint = self.constrained(
            Constraint(pattern=pattern, min_length=min_length, max_length=max_length, ban=ban, keep_stop=keep_stop)
        )
        length = self.length_limit(max_new_tokens)
        return most_likely(self.model.engine, self.vocab, n, prompt, constraint, stop, length, limit, unknown, progress)

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

    def to_html(self, path: str | os.PathLike[str] | None = None, *, text: str = "", name: str = "model") -> str:
        """Return a web page with the model inside, and write it to a file if a path is given.

        The page is one HTML file that works offline. The model writes in it what `generate` writes in precision int16;
        a reader sees what it expects next, where its heads look, and what they learned.

        Args:
            path: the file to write, which is replaced if it exists; None for none.
            text: the text to show first, at most 4,096 characters of it; if empty, the model writes one.
            name: what the page calls the model.

        Raises:
            VocabError: if the text has an unknown character.
            OutputError: if the file cannot be written.
        """
        from knock.files.output import write_whole
        from knock.page.document import Opening, beginning, document

        shown, source = beginning(text, "a given text") if text else ("", "")
        opening = Opening(text=self.vocab.decode(self.vocab.encode(shown)), source=source)
        page = document(self, name, opening, file=None if name in shipped() else f"{name}{SAFETENSORS}")
        if path is not None:
            try:
                write_whole(Path(path), page)
            except (OSError, ValueError) as error:
                raise OutputError(f"cannot write {os.fspath(path)!r}: {error}; choose another path") from error
        return page.decode()

    def __repr__(self) -> str:
        return f"LanguageModel({self.model!r}, {self.vocab!r})"


def load(
    model: str | os.PathLike[str], *, backend: Backend = "auto", precision: Precision = DEFAULT_PRECISION
) -> LanguageModel:
    """Load a model.

    Args:
        model: the name of a shipped model, a file, or a folder that holds one model file.
        backend: `"auto"`, `"numpy"` or `"compiled"`, as in `knock.engine.engine.Engine`.
        precision: `"int16"` multiplies integers; a seed gives the same text on every CPU and backend. `"int8"`
            multiplies smaller ones, which is faster and less accurate. `"float32"` uses fused multiply-adds; a seed
            gives the same text on every CPU that has them, on the same backend.

    Raises:
        CheckpointError: if there is no such model, or the file is not a valid model file.
        KnockError: if there is no such backend or precision.
    """
    path = locate(model)
    checkpoint = read_checkpoint(path)
    if checkpoint.vocab is None:
        raise CheckpointError(
            f"{str(path)!r} has no vocabulary, so it cannot be used for text; load it with ReweightGPT.load, "
            "or give it one: knock convert IN OUT --vocab corpus.txt"
        )
    gpt = ReweightGPT.from_weights(checkpoint.weights, backend=backend, precision=precision)
    return LanguageModel(gpt, checkpoint.vocab, checkpoint.training)


def _drawing(
    constraint: Constraint | None, keep_rejected: bool, keep_errors: bool
) -> tuple[Callable[..., Iterator[Generation]], int]:
    """Return the function that draws the texts of requests, and the largest index that these may have."""
    if constraint is None or not constraint.exact or keep_rejected:
        return sample, LAST_INDEX
    from knock.generation.rejection import LAST_ROW, sample_exact

    return partial(sample_exact, keep_errors=keep_errors), LAST_ROW


def _overridden(
    sampling: str | Sampling | Iterable[str | Sampling], options: SamplingOptions
) -> str | Sampling | Iterable[str | Sampling]:
    """Return the controls of a batch with some of them overridden, in each if they are given as a list."""
    if not options:
        return sampling
    if isinstance(sampling, (str, Sampling)) or not isinstance(sampling, Iterable):
        return Sampling.resolve(sampling, options)
    return [Sampling.resolve(each, options) for each in sampling]
