"""Generates the texts of many requests: in groups, in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from knock.engine.batch import NOT_DONE, Request, groups
from knock.engine.engine import Engine
from knock.generation.results import Generation, Interrupted, generations
from knock.vocab import Vocab


def sample(
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
) -> Iterator[Generation]:
    """Yield the texts of requests in their order, as they are finished.

    Args:
        engine: the model.
        vocab: its characters.
        requests: the requests, any number of them.
        seed: seed of the batch.
        token_stats: whether to keep the statistics of each character.
        threads: number of threads; None for one for each CPU.
        progress: called periodically with the number of finished texts.
        total_steps: characters of all requests, None if it is unknown.
        at_once: called before each group, returns how many texts it may have.

    Raises:
        Interrupted: on Ctrl-C, with the texts that were finished but not yet yielded.
    """
    done = 0
    for group in groups(requests, at_once=at_once):
        counted = None if progress is None else _counting_from(progress, done)
        rows = engine.run(group, seed, threads=threads, keep_stats=True, progress=counted, total_steps=total_steps)
        given = 0
        try:
            if rows.is_interrupted:
                raise KeyboardInterrupt
            for text in generations(rows, group, vocab, seed, token_stats):
                given += 1
                yield text
        except KeyboardInterrupt:
            finished = list(generations(rows, group, vocab, seed, token_stats))
            indices = [*(request.index for request in group), group[-1].index + 1]
            first_missing = indices[int(np.append(rows.finish_reasons != NOT_DONE, False).argmin())]
            raise Interrupted(finished[given:], first_missing) from None
        done += len(group)


def collected(texts: Iterator[Generation], requests: Sequence[Request]) -> list[Generation]:
    """Return the texts of requests.

    Args:
        texts: yields them in order, as `sample` does.
        requests: the requests.

    Raises:
        Interrupted: on Ctrl-C, with all texts that were finished.
    """
    done: list[Generation] = []
    try:
        done.extend(texts)
    except Interrupted as interrupt:
        raise Interrupted([*done, *interrupt.finished], interrupt.first_missing) from None
    except KeyboardInterrupt:
        missing = requests[len(done)].index if len(done) < len(requests) else len(requests)
        raise Interrupted(done, missing) from None
    return done


def _counting_from(progress: Callable[[int], None], done: int) -> Callable[[int], None]:
    """Return a progress callback that counts from the rows that were finished before."""
    return lambda rows: progress(done + rows)
