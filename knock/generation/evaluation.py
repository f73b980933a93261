"""Evaluate a model on held-out text: mean cross-entropy in nats per character, of plain text defined in two ways.

- *block 256*: the text is cut into independent blocks of 256 characters. The state is reset at the start of each block
  and every position counts. Comparable with published losses of models with a context of 256.
- *stream*: the text is read in one uninterrupted pass, as in generation.

Both predict every character of the text except the first. Each prediction sees exactly the context that the model has
in generation: past T characters, an absolute model slides its window by one character at a time.

A model of items has a single loss, *items*: each item is read alone, after a boundary. Its end is predicted, too, and
counts as a character.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from knock.engine.engine import Engine
from knock.errors import TextError
from knock.generation.loss import Loss
from knock.generation.scoring import in_threads, log_probs_between, log_probs_of_items, positions_at_once

BLOCK = 256
MAX_CHARACTERS = 2**22  # longer texts are truncated
_SHARES = 4  # parts of what a thread scores at a time, after each of which the time is checked
_LONG = 60.0  # seconds; a shorter evaluation never waits for a compiler


def evaluate(
    engine: Engine,
    tokens: npt.NDArray[np.integer],
    *,
    boundary: int | None = None,
    seconds: float | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Loss]:
    """Return both losses of a text, under the keys `"block_256"` and `"stream"`, or that of items, under `"items"`.

    Only the first `MAX_CHARACTERS` characters of a longer text are evaluated.

    Args:
        engine: runs the model.
        tokens: text, [N]; or items, with a boundary before each and one at the end.
        boundary: the boundary of items; None for plain text.
        seconds: approximate time limit. If the text takes longer, only its beginning is evaluated.
        progress: called with the share of the work done so far.

    Raises:
        TextError: if there are fewer than two tokens.
        GenerationError: if the logits of a position are not finite.
    """
    if boundary is not None:
        return {"items": _evaluate_items(engine, tokens, boundary, seconds, progress)}
    tokens = tokens[:MAX_CHARACTERS]
    last = len(tokens) - 1
    if last < 1:
        raise TextError(f"evaluation needs at least 2 characters, got {len(tokens)}; use a longer text")
    started = time.perf_counter()
    engine.settle(positions=2 * last if seconds is None or seconds >= _LONG else 0)
    # Both losses are of the same characters, however early the time runs out.
    span = max(BLOCK, positions_at_once(engine.config) // _SHARES // BLOCK * BLOCK)

    def summed(start: int) -> tuple[float, float]:
        """Return the sums of both log-probabilities over the predictions from `start` on."""
        end = min(start + span, last)
        cuts = [*range(start, end, BLOCK), end]
        blocks = (engine.log_probs(tokens[a:b], tokens[a + 1 : b + 1]) for a, b in itertools.pairwise(cuts))
        stream = log_probs_between(engine, tokens, start + 1, end + 1)
        return sum(float(block.sum()) for block in blocks), float(stream.sum())

    by_block, by_stream, done = 0.0, 0.0, 0
    for of_blocks, of_stream in in_threads(engine, summed, range(0, last, span)):
        by_block, by_stream, done = by_block - of_blocks, by_stream - of_stream, min(done + span, last)
        progress(done / last)
        if seconds is not None and time.perf_counter() - started >= seconds:
            break
    return {"block_256": Loss(by_block / done, done), "stream": Loss(by_stream / done, done)}


def _evaluate_items(
    engine: Engine,
    tokens: npt.NDArray[np.integer],
    boundary: int,
    seconds: float | None,
    progress: Callable[[float], None],
) -> Loss:
    started = time.perf_counter()
    boundaries = np.flatnonzero(tokens == boundary)
    if len(boundaries) < 2:
        raise TextError("evaluation needs at least one item, got none; use more items")
    # Whole items only, and at least one, however long it is or early the time runs out.
    whole = max(1, int(np.searchsorted(boundaries, MAX_CHARACTERS)) - 1)
    boundaries = boundaries[: whole + 1]
    first, last = int(boundaries[0]), int(boundaries[-1])
    engine.settle(positions=last - first if seconds is None or seconds >= _LONG else 0)
    span = max(1, positions_at_once(engine.config) // _SHARES)
    cuts = np.unique(np.searchsorted(boundaries, [*range(first, last, span), last])).tolist()

    def summed(part: int) -> float:
        """Return the sum of the log-probabilities of the items between two cuts."""
        start, end = int(boundaries[cuts[part]]) + 1, int(boundaries[cuts[part + 1]]) + 1
        return float(log_probs_of_items(engine, tokens, boundaries, start, end).sum())

    total, done = 0.0, 0
    for part, log_prob in enumerate(in_threads(engine, summed, range(len(cuts) - 1))):
        total, done = total - log_prob, cuts[part + 1]
        progress(done / whole)
        if seconds is not None and time.perf_counter() - started >= seconds:
            break
    characters = int(boundaries[done]) - first
    return Loss(total / characters, characters, done)


def as_record(losses: dict[str, Loss]) -> dict[str, dict[str, float]]:
    """Return the losses as a JSON-serialisable dict for the training record."""
    return {
        name: {"nats_per_char": loss.nats, "bits_per_char": loss.bits, "characters": loss.characters}
        | ({} if loss.items is None else {"nats_per_item": loss.nats_per_item, "items": loss.items})
        for name, loss in losses.items()
    }
