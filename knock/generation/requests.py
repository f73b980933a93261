"""Requests from text: prompts, controls and stop strings as a model reads them, each validated once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from knock.choices import Unknown
from knock.engine.batch import Request
from knock.errors import KnockError, SamplingError
from knock.generation.results import Prompt
from knock.generation.stopping import StopStrings, warn_of_impossible
from knock.memo import Memo
from knock.sampling import Sampling
from knock.validation import LONGEST, shown, whole_number
from knock.vocab import TokenArray, Vocab

if TYPE_CHECKING:
    from knock.generation.constraints.constraint import Compiled, Constraint

LAST_INDEX = 2**62  # well within the int64 of the kernels
MOST_TEXTS = 10**8  # texts of a list, which take some hundred gigabytes


class RequestBuilder:
    """Turns prompts into requests, for one vocabulary.

    Args:
        vocab: the model's characters.
        sampling: the controls of prompts without their own.
        stop: their stop strings.
        max_new_tokens: their number of characters.
        unknown: how to handle characters that the model does not know.
        keep_errors: If True, an invalid prompt becomes a request with an error instead of raising.
        constraint: what the texts must match; None if nothing.
        last: largest index of a row.

    Raises:
        SamplingError: if a control is out of range, or no text matches.
    """

    def __init__(
        self,
        vocab: Vocab,
        sampling: str | Sampling,
        stop: str | Iterable[str] | None,
        max_new_tokens: int,
        unknown: Unknown,
        keep_errors: bool = False,
        constraint: Constraint | None = None,
        last: int = LAST_INDEX,
    ) -> None:
        self._vocab = vocab
        self._last = last
        self._constraint = constraint
        self._unknown = unknown
        self._keep_errors = keep_errors
        self._memo = Memo()  # a batch stores equal prompts and controls once
        self._sampling = self.controls(sampling)
        self._stop = StopStrings(stop).strings
        self._max_new_tokens = _checked_length(max_new_tokens)
        self._compiled(self._stop, self._max_new_tokens, self._sampling)  # validate

    def rows(
        self, prompt: str | Prompt, first: int, n: int, sampling: str | Sampling | None = None
    ) -> Iterator[Request]:
        """Return the requests for `n` texts of a prompt.

        Args:
            prompt: a text, or one with controls of its own.
            first: index of the first row in the batch, unless the prompt has its own.
            n: number of texts.
            sampling: controls that override the batch's.

        Raises:
            VocabError: if it has an unknown character.
            SamplingError: if a control is out of range.
        """
        if isinstance(prompt, Prompt) and prompt.index is not None:
            first = n * whole_number("index", prompt.index, 0, self._last // n, error=SamplingError)
        return (self._request(prompt, first + k, sampling) for k in range(n))

    def _request(self, prompt: str | Prompt, index: int, sampling: str | Sampling | None) -> Request:
        try:
            return self._checked(prompt, index, sampling)
        except KnockError as error:
            if not self._keep_errors:
                raise
            extra = prompt.extra if isinstance(prompt, Prompt) else None
            text = prompt.text if isinstance(prompt, Prompt) else prompt
            text = text if isinstance(text, str) else ""
            start = prompt_tokens("", self._vocab, "error")
            return Request(start, self._sampling, None, 0, index, text, str(error), extra=extra)

    def _checked(self, prompt: str | Prompt, index: int, sampling: str | Sampling | None) -> Request:
        length, stop = self._max_new_tokens, self._stop
        extra: Mapping[str, Any] | None = None
        if isinstance(prompt, Prompt):
            sampling = sampling if prompt.sampling is None else prompt.sampling
            if prompt.max_new_tokens is not None:
                length = _checked_length(prompt.max_new_tokens)
            if prompt.stop is not None:
                stop = StopStrings(prompt.stop).strings
            extra = prompt.extra
            prompt = prompt.text
        controls = self._sampling if sampling is None else self.controls(sampling)
        tokens = self._tokens(prompt)
        compiled = self._compiled(stop, length, controls, tokens)
        if compiled is None:
            return Request(tokens, controls, None, length, index, prompt, None, stop, extra)
        state, length, is_over = compiled.begin(tokens[1:] if self._vocab.has_boundary else tokens, length)
        return Request(
            tokens, controls, compiled.automaton, 0 if is_over else length, index, prompt, None, stop, extra, state,
            compiled.is_masked, is_over,
        )  # fmt: skip

    def controls(self, sampling: str | Sampling) -> Sampling:
        """Return controls, given by name or as they are, with a bias by token."""
        if isinstance(sampling, str):
            named: Sampling = self._memo.get(("preset", sampling), lambda: Sampling.preset(sampling, {}))
            return named
        if not isinstance(sampling, Sampling):
            return Sampling.preset(sampling, {})  # raises
        if not sampling.logit_bias:
            return sampling
        # The entry keeps the controls alive, so that no other object can get their identity.
        biased: Sampling = self._memo.get(("controls", id(sampling)), lambda: (sampling, self._biased(sampling)))[1]
        return biased

    def _biased(self, sampling: Sampling) -> Sampling:
        biased = with_token_bias(sampling, self._vocab)
        biased.bias_array(self._vocab.vocab_size)  # raises here, not in the middle of the batch
        return biased

    def _tokens(self, text: str) -> TokenArray:
        if not isinstance(text, str):
            return prompt_tokens(text, self._vocab, self._unknown)  # raises
        tokens: TokenArray = self._memo.get(("text", text), lambda: prompt_tokens(text, self._vocab, self._unknown))
        return tokens

    def _compiled(
        self, stop: tuple[str, ...], length: int, controls: Sampling, tokens: TokenArray | None = None
    ) -> Compiled | None:
        """Return the constraint with the stop strings and the tokens that the controls ban; None if there is none."""
        if stop:
            self._memo.get(("warned", stop, length), lambda: warn_of_impossible(stop, length, self._vocab))
        banned, before = banned_tokens(controls), stopless(tokens, stop, self._vocab)
        compiled: Compiled | None = self._memo.get(
            ("constraint", stop, banned, before),
            lambda: compiled_constraint(self._constraint, stop, self._vocab, banned, before),
        )
        return compiled


def stopless(tokens: TokenArray | None, stop: tuple[str, ...], vocab: Vocab) -> tuple[int, ...]:
    """Return the tokens of a prompt that its constraint must know, because stop strings do not count in them.

    In plain text, the constraint begins after the prompt.
    """
    return tuple(tokens[1:].tolist()) if tokens is not None and stop and vocab.has_boundary else ()


def compiled_constraint(
    constraint: Constraint | None,
    stop: tuple[str, ...],
    vocab: Vocab,
    banned: tuple[int, ...],
    prompt: tuple[int, ...] = (),
) -> Compiled | None:
    """Return a constraint compiled with stop strings and banned tokens; None if nothing restricts or ends a text.

    Raises:
        SamplingError: if it cannot be compiled, or no text matches.
    """
    if constraint is None and not stop and not vocab.has_boundary:
        return None
    from knock.generation.constraints.constraint import compile_constraint

    return compile_constraint(constraint, stop, vocab, banned, prompt=prompt)


def several(prompts: Iterable[str | Prompt]) -> Iterable[str | Prompt]:
    """Return prompts after checking that they are an iterable of several, not a single one.

    Raises:
        SamplingError: if they are not.
    """
    if isinstance(prompts, (str, Prompt, Mapping)) or not isinstance(prompts, Iterable):
        raise SamplingError(f"prompts must be a list of strings or Prompts, got {shown(prompts)}")
    return prompts


def check_count(name: str, value: int, prompts: int = 1) -> None:
    """Check that a list can hold the texts that are wanted.

    Args:
        name: name of the argument in the error message.
        value: number of texts of each prompt.
        prompts: number of prompts.

    Raises:
        SamplingError: if it cannot.
    """
    if value * prompts > MOST_TEXTS:
        each = f" for each of {prompts:,} prompts" if prompts > 1 else ""
        raise SamplingError(
            f"a list holds at most {MOST_TEXTS:,} texts, got {name}={shown(value)}{each}; for more, use sample_iter, "
            "which yields them one by one"
        )


def prompt_tokens(text: str, vocab: Vocab, unknown: Unknown) -> TokenArray:
    """Return the tokens of a prompt; an empty one begins a new line, or, in a model of items, every one an item.

    Raises:
        VocabError: if it has an unknown character.
    """
    tokens = vocab.encode(text, unknown=unknown)
    if tokens.size and not vocab.has_boundary:
        return tokens
    return np.append(np.int32(vocab.start_id), tokens)


def beginning(prompt: str, vocab: Vocab, unknown: Unknown) -> str:
    """Return what the items of a prompt begin with: the prompt as the model reads it; nothing in plain text.

    Raises:
        VocabError: if it has an unknown character.
    """
    return vocab.decode(vocab.encode(prompt, unknown=unknown)) if vocab.has_boundary else ""


def default_length(vocab: Vocab) -> int:
    """Return the default number of characters of a text: more for an item, which ends by itself."""
    return 1000 if vocab.has_boundary else 300


def with_token_bias(sampling: Sampling, vocab: Vocab) -> Sampling:
    """Return controls whose bias is by token instead of by character.

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


def banned_tokens(sampling: Sampling) -> tuple[int, ...]:
    """Return the tokens that a bias of -inf bans."""
    return tuple(sorted(token for token, bias in sampling.logit_bias.items() if bias == -math.inf))


def _checked_length(max_new_tokens: int) -> int:
    return whole_number("max_new_tokens", max_new_tokens, 0, LONGEST, error=SamplingError)
