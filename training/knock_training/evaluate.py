"""The project's one definition of how good a model is: mean nats a character over a whole text, in two ways.

- *block 256*: the text in independent blocks of 256 characters, the state reset at each, every position counted;
  comparable with the usual tables of models with a context of 256.
- *stream*: the text in one uninterrupted pass, as in generation.

Both predict every character of the text but the first, and see all that the model can see and no more: an absolute
model slides its window by one for each character past T.

    python -m knock_training.evaluate model.safetensors corpus.txt    # on the last 10% of the corpus
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from knock.choices import UNKNOWN
from knock.errors import KnockError, TextError
from knock.files.checkpoint import read_checkpoint
from knock.models import locate
from knock_training.data import Corpus
from knock_training.model import Twin

BLOCK = 256
MOST = 2**22  # characters that `evaluate` takes of a longer text
_NEARLY = 0.7  # of a text fits into the time, and so all of it is taken
_PILOT = 4096  # characters by which the time for the rest is estimated
_POSITIONS_AT_ONCE = 16_384  # bounds the memory of one forward pass


@dataclass(frozen=True)
class Loss:
    """Mean cross-entropy.

    Attributes:
        nats: in nats a character.
        characters: how many were predicted.
    """

    nats: float
    characters: int

    @property
    def bits(self) -> float:
        """The same in bits a character."""
        return self.nats / math.log(2)

    def __str__(self) -> str:
        return f"{self.nats:.4f} nats/char ({self.bits:.4f} bits)"


@torch.no_grad()
def block_loss(
    twin: Twin,
    tokens: Tensor,
    block: int = BLOCK,
    at_most: int | None = None,
    *,
    progress: Callable[[int], None] = lambda positions: None,
) -> Loss:
    """Loss over independent blocks, the state reset at each.

    Args:
        twin: the model.
        tokens: the text, (N,) with N >= 2.
        block: inputs a block; what is left at the end is a shorter one.
        at_most: blocks to take, spread evenly over the text; all if None.
        progress: called with the number of characters that were predicted since the last call.
    """
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(inputs) // block * block
    x, y = inputs[:whole].view(-1, block), targets[:whole].view(-1, block)
    if at_most is not None and len(x) > at_most:
        chosen = torch.linspace(0, len(x) - 1, at_most).long()
        return Loss(_summed_loss(twin, x[chosen], y[chosen], progress) / (at_most * block), at_most * block)
    total = _summed_loss(twin, x, y, progress)
    if whole < len(inputs):
        total += _summed_loss(twin, inputs[None, whole:], targets[None, whole:], progress)
    return Loss(total / len(inputs), len(inputs))


@torch.no_grad()
def stream_loss(twin: Twin, tokens: Tensor, *, progress: Callable[[int], None] = lambda positions: None) -> Loss:
    """Loss over one uninterrupted pass; `tokens` [N] with N >= 2, `progress` as in `block_loss`."""
    positions = len(tokens) - 1
    return Loss(_summed_loss(twin, tokens[None, :-1], tokens[None, 1:], progress) / positions, positions)


def evaluate(
    twin: Twin,
    tokens: Tensor,
    *,
    seconds: float | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Loss]:
    """Both losses of a text, as `"block_256"` and `"stream"`; of a very long one, of its first `MOST` characters.

    Args:
        twin: the model.
        tokens: the text, [N].
        seconds: the time there is, about: of a text that takes longer, only the beginning is evaluated.
        progress: called with the share that is done.

    Raises:
        TextError: if there are fewer than two tokens.
    """
    tokens = tokens[:MOST]
    if len(tokens) < 2:
        raise TextError(f"evaluation needs at least 2 characters, got {len(tokens)}")
    if seconds is not None and len(tokens) > _PILOT:
        started = time.perf_counter()
        for loss in (block_loss, stream_loss):
            loss(twin, tokens[:_PILOT])
        pilot = time.perf_counter() - started
        fitting = max(_PILOT, int(_PILOT * (seconds - pilot) / pilot))
        tokens = tokens[:fitting] if fitting < _NEARLY * len(tokens) else tokens
    done, due = 0, 2 * (len(tokens) - 1)

    def count(positions: int) -> None:
        nonlocal done
        done += positions
        progress(done / due)

    return {
        "block_256": block_loss(twin, tokens, progress=count),
        "stream": stream_loss(twin, tokens, progress=count),
    }


def unigram_loss(train: Tensor, validation: Tensor, vocab_size: int) -> tuple[float, float]:
    """Cross-entropy of a text, and of another, under the frequencies of the characters in the first, in nats/char.

    That is what a model has that knows nothing of context. Each character counts once more than it occurs, so that
    none has the probability 0; of a very long text, the first `MOST` characters are counted.
    """
    counts = torch.bincount(train[:MOST].int(), minlength=vocab_size).double() + 1
    surprise = -torch.log(counts / counts.sum())
    train_loss, validation_loss = (surprise[text[:MOST].int()].mean().item() for text in (train, validation))
    return train_loss, validation_loss


def as_record(losses: dict[str, Loss]) -> dict[str, dict[str, float]]:
    """What `evaluate` found, as it is kept in a training record."""
    return {
        name: {"nats_per_char": loss.nats, "bits_per_char": loss.bits, "characters": loss.characters}
        for name, loss in losses.items()
    }


def _logits(twin: Twin, inputs: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Logits of every position of [B, N] inputs, in pieces (B, n, V), each with where it starts.

    A relative model's pieces overlap by its receptive field, which makes them exact.
    """
    B, N = inputs.shape
    T = twin.config.T
    piece = max(1, _POSITIONS_AT_ONCE // B)
    if twin.config.position == "relative":
        history = twin.config.receptive_field - 1
        for start in range(0, N, piece):
            first = max(0, start - history)
            yield twin(inputs[:, first : start + piece])[:, start - first :], start
        return
    yield twin(inputs[:, :T]), 0
    if N <= T:
        return
    windows = inputs.unfold(1, T, 1)[:, 1:]  # (B, N - T, T): the windows that end at T, T + 1, ...
    piece = max(1, piece // T)
    for start in range(0, windows.shape[1], piece):
        some = windows[:, start : start + piece]
        yield twin(some.reshape(-1, T))[:, -1].view(B, some.shape[1], -1), T + start


def _summed_loss(twin: Twin, inputs: Tensor, targets: Tensor, progress: Callable[[int], None]) -> float:
    """Cross-entropy in nats, summed over all positions of [B, N] inputs and targets."""
    total = 0.0
    rows = max(1, _POSITIONS_AT_ONCE // inputs.shape[1])
    device = next(twin.parameters()).device
    for some, following in zip(torch.split(inputs, rows), torch.split(targets, rows), strict=True):
        for logits, start in _logits(twin, some.long().to(device)) if len(some) else ():
            after = following[:, start : start + logits.shape[1]].long().to(device)
            total += F.cross_entropy(logits.flatten(0, 1), after.flatten(), reduction="none").double().sum().item()
            progress(after.numel())
    return total


def main(arguments: list[str] | None = None) -> int:
    """Evaluate a saved model on the validation split of a corpus."""
    parser = argparse.ArgumentParser(prog="python -m knock_training.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a shipped model, a file or a folder")
    parser.add_argument("corpus", nargs="+", help="UTF-8 texts, as in training; the last 10%% are evaluated")
    parser.add_argument("--unknown", choices=UNKNOWN, default="error", help="what to do with unknown characters")
    options = parser.parse_args(arguments)
    try:
        checkpoint = read_checkpoint(locate(options.model))
        if checkpoint.vocab is None:
            raise TextError(f"{options.model!r} has no vocabulary, so it cannot read text")
        corpus = Corpus.read(options.corpus, vocab=checkpoint.vocab, unknown=options.unknown)
        for name, loss in evaluate(Twin(checkpoint.weights), corpus.validation).items():
            print(f"{name:<10} {loss}")
    except KnockError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
