"""The page that `inspect` writes: one HTML file with all numbers in it, that needs no network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.cli.inspect.subject import Subject, head_name, label
from knock.cli.ui.heat import STEPS

_TEMPLATE = Path(__file__).with_name("page.html")
_PLACE = "@DATA@"  # in the template, where the numbers go
_LOOKED_AT = 8  # characters that a head's attention is told of, at each character of the text
_LEAST = 0.01  # of its attention


def page(subject: Subject) -> bytes:
    """The page, in UTF-8."""
    before, _, after = _TEMPLATE.read_text(encoding="utf-8").partition(_PLACE)
    # Escaped so that no text or file name ends the script or begins another; all else beyond ASCII is escaped by json.
    data = json.dumps(_data(subject), separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        data = data.replace(char, f"\\u{ord(char):04x}")
    return (before + data + after).encode()


def _data(subject: Subject) -> dict[str, Any]:
    """All that the page shows, rounded to what can be seen."""
    inspection, attention, gates = subject.inspection, subject.inspection.attention, subject.inspection.attention.gates
    heads = list(np.ndindex(subject.config.n_blocks, subject.config.n_heads))
    expected = np.stack((inspection.alternatives, np.rint(1000 * inspection.probabilities)), -1).astype(int)
    kinds = {"attention": attention.weights}
    if attention.gates is not None and attention.content is not None:
        kinds["content logits alone"] = attention.content
    return {
        "name": subject.name,
        "model": subject.model,
        "source": subject.source,
        "lacks": subject.lacks,
        "steps": STEPS,
        "text": inspection.text,
        "vocab": subject.vocab.characters,
        "labels": {char: label(char) for char in subject.vocab.characters},
        "entropy": _rounded(inspection.entropy, 2),
        "surprise": _rounded(inspection.surprise, 2),
        "expected": expected.reshape(len(expected), -1).tolist(),  # token, per mille, token, ...
        "looks": [
            {"kind": kind, "head": name, "rows": _looks(subject, weights)}
            for kind, of_heads in kinds.items()
            for name, weights in (
                ("mean of all heads", of_heads.mean((0, 1))),
                *((head_name(b, h), of_heads[b, h]) for b, h in heads),
            )
        ],
        "axis": subject.axis,
        "columns": [subject.columns[0], subject.columns[-1]],
        "series": [each.meaning for each in subject.series],
        "heads": subject.config.n_heads,
        "patterns": [
            {
                "head": head_name(b, h),
                "gate": None if gates is None else round(float(gates[b, h]), 3),
                "spread": _rounded(subject.series[0].patterns.spread[b, h], 4),
                "means": [_rounded(each.patterns.mean[b, h], 4) for each in subject.series],
            }
            for b, h in heads
        ],
    }


def _looks(subject: Subject, weights: npt.NDArray[np.float64]) -> list[list[int]]:
    """For each character where attention was, most first: how far back, per cent, how far back, ...: (N, J)."""
    back, share = subject.inspection.attention.looked_at(weights, _LOOKED_AT)
    pairs = np.stack((back, np.rint(100 * share)), -1).astype(int)
    return [row[told].ravel().tolist() for row, told in zip(pairs, (share >= _LEAST) & (back > 0), strict=True)]


def _rounded(values: npt.NDArray[np.float64], digits: int) -> list[float | None]:
    """Numbers as JSON has them, None for NaN."""
    return [None if math.isnan(value) else value for value in np.round(values, digits).tolist()]
