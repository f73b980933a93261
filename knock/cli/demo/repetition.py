"""How much of a text repeats what it has said before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from knock.generation.results import Generation

RUN = 12  # characters of the shortest run that counts as repeated


def repeated(text: str, run: int = RUN) -> npt.NDArray[np.bool_]:
    """Return which characters belong to a run of `run` characters that stands earlier in the text, too, [N]."""
    found, seen = np.zeros(len(text), bool), set()
    for start in range(len(text) - run + 1):
        part = text[start : start + run]
        if part in seen:
            found[start : start + run] = True
        seen.add(part)
    return found


def repeated_parts(texts: Sequence[Generation]) -> list[npt.NDArray[np.bool_]]:
    """Return which characters of each text are repeated: of a single one, runs; of several, those that came before."""
    if len(texts) == 1:
        return [repeated(texts[0].text)]
    before: set[str] = set()
    parts = []
    for each in texts:
        parts.append(np.full(len(each.text), each.text in before))
        before.add(each.text)
    return parts


def share_repeated(texts: Sequence[Generation]) -> float:
    """Return the share of repeated characters; of several texts, that of texts that came before."""
    if len(texts) == 1:
        return float(repeated(texts[0].text).mean()) if texts[0].text else 0.0
    return 1 - len({each.text for each in texts}) / len(texts)
