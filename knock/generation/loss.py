"""Loss: mean cross-entropy of a text, in its units."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """Mean cross-entropy of a text.

    Attributes:
        nats: loss in nats per character.
        characters: number of predicted characters; the end of an item counts as one.
        items: number of items; None for plain text.
    """

    nats: float
    characters: int
    items: int | None = None

    @property
    def bits(self) -> float:
        """Loss in bits per character."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """e to the power of the loss, per character; infinite if a float cannot hold it."""
        return math.exp(self.nats) if self.nats < 709 else math.inf

    @property
    def nats_per_item(self) -> float:
        """Loss in nats per item; NaN for plain text."""
        return self.nats * self.characters / self.items if self.items else math.nan

    @property
    def bits_per_item(self) -> float:
        """Loss in bits per item; NaN for plain text."""
        return self.nats_per_item / math.log(2)

    def __str__(self) -> str:
        per_item = f", {self.nats_per_item:.2f} nats/item ({self.bits_per_item:.2f} bits)" if self.items else ""
        return f"{self.nats:.4f} nats/char ({self.bits:.4f} bits){per_item}"
