"""Text to tokens, for generation: prompts, controls and stop strings as a model reads them, each checked once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.choices import Unknown
from knock.engine.batch import Request
from knock.errors import KnockError, SamplingError
from knock.generation.results import Prompt
from knock.generation.stopping import StopStrings, automaton
from knock.sampling import Sampling
from knock.validation import shown, whole_number
from knock.vocab import TokenArray, Vocab

_REMEMBERED = 4096  # prompts, and controls: what is asked for again is the same object, and shared
LAST_INDEX = 2**62  # what the kernels count in holds more
LONGEST = 2**28  # characters of a row in a batch, for each of which there has to be room


class Requests:
    """Makes requests of prompts, for one vocabulary.

    Args:
        vocab: the model's characters.
        sampling: the controls of prompts that have none of their own.
        stop: their stop strings.
        max_new_tokens: how many characters they generate.
        unknown: what to do with characters that the model does not know.
        keep_errors: whether a prompt that something is wrong with is told in its place, and does not end it all.

    Raises:
        SamplingError: if a control is out of range.
    """

    def __init__(
        self,
        vocab: Vocab,
        sampling: str | Sampling,
        stop: str | Iterable[str] | None,
        max_new_tokens: int,
        unknown: Unknown,
        keep_errors: bool = False,
    ) -> None:
        self._vocab = vocab
        self._unknown = unknown
        self._keep_errors = keep_errors
        self._memory: dict[Any, Any] = {}
        self._sampling = self.controls(sampling)
        self._automaton = self._watch(StopStrings(stop).strings)
        self._limit = _limit(max_new_tokens)

    def rows(
        self, prompt: str | Prompt, first: int, n: int, sampling: str | Sampling | None = None
    ) -> Iterator[Request]:
        """Requests for so many texts of a prompt.

        Args:
            prompt: a text, or one with controls of its own.
            first: the first row's index in the batch, unless the prompt has one of its own.
            n: how many.
            sampling: controls that go before the batch's.

        Raises:
            VocabError: if it has an unknown character.
            SamplingError: if a control is out of range.
        """
        if isinstance(prompt, Prompt) and prompt.index is not None:
            first = n * whole_number("index", prompt.index, 0, LAST_INDEX // n, error=SamplingError)
        return (self._request(prompt, first + k, sampling) for k in range(n))

    def _request(self, prompt: str | Prompt, stream: int, sampling: str | Sampling | None) -> Request:
        try:
            return self._checked(prompt, stream, sampling)
        except KnockError as error:
            if not self._keep_errors:
                raise
            text = prompt.text if isinstance(prompt, Prompt) else prompt
            start = prompt_tokens("", self._vocab, "error")
            return Request(start, self._sampling, None, 0, stream, text if isinstance(text, str) else "", str(error))

    def _checked(self, prompt: str | Prompt, stream: int, sampling: str | Sampling | None) -> Request:
        watch, limit = self._automaton, self._limit
        if isinstance(prompt, Prompt):
            sampling = sampling if prompt.sampling is None else prompt.sampling
            if prompt.stop is not None:
                watch = self._watch(StopStrings(prompt.stop).strings)
            if prompt.max_new_tokens is not None:
                limit = _limit(prompt.max_new_tokens)
            prompt = prompt.text
        controls = self._sampling if sampling is None else self.controls(sampling)
        return Request(self._tokens(prompt), controls, watch, limit, stream, prompt)

    def controls(self, sampling: str | Sampling) -> Sampling:
        """Controls by name or as they are, with tokens in place of characters."""
        if isinstance(sampling, str):
            named: Sampling = self._remember(("preset", sampling), lambda: Sampling.preset(sampling, {}))
            return named
        if not isinstance(sampling, Sampling):
            return Sampling.preset(sampling, {})  # which says what is wrong
        if not sampling.logit_bias:
            return sampling
        # What is remembered holds the controls themselves, so that no other object comes to have their identity.
        biased: Sampling = self._remember(("controls", id(sampling)), lambda: (sampling, self._biased(sampling)))[1]
        return biased

    def _biased(self, sampling: Sampling) -> Sampling:
        biased = with_token_bias(sampling, self._vocab)
        biased.bias_array(self._vocab.vocab_size)  # which says what is wrong, here and not in the middle of the batch
        return biased

    def _tokens(self, text: str) -> TokenArray:
        if not isinstance(text, str):
            return prompt_tokens(text, self._vocab, self._unknown)  # which says what is wrong
        tokens: TokenArray = self._remember(("text", text), lambda: prompt_tokens(text, self._vocab, self._unknown))
        return tokens

    def _watch(self, strings: tuple[str, ...]) -> npt.NDArray[np.int64] | None:
        return self._remember(("stop", strings), lambda: _automaton(strings, self._vocab)) if strings else None

    def _remember(self, key: Any, make: Any) -> Any:
        if key not in self._memory:
            if len(self._memory) >= _REMEMBERED:
                self._memory.clear()
            self._memory[key] = make()
        return self._memory[key]


def several(prompts: Iterable[str | Prompt]) -> Iterable[str | Prompt]:
    """Prompts, if there may be several.

    Raises:
        SamplingError: if that is one prompt, or none that could be taken one after the other.
    """
    if isinstance(prompts, (str, Prompt, Mapping)) or not isinstance(prompts, Iterable):
        raise SamplingError(f"prompts must be a list of strings or Prompts, got {shown(prompts)}")
    return prompts


def prompt_tokens(text: str, vocab: Vocab, unknown: Unknown) -> TokenArray:
    """Tokens of a prompt; an empty one starts like a new line.

    Raises:
        VocabError: if it has an unknown character.
    """
    tokens = vocab.encode(text, unknown=unknown)
    return tokens if tokens.size else np.array([vocab.start_id], np.int32)


def with_token_bias(sampling: Sampling, vocab: Vocab) -> Sampling:
    """Controls whose bias is by token, not by character.

    Raises:
        SamplingError: if it names a character that the vocabulary does not have.
    """
    if not sampling.logit_bias:
        return sampling
    return replace(sampling, logit_bias={_token(key, vocab): value for key, value in sampling.logit_bias.items()})


def _token(key: object, vocab: Vocab) -> object:
    if not isinstance(key, str):
        return key
    char = vocab.normalize(key)
    if char not in vocab:
        raise SamplingError(f"logit_bias names {key!r}, which is not one of the model's {vocab.describe()}")
    return vocab.characters.index(char)


def _automaton(strings: tuple[str, ...], vocab: Vocab) -> npt.NDArray[np.int64] | None:
    """What watches for stop strings; one with a character that the model never writes is never found."""
    normal = [vocab.normalize(string) for string in strings]
    possible = [vocab.encode(string).tolist() for string in normal if all(char in vocab for char in string)]
    return automaton(possible, vocab.vocab_size) if possible else None


def _limit(max_new_tokens: int) -> int:
    return whole_number("max_new_tokens", max_new_tokens, 0, LONGEST, error=SamplingError)
