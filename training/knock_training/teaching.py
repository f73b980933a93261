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
class Teachers:
    """What the teachers of a run expect of its training text.

    Attributes:
        targets: mean distribution of the next token after each of the N tokens, float16 [N, V].
        record: name and digest of each teacher, for the training record.
    """

    targets: Tensor
    record: list[dict[str, Any]]


@torch.no_grad()
def teach(
    teachers: Sequence[tuple[str, Checkpoint]],
    tokens: Tensor,
    vocab: Vocab,
    device: torch.device,
) -> Teachers:
    """Return the mean of the distributions that models expect after every token of a text.

    Each model reads the text as one stream, or every item on its own.

    Args:
        teachers: name and file of each model.
        tokens: a text, or a stream of items, [N].
        vocab: vocabulary of the text; that of every teacher.
        device: where to compute.

    Raises:
        TrainingError: if a teacher has another vocabulary, or the targets would take too much memory.
    """
    for name, checkpoint in teachers:
        _check_vocabulary(name, checkpoint.vocab, vocab)
    size = 6 * len(tokens) * vocab.vocab_size  # of the sum and of the result
    if size > _MOST_BYTES:
        raise TrainingError(
            f"the teachers' expectations of {counted(len(tokens), 'character')} would take {size / 2**30:.0f} GB, more "
            f"than {_MOST_BYTES / 2**30:.0f}; train on less text, or leave out rare characters with a minimum count"
        )
    total = torch.zeros(len(tokens), vocab.vocab_size)
    for _, checkpoint in teachers:
        twin = Twin(checkpoint.weights, boundary=vocab.boundary).to(device).eval()
        for logits, start in all_logits(twin, tokens[None].long().to(device)):
            total[start : start + logits.shape[1]] += torch.softmax(logits[0].float(), -1).cpu()
    record = [{"name": name, "digest": checkpoint.digest} for name, checkpoint in teachers]
    return Teachers((total / len(teachers)).half(), record)


def _check_vocabulary(name: str, given: Vocab | None, expected: Vocab) -> None:
    if given is None:
        raise TrainingError(f"teacher {name!r} has no vocabulary; choose a model that has one")
    if given.to_json() != expected.to_json() or given.boundary != expected.boundary:
        what = "items" if given.has_boundary != expected.has_boundary else "characters"
        raise TrainingError(
            f"teacher {name!r} knows other {what} than the corpus has; choose a model that was trained on this corpus"
        )
