"""Losses that a training run watches: of the model being trained, in PyTorch, and of character frequencies.

`knock.generation.evaluation` defines the losses of a finished model. The block loss here is the same figure, of some of
the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from knock_training.evaluate import BLOCK, MAX_CHARACTERS
from knock_training.model import Twin

_POSITIONS_AT_ONCE = 16_384  # bounds the memory of one forward pass


@torch.no_grad()
def block_loss(twin: Twin, tokens: Tensor, block: int = BLOCK, at_most: int | None = None) -> float:
    """Return the loss over independent blocks, in nats per character. The state is reset at the start of each.

    In a stream of items, it is reset at the start of each item instead, and ends of items count as characters.

    Args:
        twin: model to evaluate.
        tokens: text, or a stream of items, [N] with N >= 2.
        block: inputs per block. The last block may be shorter.
        at_most: number of blocks to evaluate, spread evenly over the text; all if None.
    """
    if twin.boundary is not None:
        return _item_loss(twin, twin.boundary, tokens, block, at_most)
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(inputs) // block * block
    x, y = inputs[:whole].view(-1, block), targets[:whole].view(-1, block)
    if at_most is not None and len(x) > at_most:
        chosen = torch.linspace(0, len(x) - 1, at_most).long()
        return _summed_loss(twin, x[chosen], y[chosen]) / (at_most * block)
    total = _summed_loss(twin, x, y)
    if whole < len(inputs):
        total += _summed_loss(twin, inputs[None, whole:], targets[None, whole:])
    return total / len(inputs)


def _item_loss(twin: Twin, boundary: int, tokens: Tensor, block: int, at_most: int | None) -> float:
    """Return the loss of a stream of items, as `block_loss`.

    A block is preceded by the beginning of the item that it cuts, as far as the model sees.
    """
    config = twin.config
    reach = config.receptive_field - 1
    boundaries = torch.nonzero(torch.eq(tokens, boundary))[:, 0]

    def summed(starts: Tensor, width: int) -> float:
        """Return the loss, summed over the predictions from each start on."""
        item = boundaries[torch.searchsorted(boundaries, starts, right=True) - 1]
        history = int((starts - item).max().clamp_max(reach))
        # Before the first item there is its boundary again and again, which begins empty items.
        inputs = (starts[:, None] + torch.arange(-history, width)).clamp_min(0)
        return _summed_loss(twin, tokens[inputs], tokens[inputs + 1], history)

    predictions = len(tokens) - 1
    whole = predictions // block * block
    starts = torch.arange(0, whole, block)
    if at_most is not None and len(starts) > at_most:
        chosen = starts[torch.linspace(0, len(starts) - 1, at_most).long()]
        return summed(chosen, block) / (at_most * block)
    total = summed(starts, block) if whole else 0.0
    if whole < predictions:
        total += summed(torch.tensor([whole]), predictions - whole)
    return total / predictions


def unigram_loss(train: Tensor, validation: Tensor, vocab_size: int) -> tuple[float, float]:
    """Return the training and validation loss, in nats/char, of the unigram distribution of the training text.

    This is the loss of a model that ignores context. Counts are smoothed by adding one, so that no character has
    probability 0. Only the first `MAX_CHARACTERS` characters of each text are used.
    """
    counts = torch.bincount(train[:MAX_CHARACTERS].int(), minlength=vocab_size).double() + 1
    surprise = -torch.log(counts / counts.sum())
    train_loss, validation_loss = (surprise[text[:MAX_CHARACTERS].int()].mean().item() for text in (train, validation))
    return train_loss, validation_loss


def all_logits(twin: Twin, inputs: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield the logits of all positions of [B, N] inputs in pieces [B, n, V], each with its first position.

    The pieces of a relative model are computed with a full receptive field of context, so they are exact.
    """
    B, N = inputs.shape
    T = twin.config.longest_window
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


def _summed_loss(twin: Twin, inputs: Tensor, targets: Tensor, history: int = 0) -> float:
    """Return the cross-entropy in nats, summed over all positions of [B, N] inputs and targets but the first ones.

    Args:
        twin: model to evaluate.
        inputs: tokens, [B, N].
        targets: tokens that follow them, [B, N].
        history: number of positions that do not count.
    """
    total = 0.0
    rows = max(1, _POSITIONS_AT_ONCE // inputs.shape[1])
    device = next(twin.parameters()).device
    for some, following in zip(torch.split(inputs, rows), torch.split(targets, rows), strict=True):
        for logits, start in all_logits(twin, some.long().to(device)) if len(some) else ():
            after = following[:, start : start + logits.shape[1]].long().to(device)
            losses = F.cross_entropy(logits.flatten(0, 1), after.flatten(), reduction="none").view(after.shape)
            total += losses[:, max(0, history - start) :].double().sum().item()
    return total
