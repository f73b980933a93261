"""Generation results: streams, texts, scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from knock.engine.batch import END, FINISH_REASONS, LENGTH, MATCH, NOT_DONE, REJECTED, STOP, Request, Rows
from knock.engine.engine import TokenStream
from knock.generation.stopping import StopStrings, as_written
from knock.sampling import Sampling, Stats, Summary, TokenStats, summarize_rows
from knock.vocab import Vocab

_PIECE = 16  # tokens of a piece, after which stop strings are looked for
_LONGEST_FORM = 18  # characters that one character can become in a Unicode normal form
_COUNTED_AT_ONCE = 4096  # characters whose statistics are collected before they are summarised


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """A generated text.

    Attributes:
        prompt: the prompt that it continues.
        text: the new characters, without the stop string unless it was to be kept.
        finish_reason: why the text ended: `"length"` at the limit of its length, `"stop"` at a stop string, `"end"`
            where a model of items ended its item, `"match"` where it matches the constraint and cannot go on,
            `"rejected"` if it does not match and was drawn with `exact` and `keep_rejected`, or `"error"` if the
            prompt was invalid or no text matched.
        seed: the seed that was used.
        stats: summary over the characters of `text`.
        token_stats: statistics of each character of `text`, None if they were not requested. Their `log_probs` are the
            model's, before bias, temperature and filters.
        index: the row's number in its batch.
        error: why there is no text: the prompt was invalid, or no text matched; None if there is one.
        stop_string: the stop string that ended the text, None if none did.
        extra: the other fields of its `Prompt`, None without any.
    """

    prompt: str
    text: str
    finish_reason: str
    seed: int
    stats: Stats
    token_stats: TokenStats | None
    index: int = 0
    error: str | None = None
    stop_string: str | None = None
    extra: Mapping[str, Any] | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a batch.

    Attributes:
        finished: texts that were finished but not yet returned, in the order of their rows; none from `items`.
        first_missing: index of the first row that was neither returned nor finished.
        items: from `items`, all texts that passed the filters, as it would return them.
    """

    def __init__(self, finished: Sequence[Generation], first_missing: int, items: Sequence[str] = ()) -> None:
        super().__init__(finished, first_missing, items)  # a copy is made from them when it is unpickled
        self.finished = list(finished)
        self.first_missing = first_missing
        self.items = list(items)

    def __str__(self) -> str:
        count = len(self.finished) + len(self.items)
        texts = "1 text was" if count == 1 else f"{count:,} texts were"
        return f"{texts} finished; the first missing row is {self.first_missing}"


@dataclass(frozen=True)
class Prompt:
    """A prompt with controls of its own; None stands for those of its batch.

    Attributes:
        text: the text to continue.
        sampling: a `Sampling`, or the name of a preset.
        stop: one or more stop strings.
        max_new_tokens: number of characters to generate.
        index: the row's number, if it is not its position among the prompts, as in a part of a larger batch.
        extra: other fields, such as an id, which its texts keep.
    """

    text: str = ""
    _: KW_ONLY
    sampling: str | Sampling | None = None
    stop: str | Iterable[str] | None = None
    max_new_tokens: int | None = None
    index: int | None = None
    extra: Mapping[str, Any] | None = field(default=None, hash=False)


