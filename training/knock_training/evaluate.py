"""Evaluate a model on a text: mean cross-entropy in nats per character, defined in two ways.

- *block 256*: the text is cut into independent blocks of 256 characters. The state is reset at the start of each block
  and every position counts. Comparable with published losses of models with a context of 256.
- *stream*: the text is read in one uninterrupted pass, as in generation.

Both predict every character of the text except the first. Each prediction sees exactly the context that the model has
in generation: past T characters, an absolute model slides its window by one character at a time.

    python -m knock_training.evaluate model.safetensors corpus.txt    # evaluates the last 10% of the corpus
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
MAX_CHARACTERS = 2**22  # longer texts are truncated
_NEARLY_ALL = 0.7  # if this share of a text fits into the time, all of it is evaluated
_PILOT = 4096  # characters timed to estimate the speed
_POSITIONS_AT_ONCE = 16_384  # bounds the memory of one forward pass


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
    """Return the loss over independent blocks, with the state reset at the start of each.

    Args:
        twin: model to evaluate.
        tokens: text, [N] with N >= 2.
        block: inputs per block. The last block may be shorter.
        at_most: number of blocks to evaluate, spread evenly over the text; all if None.
        progress: called with the number of characters predicted since the last call.
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
    """Return the loss over one uninterrupted pass.

    Args:
        twin: model to evaluate.
        tokens: text, [N] with N >= 2.
        progress: called with the number of characters predicted since the last call.
    """
    positions = len(tokens) - 1
    return Loss(_summed_loss(twin, tokens[None, :-1], tokens[None, 1:], progress) / positions, positions)


def evaluate(
    twin: Twin,
    tokens: Tensor,
    *,
    seconds: float | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Loss]:
    """Return both losses of a text, under the keys `"block_256"` and `"stream"`.

    Only the first `MAX_CHARACTERS` characters of a longer text are evaluated.

    Args:
        twin: model to evaluate.
        tokens: text, [N].
        seconds: approximate time limit. If the text would take longer, only its beginning is evaluated.
        progress: called with the share of the work done so far.

    Raises:
        TextError: if there are fewer than two tokens.
    """
    tokens = tokens[:MAX_CHARACTERS]
    if len(tokens) < 2:
        raise TextError(f"evaluation needs at least 2 characters, got {len(tokens)}; use a longer text")
    if seconds is not None and len(tokens) > _PILOT:
        started = time.perf_counter()
        for loss in (block_loss, stream_loss):
            loss(twin, tokens[:_PILOT])
        pilot = time.perf_counter() - started
        fitting = max(_PILOT, int(_PILOT * (seconds - pilot) / pilot))
        tokens = tokens[:fitting] if fitting < _NEARLY_ALL * len(tokens) else tokens
    done, total = 0, 2 * (len(tokens) - 1)

    def count(positions: int) -> None:
        nonlocal done
        done += positions
        progress(done / total)

    return {
        "block_256": block_loss(twin, tokens, progress=count),
        "stream": stream_loss(twin, tokens, progress=count),
    }


def unigram_loss(train: Tensor, validation: Tensor, vocab_size: int) -> tuple[float, float]:
    """Return the training and validation loss, in nats/char, of the unigram distribution of the training text.

    This is the loss of a model that ignores context. Counts are smoothed by adding one, so that no character has
    probability 0. Only the first `MAX_CHARACTERS` characters of each text are used.
    """
    counts = torch.bincount(train[:MAX_CHARACTERS].int(), minlength=vocab_size).double() + 1
    surprise = -torch.log(counts / counts.sum())
    train_loss, validation_loss = (surprise[text[:MAX_CHARACTERS].int()].mean().item() for text in (train, validation))
    return train_loss, validation_loss


def as_record(losses: dict[str, Loss]) -> dict[str, dict[str, float]]:
    """Return the losses as a JSON-serialisable dict for the training record."""
    return {
        name: {"nats_per_char": loss.nats, "bits_per_char": loss.bits, "characters": loss.characters}
        for name, loss in losses.items()
    }


def _logits(twin: Twin, inputs: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield the logits of [B, N] inputs in pieces [B, n, V], each with its first position.

    The pieces of a relative model are computed with a full receptive field of context, so they are exact.
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
    windows = inputs.unfold(1, T, 1)[:, 1:]  # [B, N - T, T]: windows that end at positions T, T + 1, ...
    piece = max(1, piece // T)
    for start in range(0, windows.shape[1], piece):
        some = windows[:, start : start + piece]
        yield twin(some.reshape(-1, T))[:, -1].view(B, some.shape[1], -1), T + start


def _summed_loss(twin: Twin, inputs: Tensor, targets: Tensor, progress: Callable[[int], None]) -> float:
    """Return the cross-entropy in nats, summed over all positions of [B, N] inputs and targets."""
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
    parser.add_argument("model", help="name of a shipped model, or a model file or folder")
    parser.add_argument("corpus", nargs="+", help="UTF-8 files, as in training; the last 10%% of the text is evaluated")
    parser.add_argument("--unknown", choices=UNKNOWN, default="error", help="how to handle unknown characters")
    options = parser.parse_args(arguments)
    try:
        checkpoint = read_checkpoint(locate(options.model))
        if checkpoint.vocab is None:
            raise TextError(f"model {options.model!r} has no vocabulary, so it cannot encode text; choose one that has")
        corpus = Corpus.read(options.corpus, vocab=checkpoint.vocab, unknown=options.unknown)
        for name, loss in evaluate(Twin(checkpoint.weights), corpus.validation).items():
            print(f"{name:<10} {loss}")
    except KnockError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
