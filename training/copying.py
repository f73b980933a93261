"""How much of what a model writes it has copied from its training text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from knock.language_model import LanguageModel

RUN = 50  # characters of a copied run
_TEXTS, _LENGTH = 500, 2000  # generated texts, and characters of each


def copied_share(texts: Iterable[str], known: str) -> float:
    """Return the share of the runs of `RUN` characters of some texts that stand in another one; 0 without any."""
    in_known = set(_runs(known))
    is_copied = [run in in_known for text in texts for run in _runs(text)]
    return sum(is_copied) / max(1, len(is_copied))


def _runs(text: str) -> Iterator[str]:
    return (text[start : start + RUN] for start in range(len(text) - RUN + 1))


def copying(model: LanguageModel, training: str, held_out: str) -> dict[str, Any]:
    """Return how much of the text that a model generates is copied, for its training record.

    Args:
        model: the model. It generates at temperature 1, without filters.
        training: what it was trained on.
        held_out: other text of the same kind, for comparison.
    """
    texts = model.generate_batch([""] * _TEXTS, seed=0, max_new_tokens=_LENGTH)
    return {
        "run": RUN,
        "characters": _TEXTS * _LENGTH,
        "share": round(copied_share([each.text for each in texts], training), 5),
        "share_of_held_out": round(copied_share([held_out], training), 5),
    }
