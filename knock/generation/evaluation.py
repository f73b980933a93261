"""Evaluate a model on held-out text: mean cross-entropy in nats per character, defined in two ways.

- *block 256*: the text is cut into independent blocks of 256 characters. The state is reset at the start of each block
  and every position counts. Comparable with published losses of models with a context of 256.
- *stream*: the text is read in one uninterrupted pass, as in generation.

Both predict every character of the text except the first. Each prediction sees exactly the context that the model has
in generation: past T characters, an absolute model slides its window by one character at a time.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from knock.engine.engine import Engine
from knock.errors import TextError
from knock.generation.scoring import in_threads, log_probs_between, positions_at_once

BLOCK = 256
MAX_CHARACTERS = 2**22  # longer texts are truncated
_SHARES = 4  # parts of what a thread scores at a time, after each of which the time is checked
_LONG = 60.0  # seconds; a shorter evaluation never waits for a compiler


@dataclass(frozen=True)
class Loss:
    """Mean cross-entropy of a text.

    Attributes:
        nats: loss in nats per character.
        characters: number of predicted characters.
    """

    nats: float
    characters: int

    @property
    def bits(self) -> float:
        """Loss in bits per character."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """e to the power of the loss, per character; infinite if a float cannot hold it."""
        return math.exp(self.nats) if self.nats < 709 else math.inf

    def __str__(self) -> str:
        return f"{self.nats:.4f} nats/char ({self.bits:.4f} bits)"


def evaluate(
    engine: Engine,
    tokens: npt.NDArray[np.integer],
    *,
    seconds: float | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Loss]:
    """Return both losses of a text, under the keys `"block_256"` and `"stream"`.

    Only the first `MAX_CHARACTERS` characters of a longer text are evaluated.

    Args:
        engine: runs the model.
        tokens: text, [N].
        seconds: approximate time limit. If the text takes longer, only its beginning is evaluated.
        progress: called with the share of the work done so far.

    Raises:
        TextError: if there are fewer than two tokens.
        GenerationError: if the logits of a position are not finite.
    """
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


def as_record(losses: dict[str, Loss]) -> dict[str, dict[str, float]]:
    """Return the losses as a JSON-serialisable dict for the training record."""
    return {
        name: {"nats_per_char": loss.nats, "bits_per_char": loss.bits, "characters": loss.characters}
        for name, loss in losses.items()
    }
