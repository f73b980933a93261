"""Soft targets: what an ensemble of models expects after every character of a text.

A model that learns them besides the text itself gets closer to the ensemble than it would get to the text alone
(Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network"). It costs nothing when the model runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from knock.errors import TrainingError
from knock.files.checkpoint import Checkpoint
from knock.vocab import Vocab
from knock.words import counted
from knock_training.losses import all_logits
from knock_training.model import Twin

_MOST_BYTES = 8 * 2**30


@dataclass(frozen=True, eq=False)
class Written:
    """Text that teachers wrote, to learn from besides the training text.

    Attributes:
        tokens: the text, [M].
        share: share of the training sequences that are drawn from it.
    """

    tokens: Tensor
    share: float


@dataclass(frozen=True, eq=False)
class Teachers:
    """What the teachers of a run expect of its training text.

    Attributes:
        targets: mean distribution of the next token after each of the N tokens, and each of the M written ones, float16
            [N + M, V].
        record: name and digest of each teacher, for the training record.
        written: text that they wrote; None without any. A run on items cannot use it.
    """

    targets: Tensor
    record: list[dict[str, Any]]
    written: Written | None = None


@torch.no_grad()
def teach(
    teachers: Sequence[tuple[str, Checkpoint]],
    tokens: Tensor,
    vocab: Vocab,
    device: torch.device,
    written: Written | None = None,
) -> Teachers:
    """Return the mean of the distributions that models expect after every token of a text.

    Each model reads the text as one stream, or every item on its own.

    Args:
        teachers: name and file of each model.
        tokens: a text, or a stream of items, [N].
        vocab: vocabulary of the text; that of every teacher.
        device: where to compute.
        written: text that the teachers wrote.

    Raises:
        TrainingError: if a teacher has another vocabulary, or the targets would take too much memory.
    """
    for name, checkpoint in teachers:
        _check_vocabulary(name, checkpoint.vocab, vocab)
    texts = [tokens] if written is None else [tokens, written.tokens]
    count = sum(map(len, texts))
    size = 6 * count * vocab.vocab_size  # of the sum and of the result
    if size > _MOST_BYTES:
        raise TrainingError(
            f"the teachers' expectations of {counted(count, 'character')} would take {size / 2**30:.0f} GB, more "
            f"than {_MOST_BYTES / 2**30:.0f}; train on less text, or leave out rare characters with a minimum count"
        )
    twins = [Twin(checkpoint.weights, boundary=vocab.boundary).to(device).eval() for _, checkpoint in teachers]
    record = [{"name": name, "digest": checkpoint.digest} for name, checkpoint in teachers]
    return Teachers(torch.cat([_expected(twins, text, device) for text in texts]), record, written)


def _expected(twins: Sequence[Twin], tokens: Tensor, device: torch.device) -> Tensor:
    """Return the mean distribution of the next token after each token of a text, [N] -> float16 [N, V] on the CPU."""
    total = torch.zeros(len(tokens), twins[0].config.vocab_size, device=device)
    for twin in twins:
        for logits, start in all_logits(twin, tokens[None].long().to(device)):
            total[start : start + logits.shape[1]] += torch.softmax(logits[0].float(), -1)
    return (total / len(twins)).half().cpu()


def _check_vocabulary(name: str, given: Vocab | None, expected: Vocab) -> None:
    if given is None:
        raise TrainingError(f"teacher {name!r} has no vocabulary; choose a model that has one")
    if given.to_json() != expected.to_json() or given.boundary != expected.boundary:
        what = "items" if given.has_boundary != expected.has_boundary else "characters"
        raise TrainingError(
            f"teacher {name!r} knows other {what} than the corpus has; choose a model that was trained on this corpus"
        )
