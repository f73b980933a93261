"""Write the web page of `inspect`: one HTML file that contains all data and works offline."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.cli.inspect.subject import Subject, head_name, label
from knock.cli.ui.heat import STEPS
from knock.cli.ui.terminal import END_SIGN

_TEMPLATE = Path(__file__).with_name("page.html")
_PLACEHOLDER = "@DATA@"  # position of the data in the template
_LOOKED_AT = 8  # at each character, how many of the most attended characters are shown
_MIN_SHARE = 0.01  # of the attention; characters with less are not shown


def page(subject: Subject) -> bytes:
    """Return the page in UTF-8."""
    before, _, after = _TEMPLATE.read_text(encoding="utf-8").partition(_PLACEHOLDER)
    # Escape <, > and & so that no text or file name can end the script or start another; json escapes non-ASCII text.
    data = json.dumps(_data(subject), separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        data = data.replace(char, f"\\u{ord(char):04x}")
    return (before + data + after).encode()


def _data(subject: Subject) -> dict[str, Any]:
    """Return the data of the page as a JSON object, rounded to visible precision."""
    inspection, attention, gates = subject.inspection, subject.inspection.attention, subject.inspection.attention.gates
    heads = list(np.ndindex(subject.config.n_blocks, subject.config.n_heads))
    distance = subject.series[0].distance
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
        "tokens": subject.labels,
        "labels": {char: label(char) for char in subject.vocab.characters},
        "entropy": _rounded(inspection.entropy, 2),
        "surprise": _rounded(inspection.surprise, 2),
        "expected": expected.reshape(len(expected), -1).tolist(),  # alternating: token, probability in per mille
        "looks": [
            {"kind": kind, "head": name, "rows": _looks(subject, weights)}
            for kind, of_heads in kinds.items()
            for name, weights in (
                ("mean of all heads", np.nanmean(of_heads, (0, 1))),  # some blocks have no content logits
                *((head_name(b, h), of_heads[b, h]) for b, h in heads),
            )
        ],
        "axis": subject.axis,
        "distances": subject.distances,
        "isLog": subject.has_log_axis,
        "terms": [*subject.terms, *([(END_SIGN, "the end of the item")] if subject.vocab.has_boundary else [])],
        "series": [each.meaning for each in subject.series],
        "heads": subject.config.n_heads,
        "patterns": [
            {
                "head": head_name(b, h),
                "gate": None if gates is None else _rounded(gates[b, h : h + 1], 4)[0],
                "distance": None if distance is None else round(float(distance[b, h]), 2),
                "spread": _rounded(subject.series[0].patterns.spread[b, h], 4),
                "means": [_rounded(each.patterns.mean[b, h], 4) for each in subject.series],
            }
            for b, h in heads
        ],
    }


def _looks(subject: Subject, weights: npt.NDArray[np.float64]) -> list[list[int]]:
    """Return the most attended characters for each character, from weights [N, J].

    Each row alternates distance back and attention in per cent, in descending order of attention.
    """
    back, share = subject.inspection.attention.looked_at(weights, _LOOKED_AT)
    pairs = np.stack((back, np.rint(100 * np.nan_to_num(share))), -1).astype(int)
    return [row[shown].ravel().tolist() for row, shown in zip(pairs, (share >= _MIN_SHARE) & (back > 0), strict=True)]


def _rounded(values: npt.NDArray[np.float64], digits: int) -> list[float | None]:
    """Round values for JSON; NaN becomes None."""
    return [None if math.isnan(value) else value for value in np.round(values, digits).tolist()]
