"""What the tests of `knock score` share: texts, small models, and the table as cells."""

from __future__ import annotations

import io
import re

import numpy as np

from knock import LanguageModel, ReweightGPT, Vocab
from tests.cases import EVERY, random_weights

ROMEO = "ROMEO:\nBut, soft! what light through yonder window breaks?\n"


LETTERS = "\nabcdefghij"


def small(name: str, **options: str) -> LanguageModel:
    model = ReweightGPT.from_weights(random_weights(EVERY[name], 0), **options)
    return LanguageModel(model, Vocab(LETTERS))


def table(out: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in out.splitlines()]


LONG = "".join(np.random.default_rng(0).choice(list(LETTERS), 900))


class Input(io.BytesIO):
    """Standard input without a size."""

    @property
    def buffer(self) -> Input:
        return self

    def fileno(self) -> int:
        raise io.UnsupportedOperation