class TextStream(Iterator[str]):
    """An iterator over the pieces of a text as it is generated.

    Attributes:
        seed: the seed in use.
        finish_reason: why the text ended, as in `Generation`; None before.
        stop_string: the stop string that ended the text, None if none did.
    """

    def __init__(
        self,
        tokens: TokenStream,
        vocab: Vocab,
        length: int,
        stop: StopStrings,
        keep_stats: bool = False,
        *,
        keep_stop: bool = False,
        is_over: bool = False,
    ) -> None:
        self.seed = tokens.seed
        self.finish_reason: str | None = None
        self.stop_string: str | None = None
        self._tokens = tokens
        self._vocab = vocab
        self._left = length
        self._keep_stop = keep_stop
        self._is_over = is_over
        self._stop = stop
        self._summary = Summary()
        self._pending: list[TokenStats] = []  # of characters that are not summarised yet
        self._uncounted = 0  # how many of those were returned
        self._kept: list[TokenStats] | None = [] if keep_stats else None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TextStream cannot be pickled or copied; pickle its model, and start a stream there")

    def __next__(self) -> str:
        while self.finish_reason is None:
            piece = self._advance()
            if piece:
                self._uncounted += len(piece)
                if self._uncounted >= _COUNTED_AT_ONCE:
                    self._count()
                return piece
        raise StopIteration

    def _advance(self) -> str:
        """Return what the next few tokens add to the text that cannot belong to a stop string, perhaps nothing."""
        if self._left == 0:
            self.finish_reason = FINISH_REASONS[MATCH if self._is_over else LENGTH]
            return self._stop.flush()
        tokens, stats = self._tokens.advance(min(_PIECE, self._left))
        reason = self._tokens.finish_reason
        self._left -= len(tokens)
        if reason in (END, REJECTED):  # a stop string is cut from the text instead
            kept = len(tokens) - self._tokens.cut
            tokens, stats = tokens[:kept], stats[:kept]
        self._pending.append(stats)
        piece = self._stop.feed(self._vocab.decode(tokens))
        if self._stop.found is not None:
            self.finish_reason, self.stop_string = "stop", self._stop.found
            return piece + self._stop.written if self._keep_stop else piece
        if reason != NOT_DONE:
            self.finish_reason = FINISH_REASONS[reason]
            piece += self._stop.flush()
        return piece

    def _count(self) -> None:
        """Add the returned characters to the summary."""
        pending = TokenStats.concatenate(self._pending)
        shown, self._pending = pending[: self._uncounted], [pending[self._uncounted :]]
        self._uncounted = 0
        self._summary.add(shown)
        if self._kept is not None:
            self._kept.append(shown)

    @property
    def token_stats(self) -> TokenStats | None:
        """Statistics of each character that has come out so far, if they are kept."""
        self._count()
        return None if self._kept is None else TokenStats.concatenate(self._kept)

    def latest_stats(self, count: int) -> TokenStats:
        """Statistics of the last characters that have come out, as many as `count`, if they are kept."""
        self._count()
        assert self._kept is not None
        parts: list[TokenStats] = []
        while sum(map(len, parts)) < count:
            parts.insert(0, self._kept[-1 - len(parts)])
        latest = TokenStats.concatenate(parts)
        return latest[len(latest) - count :]

    @property
    def stats(self) -> Stats:
        """Summary over the characters that have come out so far."""
        self._count()
        return self._summary.stats(self.seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """How well a model predicts a text.

    Attributes:
        text: the text, N characters.
        log_probs: log-probability of each character in nats, by the model's own distribution, float64 [N]; in a model
            of items [N + 1], with that of the end.
    """

    text: str
    log_probs: npt.NDArray[np.float64]

    @property
    def nats_per_char(self) -> float:
        """Mean cross-entropy in nats; NaN for an empty text."""
        return -float(self.log_probs.mean()) if self.log_probs.size else math.nan

    @property
    def bits_per_char(self) -> float:
        """Mean cross-entropy in bits; NaN for an empty text."""
        return self.nats_per_char / math.log(2)

    @property
    def perplexity(self) -> float:
        """Perplexity per character: e to the power of `nats_per_char`; infinite if a float cannot hold it."""
        return math.exp(self.nats_per_char) if not self.nats_per_char > 709 else math.inf


def generations(
    rows: Rows, requests: Sequence[Request], vocab: Vocab, seed: int, keep_stats: bool
) -> Iterator[Generation]:
    """Yield the texts of rows that were generated with statistics; unfinished rows are left out.

    Args:
        rows: the rows.
        requests: their requests.
        vocab: the model's characters.
        seed: the seed of the batch.
        keep_stats: whether to keep the statistics of each character.
    """
    assert rows.stats is not None
    offsets, ends = rows.kept_offsets, np.cumsum(rows.kept).tolist()
    text, per_token = vocab.decode(rows.tokens[offsets]), TokenStats.from_array(rows.stats[offsets])
    start = 0
    summaries, stops = summarize_rows(per_token, rows.kept, seed), _stop_strings(rows, requests, vocab)
    for request, end, reason, stats, stop in zip(
        requests, ends, rows.finish_reasons.tolist(), summaries, stops, strict=True
    ):
        part = slice(start, end)
        start = end
        if reason != NOT_DONE:
            yield Generation(
                prompt=request.prompt,
                text=text[part],
                finish_reason="error" if request.error else FINISH_REASONS[reason],
                seed=seed,
                stats=stats,
                token_stats=per_token[part] if keep_stats else None,
                index=request.index,
                error=request.error,
                stop_string=stop,
                extra=request.extra,
            )


def _stop_strings(rows: Rows, requests: Sequence[Request], vocab: Vocab) -> Iterator[str | None]:
    """Yield the stop string that ended each row, as it was given; None if none did."""
    starts, ends = rows.starts.tolist(), (rows.starts + rows.lengths).tolist()
    for request, start, end, reason in zip(requests, starts, ends, rows.finish_reasons.tolist(), strict=True):
        if reason != STOP:
            yield None
        elif len(request.stop) == 1:
            yield request.stop[0]
        else:
            longest = max(map(len, request.stop)) * _LONGEST_FORM
            written = vocab.decode(rows.tokens[max(start, end - longest) : end])
            given = (string for string in request.stop if written.endswith(as_written(string, vocab)))
            yield max(given, key=len, default=None)


def collect(stream: TextStream, prompt: str) -> Generation:
    """Read a stream to its end and return the text."""
    text = "".join(stream)
    assert stream.finish_reason is not None  # the stream has ended
    return Generation(
        prompt=prompt,
        text=text,
        finish_reason=stream.finish_reason,
        seed=stream.seed,
        stats=stream.stats,
        token_stats=stream.token_stats,
        stop_string=stream.stop_string,
    )
