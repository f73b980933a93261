"""Starts a single text: from a prompt, its controls and what it must match to a stream of pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from knock.choices import Unknown
from knock.engine.engine import Engine
from knock.errors import SamplingError
from knock.generation.requests import (
    LAST_INDEX,
    banned_tokens,
    compiled_constraint,
    prompt_tokens,
    stopless,
    with_token_bias,
)
from knock.generation.results import TextStream
from knock.generation.stopping import StopStrings, as_written, warn_of_impossible
from knock.sampling import Sampling
from knock.validation import whole_number
from knock.vocab import Vocab

if TYPE_CHECKING:
    from knock.generation.constraints.constraint import Constraint


def start_stream(
    engine: Engine,
    vocab: Vocab,
    prompt: str,
    sampling: Sampling,
    seed: int,
    index: int = 0,
    *,
    max_new_tokens: int,
    stop: str | Iterable[str] | None,
    unknown: Unknown,
    token_stats: bool,
    constraint: Constraint | None,
) -> TextStream:
    """Return a stream of the text that continues a prompt.

    Args:
        engine: the model.
        vocab: its characters.
        prompt: the text to continue.
        sampling: the controls.
        seed: with `index`, decides every draw.
        index: the text's number among those of the seed.
        max_new_tokens: most characters to generate.
        stop: stop strings.
        unknown: how to handle characters of the prompt that the model does not know.
        token_stats: whether to keep the statistics of each character.
        constraint: what the text must match; None if nothing.

    Raises:
        VocabError: if the prompt has an unknown character.
        SamplingError: if a control or the length is out of range, or no text matches.
    """
    length = whole_number("max_new_tokens", max_new_tokens, 0, LAST_INDEX, error=SamplingError)
    tokens, controls = prompt_tokens(prompt, vocab, unknown), with_token_bias(sampling, vocab)
    stops = StopStrings(stop, lambda string: as_written(string, vocab))
    warn_of_impossible(stops.strings, length, vocab)
    if constraint is None and not vocab.has_boundary:  # the stream itself looks for stop strings
        return TextStream(engine.start(tokens, controls, seed, index, length=length), vocab, length, stops, token_stats)
    before = stopless(tokens, stops.strings, vocab)
    compiled = compiled_constraint(constraint, stops.strings, vocab, banned_tokens(controls), before)
    assert compiled is not None  # something restricts or ends the text
    state, length, is_over = compiled.begin(tokens[1:] if vocab.has_boundary else tokens, length)
    started = engine.start(
        tokens, controls, seed, index, length=length, automaton=compiled.automaton, state=state,
        is_masked=compiled.is_masked,
    )  # fmt: skip
    return TextStream(
        started, vocab, 0 if is_over else length, stops, token_stats,
        keep_stop=constraint is not None and constraint.keep_stop, is_over=is_over,
    )  # fmt: skip
