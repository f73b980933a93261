"""LanguageModel: a model over text; and how one is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Unpack

import numpy as np

from knock.choices import Backend, Unknown
from knock.engine.batch import NOT_DONE, Request, Stopped, windows
from knock.errors import CheckpointError, SamplingError
from knock.files.checkpoint import model_digest, read_checkpoint, write_checkpoint
from knock.generation.requests import LAST_INDEX, Requests, prompt_tokens, several, with_token_bias
from knock.generation.results import Generation, Interrupted, Prompt, Score, TextStream, collect, generations
from knock.generation.stopping import StopStrings
from knock.gpt import ReweightGPT
from knock.models import locate
from knock.sampling import Sampling, SamplingOptions, each_sampling, resolve_seed
from knock.validation import whole_number
from knock.vocab import Vocab


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

    @property
    def digest(self) -> str:
        """Which model this is: 64 hex digits, the same wherever it is kept."""
        return model_digest(self.model.weights, self.vocab)

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
        controls, resolved = Sampling.resolve(sampling, options), resolve_seed(seed)
        length = whole_number("max_new_tokens", max_new_tokens, 0, LAST_INDEX, error=SamplingError)
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
        keep_errors: bool = False,
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
            keep_errors: whether a prompt that something is wrong with, such as an unknown character, has its error told
                in its place while the others go on; otherwise it is raised before anything is generated.
            threads: how many work on it; None for as many as there are CPUs.
            progress: told now and then how many texts are done.

        Raises:
            VocabError: if a prompt has an unknown character.
            SamplingError: if a control is out of range, or the lists differ in length.
            Interrupted: on Ctrl-C; it has the texts that were whole by then.
        """
        prompts, n, resolved = list(several(prompts)), whole_number("n", n, 1, error=SamplingError), resolve_seed(seed)
        requests = Requests(self.vocab, "basic", stop, max_new_tokens, unknown, keep_errors)
        # Every row is checked before the first is generated.
        asked = [
            request
            for i, (prompt, controls) in enumerate(zip(prompts, each_sampling(sampling, len(prompts)), strict=True))
            for request in requests.rows(prompt, i * n, n, controls)
        ]
        self.model.engine.expect(steps=sum(request.limit for request in asked))
        done: list[Generation] = []
        try:
            done.extend(self._sample(asked, resolved, token_stats, threads, progress))
        except Interrupted as interrupt:
            raise Interrupted([*done, *interrupt.finished], interrupt.first_missing) from None
        except KeyboardInterrupt:
            raise Interrupted(done, asked[len(done)].stream if len(done) < len(asked) else len(asked)) from None
        return done

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
        keep_errors: bool = False,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> Iterator[Generation]:
        """`generate_batch` for any number of prompts: texts in order, as they come, in memory that does not grow.

        Takes what `generate_batch` takes, but one `sampling` for all prompts without their own, and `prompts` that may
        never end. `first` is the index of the first row, to go on with a batch that was begun before. What is raised
        while prompts are taken, by them or because one is wrong, comes after the texts of those before it.
        """
        n, first = (whole_number(*each, error=SamplingError) for each in (("n", n, 1), ("first", first, 0, LAST_INDEX)))
        requests = Requests(self.vocab, sampling, stop, max_new_tokens, unknown, keep_errors)
        asked = (
            request for i, prompt in enumerate(several(prompts)) for request in requests.rows(prompt, first + i * n, n)
        )
        return self._sample(asked, resolve_seed(seed), token_stats, threads, progress, is_expected=False)

    def _sample(
        self,
        asked: Iterable[Request],
        seed: int,
        token_stats: bool,
        threads: int | None,
        progress: Callable[[int], None] | None,
        is_expected: bool = True,
    ) -> Iterator[Generation]:
        done = 0
        for part in windows(asked):
            if not is_expected:
                self.model.engine.expect(steps=sum(request.limit for request in part))
            told = None if progress is None else _counting_on(progress, done)
            rows, come = None, 0
            try:
                rows = self.model.engine.run(part, seed, threads=threads, keep_stats=True, progress=told)
                for text in generations(rows, part, self.vocab, seed, token_stats):
                    come += 1
                    yield text
            except KeyboardInterrupt as interrupt:
                rows = interrupt.rows if isinstance(interrupt, Stopped) else rows
                if rows is None:
                    raise
                finished = list(generations(rows, part, self.vocab, seed, token_stats))
                whole = np.append(rows.reasons != NOT_DONE, False)
                first_missing = [*(request.stream for request in part), part[-1].stream + 1][int(whole.argmin())]
                raise Interrupted(finished[come:], first_missing) from None
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
        """Write the model, its vocabulary and its record to a `.safetensors` or `.npz` file; return its digest.

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
            f"{str(path)!r} has no vocabulary, so it cannot be used for text; load it with ReweightGPT.load, "
            "or give it one: knock convert IN OUT --vocab corpus.txt"
        )
    gpt = ReweightGPT.from_weights(checkpoint.weights, backend=backend)
    return LanguageModel(gpt, checkpoint.vocab, checkpoint.training)


def _counting_on(progress: Callable[[int], None], done: int) -> Callable[[int], None]:
    """Progress that counts on from the rows that were done before."""
    return lambda rows: progress(done + rows)
