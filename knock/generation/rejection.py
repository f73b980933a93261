"""Draws texts by rejection: for each request, texts until one matches its constraint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from knock.engine.batch import Request, groups
from knock.engine.engine import Engine
from knock.errors import GenerationError
from knock.generation.batches import sample
from knock.generation.requests import LAST_INDEX
from knock.generation.results import Generation, Interrupted
from knock.sampling import TokenStats, summarize
from knock.vocab import Vocab

MOST_TRIES = 10_000  # texts drawn for one that matches
LAST_ROW = LAST_INDEX // MOST_TRIES  # largest index of a row

_NONE_MATCHES = f"none of {MOST_TRIES:,} texts that were drawn matches the constraint; relax it, or drop exact"
_ROW = "row"  # the field of a request that says which row it is drawn for


def sample_exact(
    engine: Engine,
    vocab: Vocab,
    requests: Iterable[Request],
    seed: int,
    *,
    token_stats: bool,
    threads: int | None,
    progress: Callable[[int], None] | None,
    total_steps: int | None = None,
    at_once: Callable[[], int] | None = None,
    keep_errors: bool = False,
    tried: int = 0,
) -> Iterator[Generation]:
    """Yield, for each request in order, the first text that matches its constraint.

    The texts drawn for row i are those of the indices `i * MOST_TRIES`, `i * MOST_TRIES + 1` and so on. So the result
    depends on the seed and i, and not on other rows or on how many texts are drawn together.

    Args:
        engine: the model.
        vocab: its characters.
        requests: the requests, whose texts are rejected if they do not match. No index is above `LAST_ROW`.
        seed: seed of the batch.
        token_stats: whether to keep the statistics of each character.
        threads: number of threads; None for one for each CPU.
        progress: called periodically with the number of rows that have a text.
        total_steps: characters of all requests, None if it is unknown.
        at_once: called before each group of rows, returns how many it may have.
        keep_errors: If True, a row of which no text matches has an error instead of raising.
        tried: number of texts of each row that are known not to match.

    Raises:
        GenerationError: if none of the texts of a row matches.
        Interrupted: on Ctrl-C, with the texts that were found but not yet yielded.
    """
    done = 0
    for group in groups(requests, at_once=at_once):
        rows = [_Row(request, tried) for request in group]
        given = 0
        try:
            drawn = sample(
                engine, vocab, _draws(rows), seed, token_stats=token_stats, threads=threads,
                progress=None if progress is None else _counting(progress, done, rows), total_steps=total_steps,
                at_once=partial(_how_many, rows),
            )  # fmt: skip
            for text in drawn:
                _take(rows, text)
            for row in rows:
                text = row.text or _error(row.request, seed, token_stats=token_stats, keep_errors=keep_errors)
                given += 1
                yield text
        except KeyboardInterrupt as interrupt:
            for text in interrupt.finished if isinstance(interrupt, Interrupted) else ():
                _take(rows, text)
            missing = next((row.request.index for row in rows if row.text is None), group[-1].index + 1)
            raise Interrupted([row.text for row in rows[given:] if row.text is not None], missing) from None
        done += len(group)


@dataclass(slots=True)
class _Row:
    """A row that is waited for.

    Attributes:
        request: its request.
        tried: number of its texts that were drawn, one after the other, from the first one on.
        text: the first one that matches; None if there is none yet.
    """

    request: Request
    tried: int
    text: Generation | None = None

    def draw(self, number: int, row: int) -> Request:
        """Return the request of a text of this row, which is number `row` of its group."""
        return replace(self.request, index=self.request.index * MOST_TRIES + number, extra={_ROW: row})


def _draws(rows: Sequence[_Row]) -> Iterator[Request]:
    """Yield requests of texts, one for each row that has none, then the next; no more for rows that have one by then.

    The texts come back while requests are taken, a group at a time.
    """
    for number in range(min(row.tried for row in rows), MOST_TRIES):
        waiting = [(i, row) for i, row in enumerate(rows) if row.text is None]
        if not waiting:
            return
        for i, row in waiting:
            if row.text is None:
                yield row.draw(number, i)


def _how_many(rows: Sequence[_Row]) -> int:
    """Return how many texts to draw next: for each row that has none, as many as before, so that few are in vain."""
    waiting = [row.tried for row in rows if row.text is None]
    return max(1, len(waiting) * max(1, min(waiting, default=1)))


def _take(rows: Sequence[_Row], text: Generation) -> None:
    """Keep a text that was drawn, if it is the first of its row that matches.

    After an interrupt, those before it may be missing; then it may not be the first.
    """
    assert text.extra is not None
    row = rows[text.extra[_ROW]]
    if row.text is not None or text.index != row.request.index * MOST_TRIES + row.tried:
        return
    row.tried += 1
    if text.finish_reason != "rejected":
        row.text = replace(text, index=row.request.index, extra=row.request.extra)


def _counting(progress: Callable[[int], None], done: int, rows: Sequence[_Row]) -> Callable[[int], None]:
    """Return a progress callback that counts rows instead of texts."""
    return lambda _: progress(done + sum(row.text is not None for row in rows))


def _error(request: Request, seed: int, *, token_stats: bool, keep_errors: bool) -> Generation:
    """Return the row of a request of which no text matches.

    Raises:
        GenerationError: if errors are not kept.
    """
    if not keep_errors:
        raise GenerationError(f"row {request.index}: {_NONE_MATCHES}")
    stats = TokenStats.concatenate([])
    return Generation(
        prompt=request.prompt,
        text="",
        finish_reason="error",
        seed=seed,
        stats=summarize(stats, seed),
        token_stats=stats if token_stats else None,
        index=request.index,
        error=_NONE_MATCHES,
        extra=request.extra,
    )
