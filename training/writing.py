"""Text that teachers write, for a student to learn from.

A student sees it with what all teachers expect after each of its characters. They were not trained on that text, so
there they expect what they have understood, and not what they remember.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from knock.files.checkpoint import Checkpoint
from knock.gpt import ReweightGPT
from knock.language_model import LanguageModel
from knock.vocab import Vocab

TEXTS, LENGTH = 768, 2000  # texts of each teacher, and characters of each
TEMPERATURE = 1.15  # at 1, all teachers together find their texts less surprising than text that is new to them


def written(teachers: Iterable[Checkpoint], vocab: Vocab, seed: int, texts: int = TEXTS) -> Tensor:
    """Return texts that models write, one after the other, each ending with a line break, uint8 [M].

    They are the same on every machine.

    Args:
        teachers: the models. They generate without filters.
        vocab: their vocabulary, of at most 256 characters, one of them a line break.
        seed: seed of the texts.
        texts: number of texts of each model.
    """
    parts = []
    for teacher in teachers:
        model = LanguageModel(ReweightGPT.from_weights(teacher.weights), vocab)
        generated = model.generate_batch([""] * texts, seed=seed, max_new_tokens=LENGTH, temperature=TEMPERATURE)
        parts += [text.text + "\n" for text in generated]
    return torch.tensor(vocab.encode("".join(parts)), dtype=torch.uint8)
